"""Which port a frontend address belongs to, when several ask for it: the
first by name, as long as it asks."""

from __future__ import annotations

from collections import defaultdict

from blixt_backend.planes.ebpf.compile import PortKey


class Ownership:
    """Owners, and who else would like to be one. Keys of ports without a path
    are leftovers: they own nothing."""

    def __init__(self) -> None:
        self._owners: dict[bytes, PortKey] = {}
        self._claims: defaultdict[bytes, set[PortKey]] = defaultdict(set)
        self._vacated: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._owners)

    def __contains__(self, frontend: bytes) -> bool:
        return frontend in self._owners

    def owner(self, frontend: bytes) -> PortKey | None:
        return self._owners.get(frontend)

    def may_have(self, frontend: bytes, port: PortKey) -> bool:
        owner = self._owners.get(frontend)
        return owner is None or port <= owner or not owner.path

    def give(self, frontend: bytes, port: PortKey) -> PortKey | None:
        """Make a port the owner; returns whom it was taken from."""
        former = self._owners.get(frontend)
        self._owners[frontend] = port
        return former if former != port else None

    def vacate(self, frontend: bytes) -> None:
        del self._owners[frontend]
        if frontend in self._claims:
            self._vacated.add(frontend)

    def claim(self, frontend: bytes, port: PortKey) -> None:
        self._claims[frontend].add(port)

    def forget_claim(self, frontend: bytes, port: PortKey) -> None:
        self._claims[frontend].discard(port)
        if not self._claims[frontend]:
            del self._claims[frontend]

    def take_waiting(self) -> set[str]:
        """The services that asked for what was vacated since the last call;
        they are to be looked at again."""
        claims = [self._claims[frontend] for frontend in self._vacated if frontend in self._claims]
        self._vacated.clear()
        return {claimant.path for claimants in claims for claimant in claimants}
