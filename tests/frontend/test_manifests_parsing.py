from __future__ import annotations

import gc
import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt_frontend.manifests.parsing import ManifestError, Problem, parse
from blixt_lab.scale import Scale, to_json, to_yaml

SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: demo
spec:
  ports:
    - port: {port}
"""


def service(name: str, port: object = 80) -> str:
    return SERVICE.format(name=name, port=port)


def names(text: str) -> list[str]:
    return [key.name for key in parse(text.encode(), {}).objects]


def failure(text: str | bytes, *, is_json: bool = False) -> str:
    raw = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(ManifestError) as raised:
        parse(raw, {}, is_json=is_json)
    return str(raised.value)


A, B, C = service("a"), service("b"), service("c")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n# only a comment\n", []),
        ("---\n---\n", []),
        (A, ["a"]),
        (f"---\n{A}---\n{B}", ["a", "b"]),
        (f"# first\n---\n{A}--- # second\n{B}...\n---\n{C}", ["a", "b", "c"]),
        (f"{A}...\n---\n{B}", ["a", "b"]),
        (f"%YAML 1.1\n---\n{A}---\n{B}", ["a", "b"]),
        (f"\ufeff{A}", ["a"]),
        (f"{A}---\n{B}".replace("\n", "\r\n"), ["a", "b"]),
        (
            f"{A}---\n{json.dumps({'apiVersion': 'v1', 'kind': 'Node', 'metadata': {'name': 'n'}})}",
            ["a", "n"],
        ),
        ('--- {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}', ["n"]),
        ("{apiVersion: v1, kind: Node, metadata: {name: n}}", ["n"]),
        (A.replace("  name: a\n", "  name: a\n  annotations:\n    text: |\n      ---\n      x: [\n"), ["a"]),
    ],
)
def test_documents(text: str, expected: list[str]) -> None:
    assert names(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"{A}---\n{service('b', 70000)}",
            "document 2 (line 17): Service demo/b: spec.ports[0].port: 70000: expected int <= 65535",
        ),
        (
            f"# head\n---\n{service('b', 'x')}",
            "document 1 (line 10): Service demo/b: spec.ports[0].port: 'x': ",
        ),
        (f"{A}---\nkind: Service\n", "document 2 (line 10): Service: apiVersion: required"),
        (f"{A}---\njust text\n", "document 2 (line 10): expected an object, got a string"),
        (f"{A}---\n{B}  broken\n", "document 2 (line 18): "),
        (f"{A}---\na: 1\na: 2\n", "document 2 (line 11): the key 'a' is there twice"),
        (f"{A}{A}", "document 1 (line 9): the key 'apiVersion' is there twice"),
        (A.replace("  name: a\n", ""), "document 1 (line 4): Service demo: metadata.name: required"),
        (
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Node\n  metadata:\n    name: A\n",
            "document 1 (line 7): Node A: items[0].metadata.name: 'A': must be",
        ),
        (
            "apiVersion: v1\nkind: List\nitems: 7\n",
            "document 1 (line 3): items: expected an array, got a number",
        ),
    ],
)
def test_errors_say_document_line_object_and_field(text: str, message: str) -> None:
    assert failure(text).startswith(message)


def test_all_documents_at_fault_are_named_up_to_a_number() -> None:
    text = failure("---\n".join(service(f"s{number}", 0) for number in range(15)))
    assert text.count("expected int >= 1") == 10
    assert text.endswith("; and 5 more")


def test_bytes_that_are_no_text_are_located() -> None:
    assert failure(f"{A}---\n# ok\n".encode() + b"a: \xff\n") == "document 2 (line 11): byte 0xff is no UTF-8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"apiVersion": "v1",\n "kind": }', "document 1 (line 2): JSON is malformed"),
        ('{"kind": "Node", "apiVersion": "v1"}', "document 1 (line 1): Node: metadata: required"),
        (
            '{"kind": "List", "apiVersion": "v1", "items": [{"kind": "Node", "apiVersion": "v1"}]}',
            "document 1 (line 1): Node: items[0].metadata: required",
        ),
        ('{"kind": "List", "items": [7]}', "document 1 (line 1): items[0]: expected an object, got a number"),
        ('{"a":' * 100_000, "document 1 (line 1): "),
    ],
)
def test_json_is_explained_as_json(text: str, message: str) -> None:
    assert failure(text, is_json=True).startswith(message)


def test_deep_json_in_a_yaml_file_is_refused_too() -> None:
    assert "nested more than" in failure('{"a":' * 100_000)


def test_yaml_and_json_of_the_same_manifests_are_equal() -> None:
    manifests = list(Scale(services=20, nodes=4).manifests())
    from_yaml = parse(to_yaml(manifests).encode(), {}).objects
    from_json = parse(to_json(manifests).encode(), {}, is_json=True).objects
    assert from_yaml == from_json
    assert len(from_yaml) == 1 + 4 + 2 * 20


@pytest.mark.parametrize("render", [to_yaml, to_json])
def test_only_changed_documents_are_parsed_again(render: object) -> None:
    assert callable(render)
    scale = Scale(services=10)
    manifests = list(scale.manifests())
    before = parse(render(manifests).encode(), {})
    manifests[-1] = scale.slice(9, endpoints=1)
    after = parse(render(manifests).encode(), before.documents)
    same = [key for key, one in after.objects.items() if one is before.objects[key]]
    assert len(same) == len(manifests) - 1
    assert len(after.documents) == len(manifests)


def test_the_first_definition_in_a_file_counts() -> None:
    manifest = parse(f"{service('a', 1)}---\n{service('a', 2)}".encode(), {})
    (parsed,) = manifest.objects.values()
    assert parsed.spec.ports[0].port == 1  # type: ignore[union-attr]  # a Service, by its key
    assert manifest.repeated == tuple(manifest.objects)


def test_kinds_that_are_not_read_are_named() -> None:
    text = f"apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d}}\n---\n{A}"
    manifest = parse(text.encode(), {})
    assert [str(name) for name in manifest.ignored] == ["apps/v1 Deployment"]
    assert len(manifest.objects) == 1


VALID = to_yaml(Scale(services=1).manifests()).encode()
pieces = st.binary(max_size=8) | st.sampled_from(
    [b"\n---\n", b"{", b"[", b"- ", b": ", b"*a", b"&a ", b"'", b"  "]
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(VALID)), st.integers(0, 40), pieces)
def test_any_bytes_are_taken_or_refused_with_a_document_and_a_line(at: int, gap: int, piece: bytes) -> None:
    raw = VALID[:at] + piece + VALID[at + gap :]
    for mangled in (raw, b"{" + raw):
        problems: tuple[Problem, ...] = ()
        try:
            parse(mangled, {})
        except ManifestError as error:
            problems = error.problems
        lines = mangled.count(b"\n") + 1
        assert all(1 <= problem.line <= lines + 1 for problem in problems)


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("text", [A, "broken: ["])
def test_the_garbage_collector_is_left_as_it_was(enabled: bool, text: str) -> None:
    was = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with suppress(ManifestError):
            parse(text.encode(), {})
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was else gc.disable)()
