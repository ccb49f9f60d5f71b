"""Which manifest files there are, and whether they changed, by what the file system says of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SUFFIXES = (".yaml", ".yml", ".json")


class Signature(NamedTuple):
    """Differs if a file was written, renamed over, or its symbolic link points elsewhere."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


#: By path relative to the root ("." is the root itself, if it is a file).
Scan = dict[str, Signature]


def signature(status: os.stat_result) -> Signature:
    return Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def scan(root: Path) -> Scan:
    """The manifest files below `root`, or `root` itself if it is a file, whatever its name.

    Hidden files and folders are left out; symbolic links are followed, so that a mounted ConfigMap (whose
    files are links through `..data`) works. Raises OSError where `root` is missing or a folder can't be
    listed: a file that can't be seen must not be taken for one that was deleted.
    """
    status = root.stat()
    if not stat.S_ISDIR(status.st_mode):
        return {".": signature(status)}
    return dict(_folder(root, "", {(status.st_dev, status.st_ino)}))


def _folder(folder: Path, prefix: str, above: set[tuple[int, int]]) -> Iterator[tuple[str, Signature]]:
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in visible:
        try:
            status = entry.stat()
        except FileNotFoundError:
            continue  # gone since it was listed, or a dangling link
        identity = (status.st_dev, status.st_ino)
        if stat.S_ISDIR(status.st_mode):
            if identity not in above:  # else a link back to a folder that this one is in
                try:
                    yield from _folder(folder / entry.name, f"{prefix}{entry.name}/", above | {identity})
                except FileNotFoundError:
                    continue
        elif stat.S_ISREG(status.st_mode) and entry.name.endswith(SUFFIXES):
            yield f"{prefix}{entry.name}", signature(status)
