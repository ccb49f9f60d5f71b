"""Where the eBPF plane pins what it has, unless told otherwise; others drain what it left there."""

from __future__ import annotations

from pathlib import Path
from typing import Final

DEFAULT_PIN_ROOT: Final = Path("/sys/fs/bpf/blixt")
