"""The state of a file or folder of manifests: what it holds, what is wrong with it, what changed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from blixt_frontend.decode import TypeName
from blixt_frontend.manifests.merging import Changes, MergedFiles, Objects
from blixt_frontend.manifests.parsing import EMPTY, Manifest, ManifestError, parse
from blixt_frontend.manifests.scanning import Scan, Signature, scan, signature
from blixt_frontend.objects import Object, ObjectKey

log = logging.getLogger(__name__)


class ManifestFolder:
    """Blocking, and without a clock: `look`, find what is `pending`, `load` it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._merged = MergedFiles()
        self._loaded: dict[str, Signature] = {}
        self._good: dict[str, Manifest] = {}
        self._problems: dict[str, str] = {}
        self._named: set[TypeName] = set()
        self._blind = ""

    @property
    def problems(self) -> Mapping[str, str]:
        """What is wrong now, by file. The last good version of each of these stays in force."""
        return dict(self._problems)

    def objects(self) -> dict[ObjectKey, Object]:
        """All that is in force."""
        return self._merged.objects()

    def look(self) -> Scan | None:
        """The files as they are now, or None (said once) while they can't be seen: then nothing changes."""
        try:
            seen = scan(self.root)
        except OSError as error:
            if self._blind != str(error):
                self._blind = str(error)
                kept = "what it held stays in force" if self._loaded else "waiting for it to appear"
                log.error("%s: %s; %s", error.filename or self.root, error.strerror, kept)
            return None
        if self._blind:
            self._blind = ""
            log.info("%s can be read", self.root)
        return seen

    def pending(self, seen: Scan) -> set[str]:
        """Files that differ from what was loaded."""
        changed = {name for name, now in seen.items() if self._loaded.get(name) != now}
        return changed | (self._loaded.keys() - seen.keys())

    def load(self, seen: Scan, names: Iterable[str]) -> Changes:
        """Takes over the named files as they were seen. What was written meanwhile stays pending."""
        updates: dict[str, Objects] = {}
        for name in sorted(names):
            manifest = self._load_one(name, seen[name]) if name in seen else self._forget(name)
            if manifest is not None:
                updates[name] = manifest.objects
        changes = self._merged.replace(updates)
        for key, files in sorted(changes.contested.items()):
            paths = [str(self._path(file)) for file in files]
            log.warning("%s is in %s; %s counts", _name(key), " and ".join(paths), paths[0])
        return changes

    def _path(self, name: str) -> Path:
        return self.root / name

    def _forget(self, name: str) -> Manifest:
        self._loaded.pop(name, None)
        self._good.pop(name, None)
        self._problems.pop(name, None)
        return EMPTY

    def _load_one(self, name: str, seen: Signature) -> Manifest | None:
        """A file's new content, or None if what there was stays in force."""
        before = self._good.get(name, EMPTY)
        try:
            with self._path(name).open("rb") as file:
                raw = file.read()
                if signature(os.fstat(file.fileno())) != seen:
                    return None  # written or replaced since: the next look finds it
            manifest = parse(
                raw, before.documents, is_json=name.endswith(".json") or self._is_json_root(name)
            )
        except FileNotFoundError:
            return None
        except (OSError, ManifestError) as error:
            self._loaded[name] = seen
            self._report(name, error.strerror or str(error) if isinstance(error, OSError) else str(error))
            return None
        self._loaded[name] = seen
        self._good[name] = manifest
        if self._problems.pop(name, None) is not None:
            log.info("%s is good again", self._path(name))
        self._remark(name, manifest, before)
        return manifest

    def _is_json_root(self, name: str) -> bool:
        return name == "." and self.root.suffix == ".json"

    def _report(self, name: str, problem: str) -> None:
        self._problems[name] = problem
        kept = "its last good version stays in force" if name in self._good else "nothing of it is in force"
        log.error("%s: %s; %s", self._path(name), problem, kept)

    def _remark(self, name: str, manifest: Manifest, before: Manifest) -> None:
        for key in sorted(set(manifest.repeated) - set(before.repeated)):
            log.warning("%s is twice in %s; the first counts", _name(key), self._path(name))
        for one in sorted(manifest.ignored - self._named):
            # Whoever keeps whole applications in a folder needn't hear of each Deployment.
            level = logging.WARNING if one.is_close else logging.DEBUG
            log.log(level, "%s: %s is not read by Blixt", self._path(name), one)
        self._named |= manifest.ignored


def _name(key: ObjectKey) -> str:
    return f"{key.kind} {key.namespace}/{key.name}" if key.namespace else f"{key.kind} {key.name}"
