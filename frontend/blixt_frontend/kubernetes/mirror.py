"""What is known of the objects of one kind. No I/O."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

import msgspec
from msgspec import field

from blixt_frontend.decode import DecodeError, decode_json
from blixt_frontend.kubernetes.kinds import Kind
from blixt_frontend.objects import Object
from blixt_frontend.source import ObjectKey

log = logging.getLogger(__name__)


class Changed(Protocol):
    def __call__(self, key: ObjectKey, before: Object | None, after: Object | None) -> None:
        """One object differs from what it was; None: it isn't there."""


class Seen(Protocol):
    def __call__(self, key: ObjectKey, resource_version: str) -> None:
        """The server has this version of an object, whether or not anything that Blixt reads differs."""


class Metadata(msgspec.Struct, frozen=True):
    """Just enough of it to know which object, and which version of it, is talked about."""

    name: str = ""
    namespace: str = ""
    resource_version: str = field(name="resourceVersion", default="")


class _Named(msgspec.Struct, frozen=True):
    metadata: Metadata = Metadata()


class _ListMetadata(msgspec.Struct, frozen=True):
    resource_version: str = field(name="resourceVersion", default="")
    continue_: str = field(name="continue", default="")


class _List(msgspec.Struct, frozen=True):
    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, and how it differs from what is known."""

    resource_version: str
    #: The token to ask for the next page with; empty: this is the last one.
    continue_: str
    keys: tuple[ObjectKey, ...]
    differing: tuple[Object, ...]
    #: (object, what is wrong with it). Without a name, the key has none either.
    malformed: tuple[tuple[ObjectKey, str], ...]
    #: (object, its version), where somebody wants to know.
    versions: tuple[tuple[ObjectKey, str], ...] = ()


class Mirror:
    """The last good version of each object. Tells every difference, and reports what is malformed.

    An event that changes nothing that Blixt reads is no difference: most updates of a Node are its heartbeat.
    """

    def __init__(self, kind: Kind, changed: Changed, seen: Seen | None = None) -> None:
        self.kind = kind
        self._changed = changed
        self._seen = seen
        self._held: dict[ObjectKey, Object] = {}
        self._malformed: dict[ObjectKey, str] = {}

    def key(self, metadata: Metadata) -> ObjectKey:
        return ObjectKey(self.kind.name, metadata.namespace, metadata.name)

    def put(self, key: ObjectKey, after: Object) -> None:
        """An object was added or modified."""
        before = self._held.get(key)
        self._recovered((key,))
        if before != after:
            self._held[key] = after
            self._changed(key, before, after)

    def report(self, key: ObjectKey, problem: str) -> None:
        """An object was added or modified, and is malformed. Said once."""
        if self._malformed.get(key) == problem:
            return
        kept = "its last good version stays in force" if key in self._held else "it is left out"
        log.error("%s: %s; %s", describe(key), problem, kept)
        if key.name:
            self._malformed[key] = problem

    def saw(self, key: ObjectKey, resource_version: str) -> None:
        """The object, good or malformed, was of this version."""
        if self._seen is not None:
            self._seen(key, resource_version)

    def delete(self, key: ObjectKey) -> None:
        self._malformed.pop(key, None)
        before = self._held.pop(key, None)
        if before is not None:
            self._changed(key, before, None)

    def read_page(self, raw: bytes) -> Page:
        """Decodes and compares, which takes long enough to do in a thread, and takes nothing over.

        Raises DecodeError if it is no list.
        """
        try:
            listed = msgspec.json.decode(raw, type=_List)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DecodeError((), str(error)) from None
        keys: list[ObjectKey] = []
        differing: list[Object] = []
        malformed: list[tuple[ObjectKey, str]] = []
        for item in listed.items or ():
            try:
                one = decode_json(bytes(item), self.kind.type)
            except DecodeError as error:
                malformed.append((self.key(_metadata(item)), str(error)))
                continue
            key = one.key
            keys.append(key)
            if self._held.get(key) != one:
                differing.append(one)
        return Page(
            listed.metadata.resource_version,
            listed.metadata.continue_,
            tuple(keys),
            tuple(differing),
            tuple(malformed),
            self._versions(listed.items or ()),
        )

    def take_page(self, page: Page) -> None:
        for one in page.differing:
            self.put(one.key, one)
        for key, problem in page.malformed:
            self.report(key, problem)
        if self._malformed:
            self._recovered(page.keys)
        for key, version in page.versions:
            self.saw(key, version)

    def keep_only(self, listed: Collection[ObjectKey]) -> None:
        """A list is whole: all others have been deleted. A malformed object is listed as well."""
        for key in (self._held.keys() | self._malformed.keys()) - set(listed):
            self.delete(key)

    def clear(self) -> None:
        """None of them is there any more."""
        self.keep_only(())

    def _versions(self, items: Iterable[msgspec.Raw]) -> tuple[tuple[ObjectKey, str], ...]:
        if self._seen is None:
            return ()
        return tuple((self.key(found), found.resource_version) for found in map(_metadata, items))

    def _recovered(self, keys: Iterable[ObjectKey]) -> None:
        for key in keys:
            if self._malformed.pop(key, None) is not None:
                log.info("%s is good again", describe(key))


def describe(key: ObjectKey) -> str:
    if not key.name:
        return f"a {key.kind} without a name"
    return f"{key.kind} {key.namespace}/{key.name}" if key.namespace else f"{key.kind} {key.name}"


def _metadata(raw: msgspec.Raw) -> Metadata:
    try:
        return msgspec.json.decode(raw, type=_Named).metadata
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Metadata()
