"""Log lines on stderr, one an event."""

import logging

LEVELS = ("debug", "info", "warning", "error")


def configure(level: str) -> None:
    """Log this program's lines from `level` on, other libraries' from warning on."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("blixt_frontend").setLevel(level.upper())
