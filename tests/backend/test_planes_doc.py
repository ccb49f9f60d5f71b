"""docs/planes.md leads through docs/example-plane: what it quotes is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "planes.md").read_text()
QUOTED = {"python": "example_plane.py", "toml": "pyproject.toml"}


@pytest.mark.parametrize("language", QUOTED)
def test_quotations_are_what_the_file_has(language: str) -> None:
    text = (DOCS / "example-plane" / QUOTED[language]).read_text()
    quotations = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert quotations
    for quotation in quotations:
        assert unspaced(quotation) in unspaced(text), quotation


def unspaced(text: str) -> str:
    """The page's are set further left than the file's."""
    return "".join(text.split())
