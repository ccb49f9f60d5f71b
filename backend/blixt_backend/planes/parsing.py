"""Options' values that are read by functions which know nothing of command lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import click

_Value = TypeVar("_Value")


def parsed(option: str, parse: Callable[[Sequence[str]], _Value], texts: Sequence[str]) -> _Value:
    """What `parse` makes of them. Raises click.BadParameter with the ValueError's words."""
    try:
        return parse(texts)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None
