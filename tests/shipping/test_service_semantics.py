"""docs/service-semantics.md says which tests show what: they exist, and each goes through both families."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/service-semantics.md"
_TEST = re.compile(r"  - `(tests/[\w/]+\.py)::([\w:]+)`")
_RULE = re.compile(r"- \*\*")
#: What goes through all kinds of traffic, or both addresses of a host or a service.
_BOTH = {
    "KINDS",
    "outcomes",
    "outcomes_at",
    "sights",
    "sights_at",
    "statuses",
    "becomes",
    "inside",
    "outside",
}
_BOTH |= {"address4", "address6"}
_FAMILY = re.compile(r"(?<![0-9])(?:ipv)?([46])(?![0-9])", re.IGNORECASE)


def rules() -> dict[str, list[tuple[str, str]]]:
    """By its line, each rule's tests as (file, name)."""
    found: dict[str, list[tuple[str, str]]] = {}
    rule = ""
    for line in PAGE.read_text().splitlines():
        if _RULE.match(line):
            rule = line
            found[rule] = []
        elif match := _TEST.fullmatch(line):
            found[rule].append((match[1], match[2]))
        else:
            assert not line.startswith("  -"), f"not the name of a test: {line}"
    return found


def named() -> list[tuple[str, str]]:
    return sorted({test for tests in rules().values() for test in tests})


@cache
def collected() -> dict[tuple[str, str], list[str]]:
    """What pytest finds in those files: by (file, name), the ids of the parameters."""
    files = sorted({file for file, _ in named()})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    found: dict[tuple[str, str], list[str]] = {}
    for line in done.stdout.splitlines():
        file, separator, rest = line.partition("::")
        if separator:
            name, _, parameters = rest.partition("[")
            found.setdefault((file, name), []).append(parameters.removesuffix("]"))
    return found


def words(file: str, name: str) -> Iterator[str]:
    """All names that a test uses, and those of the functions of its file that it calls."""
    tree = ast.parse((ROOT / file).read_text())
    functions = {
        node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    wanted, seen = [name.rpartition("::")[2]], set[str]()
    while wanted:
        function = wanted.pop()
        if function in functions and function not in seen:
            seen.add(function)
            for node in ast.walk(functions[function]):
                word = getattr(node, "id", None) or getattr(node, "attr", None)
                if isinstance(word, str):
                    yield word
                    wanted.append(word)


def test_each_rule_has_a_test_or_says_that_it_is_not_done() -> None:
    without = [rule for rule, tests in rules().items() if bool(tests) == ("Not done yet" in rule)]
    assert len(rules()) > 25
    assert without == []


@pytest.mark.parametrize(("file", "name"), named())
def test_what_is_named_exists_and_knows_both_families(file: str, name: str) -> None:
    assert (file, name) in collected(), "no such test"
    families = {family for ids in collected()[file, name] for family in _FAMILY.findall(ids)}
    assert families == {"4", "6"} or _BOTH & set(words(file, name))
