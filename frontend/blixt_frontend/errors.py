"""Failures that end the frontend."""


class FrontendError(Exception):
    """The frontend can't go on. Its text is the one line that a user sees: what, where, what to do."""
