"""Choices as numbers, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_backend.planes.nftables.choice import DROP, MOST_SECONDS, MOST_SLOTS, REFUSE, Choice
from blixt_backend.planes.nftables.priority import number
from blixt_backend.planes.nftables.slots import FIRST_SLOT

choices = st.builds(Choice, st.integers(0, MOST_SLOTS), st.integers(0, MOST_SECONDS), st.booleans())


@given(choices)
def test_a_choice_comes_back_from_its_code(choice: Choice) -> None:
    assert Choice.of(choice.code) == choice


@given(choices)
def test_no_code_is_taken_for_a_slot_or_an_endpoint(choice: Choice) -> None:
    assert number(choice.code) < FIRST_SLOT


@given(choices, choices)
def test_choices_that_differ_have_chains_and_codes_that_differ(one: Choice, other: Choice) -> None:
    assert (one == other) == (one.code == other.code) == (one.name == other.name)


@pytest.mark.parametrize(
    ("choice", "code", "name"),
    [
        (DROP, "none", "0-drop"),
        (REFUSE, "0:1", "0"),
        (Choice(3), "0:7", "3"),
        (Choice(3, drops=True), "0:6", "3-drop"),
        (Choice(3, 10800), "1518:7", "3-10800s"),
    ],
)
def test_codes_and_names(choice: Choice, code: str, name: str) -> None:
    assert (choice.code, choice.name) == (code, name)


def test_what_is_no_code_is_refused() -> None:
    with pytest.raises(ValueError):
        Choice.of("root")
