"""Where the eBPF plane pins what it has, unless told otherwise; others drain what it left there."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

DEFAULT_PIN_ROOT: Final = Path("/sys/fs/bpf/blixt")


def others_pin_root() -> click.Option:
    """Of planes that pin nothing themselves."""
    return click.Option(
        ["--pin-root"],
        type=click.Path(file_okay=False, path_type=Path),
        default=DEFAULT_PIN_ROOT,
        show_default=True,
        help="Where plane ebpf, if it was here before, has pinned what is to be drained.",
    )
