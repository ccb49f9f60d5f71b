from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_frontend.manifests.yaml12 import MAX_DEPTH, YAMLSyntaxError, load_all


def load(text: str) -> Any:
    ((value, _),) = load_all(text)
    return value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, text) for text in ("on", "off", "yes", "no", "y", "n", "Yes", "ON")),
        ("12:30:45", "12:30:45"),
        ("1:20", "1:20"),
        ("2001-01-01", "2001-01-01"),
        ("2001-12-14T21:59:43Z", "2001-12-14T21:59:43Z"),
        ("10.96.0.1", "10.96.0.1"),
        ("::1", "::1"),
        ("1_000", "1_000"),
        ("0b1", "0b1"),
        ("0o", "0o"),
        ("0o17", 15),
        ("0x1F", 31),
        ("010", 10),
        ("-7", -7),
        ("+7", 7),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("-", ["-"]),
        (".", "."),
        (".nan", ".nan"),
        (".inf", ".inf"),
        ("=", "="),
        ("true", True),
        ("False", False),
        ("TRUE", True),
        ("tRue", "tRue"),
        ("null", None),
        ("~", None),
        ("", None),
        ("'80'", "80"),
        ('"true"', "true"),
        ("!!str 80", "80"),
        ("|\n  on\n", "on\n"),
        ("1" * 100, "1" * 100),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    loaded = load(f"a: {text}") if text != "-" else load("a: ['-']")
    assert loaded == {"a": value}
    assert type(loaded["a"]) is type(value)


@pytest.mark.parametrize("key", ["on", "1", "true", "null", "2001-01-01"])
def test_keys_are_strings(key: str) -> None:
    assert load(f"{key}: x") == {key: "x"}


# YAML takes neither unpaired nor paired escapes of surrogates, nor most control characters.
_PRINTABLE = st.characters(exclude_categories=("C", "Zl", "Zp"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(_PRINTABLE),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text("abc-/<"), children, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values)
def test_json_is_yaml(value: Any) -> None:
    assert load(json.dumps({"value": value}, ensure_ascii=False)) == {"value": value}


def test_anchors_and_merge_keys() -> None:
    anchors = "base: &b {a: 1, b: 2}\nmore: &m {b: 3, c: 4}\n"
    value = load(anchors + "one: {<<: *b, a: 5}\ntwo: {<<: [*m, *b]}\nlist: [*b, *b]\n")
    assert value["one"] == {"a": 5, "b": 2}
    assert value["two"] == {"a": 1, "b": 3, "c": 4}
    assert value["list"] == [{"a": 1, "b": 2}] * 2


def test_a_bomb_of_aliases_stays_small() -> None:
    """Each line refers nine times to the one before: as a tree this would be nine to the thirtieth."""
    lines = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 31)]
    value = load("\n".join(lines))
    assert value["a30"][0] is value["a30"][8] is value["a29"]


def test_lines_and_empty_documents() -> None:
    assert list(load_all("# nothing\n")) == []
    assert list(load_all("a: 1\n---\n---\n\nb: 2\n")) == [({"a": 1}, 0), (None, 2), ({"b": 2}, 4)]


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        ("a: 1\nb: [1", "did not find expected ',' or ']'", 2),
        ("a: 1\na: 2", "the key 'a' is there twice", 1),
        ("x: 1\ny: &a [*a]", "an anchor contains itself", 1),
        ("a: *nope", "undefined alias", 0),
        ("a:\n\tb: 1", "found character that cannot start any token", 1),
        ("a: b: c", "mapping values are not allowed", 0),
        ("a: 1\nb: \x07", "control characters are not allowed", 1),
        ('a: "\\ud800"', "invalid Unicode character escape", 0),
        ("[a]: 1", "a key is not a string", 0),
        ("<<: 7", "only mappings can be merged", 0),
        ("[" * 100_000, f"nested more than {MAX_DEPTH} deep", 0),
        ("".join(" " * i + "a:\n" for i in range(1000)), f"nested more than {MAX_DEPTH} deep", 0),
        ("- " * 5000, f"nested more than {MAX_DEPTH} deep", 0),
    ],
)
def test_errors_have_a_line(text: str, problem: str, line: int) -> None:
    with pytest.raises(YAMLSyntaxError, match=problem.replace("[", r"\[")) as raised:
        list(load_all(text))
    assert raised.value.line == line


@given(st.text())
def test_any_text_is_yaml_or_refused(text: str) -> None:
    with suppress(YAMLSyntaxError):
        list(load_all(text))
