"""One round of the stream: what it says in the end about each item that it names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from blixt_api import localv1_pb2 as pb
from blixt_backend import decode
from blixt_backend.endpoints import Endpoints, Packed
from blixt_backend.kinds import Kinds
from blixt_backend.model import Node, Service

#: (service path, endpoint key)
EndpointPath = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ItemProblem:
    """An item that can't be used, and why. Its last good version stays."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path or 'an item without a path'}: {self.reason}"


@dataclass(slots=True)
class Round:
    """What came up to a Sync, in no order: of several words about one item the last one counts.

    `kinds` knows the stream's dialect, and remembers more than one round.

    None: the item is deleted. With `reset` this is a full set: what it doesn't name is gone, other than the
    `unreadable` (service paths, endpoint paths), which stay as they were.
    """

    reset: bool = False
    revision: int = 0
    services: dict[str, Service | None] = field(default_factory=dict)
    #: By service path; packed where more is said after it, and nothing of it is deleted. See `endpoints_of`.
    endpoints: dict[str, Endpoints | dict[str, Packed | None]] = field(default_factory=dict)
    #: None: nothing was said of this node, and what was said before counts. So it does once its Node is gone.
    node: Node | None = None
    unreadable: set[str | EndpointPath] = field(default_factory=set)
    problems: list[ItemProblem] = field(default_factory=list)
    kinds: Kinds = field(default_factory=Kinds, compare=False)
    #: Whose endpoints are spoken of just now.
    _turned_to: str = field(default="", compare=False)

    def add(self, items: Iterable[pb.OpItem]) -> bool:
        """Take in a part of the round; True if its Sync was in it."""
        for item in items:
            op = item.WhichOneof("Op")
            if op == "Set":
                self._take(item.Set.Ref, item.Set.Bytes)
            elif op == "Delete":
                self._take(item.Delete, None)
            elif op == "Reset":
                self._restart()
            elif op == "Sync":
                return True
        return False

    def endpoints_of(self, service: str) -> Mapping[str, Packed | None]:
        """What is said of a service's endpoints, by key."""
        said = self.endpoints.get(service, {})
        return dict(said.entries()) if isinstance(said, Endpoints) else said

    def forget_items(self) -> None:
        """What was said of items: a full set's are as large as the state that they become."""
        self._turned_to = ""
        for said in (self.services, self.endpoints, self.unreadable):
            said.clear()

    def _restart(self) -> None:
        self.reset = True
        self.forget_items()

    def _take(self, ref: pb.Ref, encoded: bytes | None) -> None:
        # Sets with other numbers are of no concern to a node.
        try:
            if ref.Set == pb.EndpointsSet:
                self._take_endpoint(ref.Path, encoded)
            elif ref.Set == pb.ServicesSet:
                self._take_service(decode.service_path(ref.Path), encoded)
            elif ref.Set == pb.NodesSet and encoded is not None:
                self.node = decode.node(encoded)
        except decode.DecodeError as error:
            self.problems.append(ItemProblem(ref.Path, str(error)))

    def _take_service(self, path: str, encoded: bytes | None) -> None:
        try:
            self.services[path] = None if encoded is None else decode.service(path, encoded)
        except decode.DecodeError:
            self.unreadable.add(path)
            raise

    def _take_endpoint(self, path: str, encoded: bytes | None) -> None:
        service, _, key = path.rpartition("/")
        said = self.endpoints.get(service) if key and service == self._turned_to else None
        if not isinstance(said, dict):
            service, key = decode.endpoint_path(path)
            said = self._turn_to(service)
        try:
            said[key] = None if encoded is None else self.kinds.endpoint(encoded)
        except decode.DecodeError:
            self.unreadable.add((service, key))
            raise

    def _turn_to(self, service: str) -> dict[str, Packed | None]:
        """Items come service by service, as a rule: those of the last one need less room from now on."""
        before = self.endpoints.get(self._turned_to)
        if isinstance(before, dict):
            entries = [(key, packed) for key, packed in before.items() if packed is not None]
            if len(entries) == len(before):
                self.endpoints[self._turned_to] = Endpoints(entries)
        self._turned_to = service
        said = self.endpoints[service] = dict(self.endpoints_of(service))
        return said
