"""Where a flow to no service ends: cluster IPs, which refuse, and the rest of their ranges, which drop.

Written after a change's services: an address refuses only when the ports that it has are there.
"""

from __future__ import annotations

import errno
import logging
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from blixt_backend.model import PackedAddress, ServiceView
from blixt_backend.planes.ebpf.layout import Layout, VacancyAnswer
from blixt_backend.planes.ebpf.libbpf import BpfError
from blixt_backend.planes.ebpf.maps import BpfMap, joined
from blixt_backend.planes.servicecidrs import Range

log = logging.getLogger(__name__)

_ANSWER = {answer: answer.to_bytes(4, sys.byteorder) for answer in VacancyAnswer}


class Vacancies:
    """One family's. Not thread-safe; a change costs the addresses that it touches. Raises BpfError."""

    def __init__(self, layout: Layout, opened: BpfMap, ranges: Iterable[Range]) -> None:
        """`opened`: the map of that name. `ranges`: where all cluster IPs are from, as far as it is known."""
        self._layout = layout
        self._map = opened
        self._dropped = {
            self._key(network.network_address.packed, network.prefixlen): _ANSWER[VacancyAnswer.DROPPED]
            for network in ranges
            if network.max_prefixlen == layout.bits
        }
        self._of_path: dict[str, tuple[bytes, ...]] = {}
        #: How many services have a cluster IP: one, where nobody has made a mistake.
        self._users: Counter[bytes] = Counter()
        self.in_step = False
        self._is_full = False

    def close(self) -> None:
        self._map.close()

    def apply(self, changed: Mapping[str, ServiceView], removed: Collection[str], resync: bool) -> None:
        """As a plane's apply; with `resync`, `changed` is all there is."""
        if resync or not self.in_step:
            self._of_path, self._users = {}, Counter()
        touched = {key for path in removed for key in self._replace(path, ())}
        for path, view in changed.items():
            touched.update(self._replace(path, view.service.cluster_ips))
        if resync or not self.in_step:
            self.in_step = False
            touched.update(key for key, _ in self._map.items())
            touched.update(self._dropped)
        self._write(touched)
        self.in_step = True

    def _replace(self, path: str, addresses: Sequence[PackedAddress]) -> set[bytes]:
        """The keys that this concerns."""
        before = self._of_path.pop(path, ())
        now = tuple(self._key(a, self._layout.bits) for a in addresses if len(a) == self._layout.size)
        if now:
            self._of_path[path] = now
        if before == now:
            return set()
        self._users.subtract(before)
        self._users.update(now)
        return {*before, *now}

    def _write(self, touched: Iterable[bytes]) -> None:
        wanted, gone = {}, []
        for key in touched:
            if self._users.get(key, 0) > 0:
                wanted[key] = _ANSWER[VacancyAnswer.REFUSED]
            elif key in self._dropped:
                wanted[key] = self._dropped[key]
            else:
                self._users.pop(key, None)
                gone.append(key)
        self.in_step = False
        self._map.delete_joined(b"".join(gone))
        try:
            self._map.update_joined(*joined(wanted.items()))
            self._is_full = False
        except BpfError as error:
            if error.errno != errno.ENOSPC:
                raise
            # Services go before: these addresses just don't refuse what no service has.
            if not self._is_full:
                log.warning("map vacancies is full: not every cluster IP refuses other ports than its own")
            self._is_full = True

    def _key(self, address: bytes, length: int) -> bytes:
        return self._layout.vacancy.pack(length, address)
