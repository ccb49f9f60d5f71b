"""Gateways and Services in, and which addresses each of them has: what translation and status read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from blixt_frontend.addresses.allocation import Allocator
from blixt_frontend.addresses.pools import Pools
from blixt_frontend.addresses.requests import of_gateway, of_service
from blixt_frontend.objects import Gateway, LoadBalancerIngress, Service
from blixt_frontend.source import ObjectKey
from blixt_frontend.translation.addresses import Assignment


@dataclass(frozen=True, slots=True)
class LoadBalancerWrite:
    """What a Service's status.loadBalancer should say, and doesn't."""

    service: ObjectKey
    uid: str
    #: As it was when it was last seen.
    seen: tuple[LoadBalancerIngress, ...]
    addresses: tuple[str, ...]


class AddressBook:
    """For one thread at a time, but for `leading`, which may be set from any; it counts from the next
    `settle` on. Without pools it has no opinion on anything."""

    def __init__(self, pools: Pools, leading: bool = True) -> None:
        self.leading = leading
        self._pools = pools
        self._allocator = Allocator(pools, leading)
        self._services: dict[ObjectKey, Service] = {}  # those whose addresses are ours to give
        self._unwritten: dict[ObjectKey, LoadBalancerWrite] = {}

    @property
    def has_pools(self) -> bool:
        return bool(self._pools)

    @property
    def assignments(self) -> Mapping[ObjectKey, Assignment]:
        """By object; one that isn't there is given its addresses by others. A live, read-only view."""
        return self._allocator.assignments

    @property
    def unwritten(self) -> Mapping[ObjectKey, LoadBalancerWrite]:
        """The Services whose status lags behind: a live, read-only view."""
        return MappingProxyType(self._unwritten)

    def settle(self, objects: Iterable[tuple[ObjectKey, Gateway | Service | None]]) -> set[ObjectKey]:
        """Take these objects as they are now, None for those that aren't there or aren't ours.

        Tells whose assignment has changed, which may be others than these. Before the first call, everything
        must have been listed: else what is listed first would be given what others hold already.
        """
        if not self._pools:
            return set()
        changed = self._allocator.lead(self.leading)
        requests = {}
        for key, obj in objects:
            request = None
            if isinstance(obj, Gateway):
                request = of_gateway(obj, self._pools)
            elif isinstance(obj, Service):
                request = of_service(obj, self._pools)
                if request is not None:
                    self._services[key] = obj
            if request is None:
                self._services.pop(key, None)
            requests[key] = request
        changed |= self._allocator.settle(requests)
        for key in changed.union(requests):
            self._compare(key)
        return changed

    def _compare(self, key: ObjectKey) -> None:
        service = self._services.get(key)
        if service is None:
            self._unwritten.pop(key, None)
            return
        addresses = self.assignments[key].addresses
        seen = service.ingress
        if seen == tuple(LoadBalancerIngress(ip=address) for address in addresses):
            self._unwritten.pop(key, None)
        else:
            self._unwritten[key] = LoadBalancerWrite(key, service.metadata.uid, seen, addresses)
