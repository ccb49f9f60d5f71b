"""Many files' objects to one set: each object once, whatever the number of files that define it."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from dataclasses import dataclass, field

from blixt_frontend.objects import Object, ObjectKey

Objects = Mapping[ObjectKey, Object]


@dataclass(frozen=True, slots=True)
class Changes:
    """The net difference of one step. Keys are sorted, so that the same edit gives the same changes."""

    upserts: tuple[Object, ...]
    deletions: tuple[ObjectKey, ...]
    #: Objects that have come to be defined in several files, with these files; the first of them counts.
    contested: Mapping[ObjectKey, tuple[str, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.upserts or self.deletions)


class MergedFiles:
    """Which file's definition of an object is in force: the alphabetically first file's."""

    def __init__(self) -> None:
        self._files: dict[str, Objects] = {}
        self._claims: dict[ObjectKey, tuple[str, ...]] = {}

    def get(self, key: ObjectKey) -> Object | None:
        claims = self._claims.get(key)
        return self._files[claims[0]][key] if claims else None

    def objects(self) -> dict[ObjectKey, Object]:
        """All that is in force."""
        return {key: self._files[claims[0]][key] for key, claims in self._claims.items()}

    def replace(self, updates: Mapping[str, Objects]) -> Changes:
        """Puts the new content of several files in force at once; a file that is gone has no objects."""
        touched = {key for name, objects in updates.items() for key in self._differing(name, objects)}
        before = {key: self.get(key) for key in touched}
        shared = {key for key in touched if len(self._claims.get(key, ())) > 1}
        for name, objects in updates.items():
            self._replace_one(name, objects)
        upserts: list[Object] = []
        deletions: list[ObjectKey] = []
        for key in sorted(touched):
            now = self.get(key)
            if now is None:
                if before[key] is not None:
                    deletions.append(key)
            elif now != before[key]:
                upserts.append(now)
        contested = {key: self._claims[key] for key in touched - shared if len(self._claims.get(key, ())) > 1}
        return Changes(tuple(upserts), tuple(deletions), contested)

    def _differing(self, name: str, objects: Objects) -> set[ObjectKey]:
        old = self._files.get(name, {})
        changed = {key for key, value in objects.items() if old.get(key) is not value}
        return changed | (old.keys() - objects.keys())

    def _replace_one(self, name: str, objects: Objects) -> None:
        old = self._files.get(name, {})
        for key in old.keys() - objects.keys():
            rest = tuple(claim for claim in self._claims[key] if claim != name)
            if rest:
                self._claims[key] = rest
            else:
                del self._claims[key]
        alone = (name,)
        for key in objects.keys() - old.keys():
            claims = self._claims.get(key)
            if claims is None:
                self._claims[key] = alone
            else:
                ordered = list(claims)
                insort(ordered, name)
                self._claims[key] = tuple(ordered)
        if objects:
            self._files[name] = objects
        else:
            self._files.pop(name, None)
