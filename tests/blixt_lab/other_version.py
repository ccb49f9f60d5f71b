"""Another version of the backend, with other layouts: built of this one, by changing its structures."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]
NUMBER = 1000
_MAIN = "from blixt_backend.cli import main; main()"


def build(folder: Path) -> list[str]:
    """Put it in a folder; returns the command that starts it, without options.

    A connection has a field more in front of all others, an endpoint one behind: rows are of another size.
    """
    package = folder / "backend" / "blixt_backend"
    shutil.copytree(_ROOT / "backend" / "blixt_backend", package)
    shutil.copytree(_ROOT / "bpf", folder / "bpf")
    types = folder / "bpf" / "types.h"
    text = _changed(types.read_text(), r"struct connection \{\n", r"\g<0>\t__u64 colour;\n")
    text = _changed(text, r"(struct endpoint \{[^}]*)\};", r"\1\t__u32 shade;\n};")
    types.write_text(_grown(_grown(text, "connection", 8), "endpoint", 4))
    layout = package / "planes" / "ebpf" / "layout.py"
    text = _changed(layout.read_text(), r"LAYOUT_VERSION: Final = \d+", f"LAYOUT_VERSION: Final = {NUMBER}")
    text = _changed(text, r'connection=Struct\(f"=', r"\g<0>8x")
    layout.write_text(_changed(text, r'(\bendpoint=Struct\(f"[^"]*)"', r'\1 4x"'))
    _compile(folder, package / "objects")
    return program(folder)


def program(folder: Path | None = None, before: str = "") -> list[str]:
    """The command that starts the version in a folder, or this one. `before`: Python to run first."""
    path = ["env", f"PYTHONPATH={folder / 'backend'}"] if folder else []
    return [*path, sys.executable, "-c", f"{before}\n{_MAIN}"]


def _changed(text: str, pattern: str, to: str) -> str:
    text, count = re.subn(pattern, to, text)
    assert count == 1, f"{pattern} is there {count} times"
    return text


def _grown(text: str, structure: str, by: int) -> str:
    found = re.search(rf"SIZED\(struct {structure}, (\d+), (\d+)\);", text)
    assert found, structure
    sizes = ", ".join(str(int(size) + by) for size in found.groups())
    return text.replace(found.group(), f"SIZED(struct {structure}, {sizes});")


def _compile(folder: Path, objects: Path) -> None:
    """As the Makefile does."""
    shutil.rmtree(objects)
    for name in ("Makefile", "hack/setup.sh", "build/stamps/build"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch() if name.startswith("build") else shutil.copy(_ROOT / name, folder / name)
    where = objects.relative_to(folder)
    targets = [f"{where}/{name}{family}.bpf.o" for name in ("blixt", "sock", "task") for family in "46"]
    made = ["make", "--no-print-directory", "-C", str(folder), *targets]
    subprocess.run(made, check=True, capture_output=True, timeout=120)
