"""One file's bytes to objects. Documents that were parsed before, byte for byte, are not parsed again."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import xxhash
from yaml.nodes import MappingNode, Node, SequenceNode

from blixt_frontend.decode import DecodeError, TypeName, decode, flatten, type_name
from blixt_frontend.manifests.yaml12 import YAMLSyntaxError, compose_all, load_all
from blixt_frontend.objects import Object, ObjectKey
from blixt_frontend.validation import Path

# At the beginning of a line this is a document's marker wherever it stands (YAML 1.2, 9.1.2 and c-forbidden).
_MARKER = re.compile(rb"^---(?=\s|\Z)", re.MULTILINE)
_BYTE = re.compile(r"\(byte (\d+)\)")
_MAX_PROBLEMS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Document:
    """What one document (or one item of a JSON list) holds."""

    objects: tuple[tuple[ObjectKey, Object], ...]
    ignored: tuple[TypeName, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a file holds."""

    objects: Mapping[ObjectKey, Object]
    #: Defined again further down; the first definition counts.
    repeated: tuple[ObjectKey, ...]
    #: Kinds and versions that Blixt does not read.
    ignored: frozenset[TypeName]
    #: By a digest of its bytes.
    documents: Mapping[bytes, Document]


EMPTY = Manifest(objects={}, repeated=(), ignored=frozenset(), documents={})


@dataclass(frozen=True, slots=True)
class Problem:
    """`document` and `line` count from 1; `subject` is the object's kind and name, as far as it is known."""

    document: int
    line: int
    subject: str
    text: str

    def __str__(self) -> str:
        subject = f"{self.subject}: " if self.subject else ""
        return f"document {self.document} (line {self.line}): {subject}{self.text}"


class ManifestError(ValueError):
    """A file with at least one document that is at fault. Nothing of it is to be used."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        shown = [str(problem) for problem in problems[:_MAX_PROBLEMS_SHOWN]]
        if len(problems) > len(shown):
            shown.append(f"and {len(problems) - len(shown)} more")
        super().__init__("; ".join(shown))


def parse(raw: bytes, before: Mapping[bytes, Document], *, is_json: bool = False) -> Manifest:
    """A file's objects. `before`: the documents of its last good version.

    `is_json` (by the file's name) only decides which syntax an error is explained in: JSON is YAML, and
    what looks like JSON is read as such first, which takes a tenth of the time. Raises ManifestError.
    """
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    parsed = _parse_json(raw, before, is_json) if raw.lstrip()[:1] == b"{" else None
    if parsed is None:
        with _collector_paused():
            parsed = _parse_yaml(raw, before)
    documents, problems = parsed
    if problems:
        raise ManifestError(tuple(problems))
    return _manifest(documents)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """A document's node tree is large, free of cycles and soon gone. Walking it again and again, as Python's
    collector does while it grows, takes four times as long as parsing a list of 20,000 objects."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _manifest(documents: dict[bytes, Document]) -> Manifest:
    objects: dict[ObjectKey, Object] = {}
    repeated: list[ObjectKey] = []
    ignored: set[TypeName] = set()
    for document in documents.values():
        ignored.update(document.ignored)
        for key, one in document.objects:
            if objects.setdefault(key, one) is not one:
                repeated.append(key)
    return Manifest(objects, tuple(repeated), frozenset(ignored), documents)


def _parse_yaml(raw: bytes, before: Mapping[bytes, Document]) -> tuple[dict[bytes, Document], list[Problem]]:
    documents: dict[bytes, Document] = {}
    problems: list[Problem] = []
    line = 1
    for number, chunk in enumerate(_chunks(raw), _first_number(raw)):
        digest = xxhash.xxh3_128_digest(chunk)
        known = before.get(digest)
        if known is None:
            known, found = _parse_chunk(chunk, number, line)
            problems += found
        documents[digest] = known
        line += chunk.count(b"\n")
    return documents, problems


def _chunks(raw: bytes) -> Iterator[bytes]:
    """Splits before each document's marker."""
    if raw.startswith(b"%"):
        yield raw  # directives belong to the document after their marker: leave it to the parser
        return
    start = 0
    for marker in _MARKER.finditer(raw):
        if marker.start() > start:
            yield raw[start : marker.start()]
        start = marker.start()
    yield raw[start:]


def _first_number(raw: bytes) -> int:
    """0 if there are only comments before the first marker, since nobody counts these as a document."""
    marker = _MARKER.search(raw)
    head = raw[: marker.start()] if marker else b""
    only_comments = all(not line.strip() or line.lstrip().startswith(b"#") for line in head.splitlines())
    return 0 if head and only_comments else 1


def _parse_chunk(chunk: bytes, number: int, line: int) -> tuple[Document, list[Problem]]:
    """`line`: where the chunk begins in its file."""
    objects: list[tuple[ObjectKey, Object]] = []
    ignored: list[TypeName] = []
    problems: list[Problem] = []
    try:
        text = chunk.decode()
        for index, (value, _) in enumerate(load_all(text)):
            for path, subject, found in _decode_all(value, objects, ignored):
                at = line + _line_of(text, index, path)
                problems.append(Problem(number, at, subject, str(found)))
    except UnicodeDecodeError as error:
        at = line + chunk.count(b"\n", 0, error.start)
        problems.append(Problem(number, at, "", f"byte {error.object[error.start]:#04x} is no UTF-8"))
    except YAMLSyntaxError as error:
        problems.append(Problem(number, line + error.line, "", str(error)))
    return Document(tuple(objects), tuple(ignored)), problems


def _decode_all(
    value: Any, objects: list[tuple[ObjectKey, Object]], ignored: list[TypeName]
) -> Iterator[tuple[Path, str, DecodeError]]:
    """Appends what a document holds to `objects` and `ignored`; yields what is wrong with it."""
    try:
        for path, item in flatten(value):
            try:
                decoded = decode(item)
            except DecodeError as error:
                yield (*path, *error.path), _subject(item), DecodeError((*path, *error.path), error.problem)
                continue
            if decoded is None:
                ignored.append(type_name(item))
            else:
                objects.append((decoded.key, decoded))
    except DecodeError as error:
        yield error.path, "", error


def _subject(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    metadata = value.get("metadata")
    names = (metadata.get("namespace"), metadata.get("name")) if isinstance(metadata, dict) else ()
    name = "/".join(name for name in names if isinstance(name, str) and name)
    kind = value.get("kind")
    return " ".join(filter(None, (kind if isinstance(kind, str) else "", name)))


def _line_of(text: str, index: int, path: Path) -> int:
    """The line (from 0) of the field in the text's document number `index`, or of what should hold it."""
    *_, node = (node for _, node in zip(range(index + 1), compose_all(text), strict=False))
    for step in path:
        child = _child(node, step)
        if child is None:
            break
        node = child
    line: int = node.start_mark.line
    return line


def _child(node: Node, step: str | int) -> Node | None:
    if isinstance(node, MappingNode):
        return next((value for key, value in node.value if key.value == step), None)
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        child: Node = node.value[step]
        return child
    return None


class _Envelope(msgspec.Struct):
    kind: str = ""
    items: list[msgspec.Raw] | None = None


def _parse_json(
    raw: bytes, before: Mapping[bytes, Document], is_json: bool
) -> tuple[dict[bytes, Document], list[Problem]] | None:
    """None if it is no JSON after all, and needn't be."""
    try:
        envelope = msgspec.json.decode(raw, type=_Envelope)
        is_list = envelope.kind == "List" and envelope.items is not None
        values = envelope.items or [] if is_list else [msgspec.Raw(raw)]
        return _parse_values(values, before, is_list)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if not is_json:
            return None
        byte = _BYTE.search(str(error))
        line = raw.count(b"\n", 0, int(byte[1])) + 1 if byte else 1
        return {}, [Problem(1, line, "", str(error))]


def _parse_values(
    values: list[msgspec.Raw], before: Mapping[bytes, Document], is_list: bool
) -> tuple[dict[bytes, Document], list[Problem]]:
    documents: dict[bytes, Document] = {}
    problems: list[Problem] = []
    for index, value in enumerate(values):
        digest = xxhash.xxh3_128_digest(value)
        known = before.get(digest)
        if known is None:
            objects: list[tuple[ObjectKey, Object]] = []
            ignored: list[TypeName] = []
            for path, subject, found in _decode_all(msgspec.json.decode(value), objects, ignored):
                full = DecodeError(("items", index, *path), found.problem) if is_list else found
                problems.append(Problem(1, 1, subject, str(full)))
            known = Document(tuple(objects), tuple(ignored))
        documents[digest] = known
    return documents, problems
