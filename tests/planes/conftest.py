"""Each plane here is checked against the public contract; the run ends with a line for each."""

from blixt_backend.testing.summary import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]
