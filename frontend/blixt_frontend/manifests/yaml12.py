"""YAML as Kubernetes means it: a way to write JSON.

libyaml scans and composes; plain scalars are resolved by YAML 1.2's core schema instead of PyYAML's 1.1,
which makes `on` a bool, `12:30:45` a number and `2001-01-01` a date. Keys are always strings, as in JSON.
Merge keys (`<<`) and anchors work as with kubectl.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

#: Deeper than any object of Kubernetes, far from the end of the stack.
MAX_DEPTH = 200

_STR = "tag:yaml.org,2002:str"
#: A plain scalar that begins otherwise is a string (and `.inf` and `.nan`, which JSON doesn't have, are too).
_MAY_BE_TYPED = frozenset("-+.0123456789tTfFnN~")
_CONSTANTS = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_INT = re.compile(r"[-+]?[0-9]+\Z")
_BASED_INT = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_UNFINISHED = object()


class YAMLSyntaxError(ValueError):
    """The text is no YAML. `line` counts from 0."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.line = line


def load_all(text: str) -> Iterator[tuple[Any, int]]:
    """Each document's value and the line (from 0) where it begins. Raises YAMLSyntaxError."""
    for node in compose_all(text):
        yield _Constructor().value(node), node.start_mark.line


def compose_all(text: str) -> Iterator[Node]:
    """Each document's node tree, for those who need lines. Raises YAMLSyntaxError."""
    try:
        parser = _Composer(text)
        while parser.check_node():
            node = parser.get_node()
            if node is not None:
                yield node
    except yaml.MarkedYAMLError as error:
        raise _located(error) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) if isinstance(error.position, int) else 0
        raise YAMLSyntaxError(error.reason, line) from error


def resolve(text: str) -> Any:
    """The value of a plain scalar in the core schema."""
    if text and text[0] not in _MAY_BE_TYPED:
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.match(text):
        return int(text) if len(text) < 64 else text
    if _BASED_INT.match(text):
        return int(text, 0)
    if _FLOAT.match(text):
        return float(text)
    return text


class _Composer(yaml.CSafeLoader):
    """libyaml without PyYAML's resolver: a node has a tag only where one is written."""

    _depth = 0

    def resolve(self, *_: object) -> None:
        return None

    # Called around every node. PyYAML's composer recurses in C and would overflow the process' stack.
    def descend_resolver(self, *_: object) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} deep")

    def ascend_resolver(self) -> None:
        self._depth -= 1


class _Constructor:
    """One document's nodes to values. A node that several aliases name is one value."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}

    def value(self, node: Node) -> Any:
        if type(node) is ScalarNode:
            return _scalar(node)
        made = self._made.get(id(node))
        if made is None:
            self._made[id(node)] = _UNFINISHED
            made = self._mapping(node) if type(node) is MappingNode else [self.value(n) for n in node.value]
            self._made[id(node)] = made
        elif made is _UNFINISHED:
            _fail("an anchor contains itself", node)
        return made

    def _mapping(self, node: Node) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        merged: list[Node] = []
        for key, child in node.value:
            if type(key) is not ScalarNode:
                _fail("a key is not a string", key)
            name = key.value
            if name == "<<" and not key.style:
                merged.append(child)
            elif name in mapping:
                _fail(f"the key {name!r} is there twice", key)
            else:
                mapping[name] = self.value(child) if type(child) is not ScalarNode else _scalar(child)
        for child in merged:
            self._merge(mapping, child)
        return mapping

    def _merge(self, mapping: dict[str, Any], node: Node) -> None:
        """What a mapping says itself goes before what it merges, the first merged before the next."""
        for source in node.value if type(node) is SequenceNode else (node,):
            if type(source) is not MappingNode:
                _fail("only mappings can be merged", source)
            for name, value in self.value(source).items():
                mapping.setdefault(name, value)


def _located(error: yaml.MarkedYAMLError) -> YAMLSyntaxError:
    """A key without a colon is noticed only on a later line than it is on."""
    begun = "simple key" in (error.context or "")
    mark = (begun and error.context_mark) or error.problem_mark
    problem = " ".join(filter(None, (error.context, error.problem)))
    return YAMLSyntaxError(problem, mark.line if mark else 0)


def _scalar(node: ScalarNode) -> Any:
    if node.style or node.tag == _STR:
        return node.value
    return resolve(node.value)


def _fail(problem: str, node: Node) -> NoReturn:
    raise YAMLSyntaxError(problem, node.start_mark.line)
