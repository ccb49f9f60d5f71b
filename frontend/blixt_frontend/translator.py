"""Batches of objects in, the items of the units that they touched out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import cast

import msgspec

from blixt_frontend.addresses import AddressBook, Pools
from blixt_frontend.items import Item
from blixt_frontend.objects import Gateway, Object, Service
from blixt_frontend.source import Batch, KubernetesObject, ObjectKey
from blixt_frontend.translation import gateways, services
from blixt_frontend.translation.cluster import NamespacedName, Translation
from blixt_frontend.translation.gateway_items import translate_gateway
from blixt_frontend.translation.index import Index, Unit
from blixt_frontend.translation.nodes import translate_node
from blixt_frontend.translation.options import Options
from blixt_frontend.translation.results import GatewayResult
from blixt_frontend.translation.services import translate_service
from blixt_frontend.translation.wire import timed

log = logging.getLogger(__name__)

#: Problems of one unit that are logged at a time.
_SHOWN = 8


class _Settled(msgspec.Struct, frozen=True, gc=False):
    """An item that was given out: what it said, and the TriggerTime that it bears.

    The store has the items; to hold them here as well would take half as much memory again.
    """

    digest: int
    trigger_time: int


@dataclass(frozen=True, slots=True)
class _Record:
    """What is remembered of a unit."""

    settled: Mapping[str, _Settled] = field(default_factory=dict)
    newest_trigger_time: int = 0
    problems: tuple[str, ...] = ()
    zones_asked: frozenset[str] = frozenset()


_NOTHING = _Record()


class Translator:
    """Keeps the objects, and translates what changes. For one thread at a time; never raises for bad objects.

    A unit that can't be translated is logged, and what it had stays. Problems within one, such as an address
    that is none, cost only what they are about, and are logged when they change.
    """

    def __init__(self, options: Options | None = None, addresses: AddressBook | None = None) -> None:
        self._options = options or Options()
        self._addresses = addresses or AddressBook(Pools())
        self._index = Index(self._addresses.assignments)
        self._records: dict[Unit, _Record] = {}
        self._results: dict[NamespacedName, GatewayResult] = {}
        self._complete = False
        self._waiting: dict[Unit, None] = {}  # touched before everything was listed, in order

    @property
    def zones(self) -> Mapping[str, str]:
        """The zone of every node that has one: a live, read-only view."""
        return MappingProxyType(self._index.cluster.zones)

    @property
    def gateways(self) -> Mapping[NamespacedName, GatewayResult]:
        """What became of each Gateway of ours: a live, read-only view, from which status can be written."""
        return MappingProxyType(self._results)

    def apply(self, batch: Batch) -> Mapping[str, tuple[Item, ...]]:
        """All items of every unit that has changed, by "Service namespace/name" (Gateway ..., "Node /name").

        Without items, the unit is gone. Nothing comes out before a batch says that everything was listed
        once: a Service must not look as if it had no endpoints because their slices are still to come.

        TriggerTime is that of the unit's newest slice, where that is newer than at the unit's last
        translation; else the change wasn't one of endpoints, and it is unset. A slice of which only that time
        changed changes no item.
        """
        for unit in chain(
            self._index.read_state(batch.unread) if batch.unread is not None else (),
            chain.from_iterable(map(self._remove, batch.deletions)),
            chain.from_iterable(map(self._put, batch.upserts)),
        ):
            self._waiting[unit] = None
        self._complete = self._complete or batch.complete
        if not self._complete:
            return {}
        touched, self._waiting = self._waiting, {}
        for key in self._addresses.settle((unit.key, self._served(unit)) for unit in touched):
            touched[Unit.of(key)] = None
        changed = {}
        for unit in touched:
            items = self._retranslate(unit)
            if items is not None:
                changed[str(unit)] = items
        return changed

    def _put(self, obj: KubernetesObject) -> list[Unit]:
        try:
            return list(self._index.put(cast(Object, obj)))
        except Exception:
            log.exception("%s can't be taken in and is left out", obj.key)
            return []

    def _remove(self, key: ObjectKey) -> list[Unit]:
        return list(self._index.remove(key))

    def _served(self, unit: Unit) -> Gateway | Service | None:
        """The unit's object, if it is there and ours, and may be served."""
        cluster = self._index.cluster
        if unit.kind == "Service":
            service = cluster.services.get(unit.name)
            return service if service is not None and services.is_ours(service, self._options) else None
        if unit.kind == "Node":
            return None
        gateway = cluster.gateways.get(unit.name)
        if gateway is None or not gateways.is_ours(gateway, cluster, self._options):
            return None
        return None if gateways.undecided(gateway, cluster) else gateway

    def _retranslate(self, unit: Unit) -> tuple[Item, ...] | None:
        """All items of the unit if any has changed, else None."""
        try:
            translation = self._translate(unit)
        except Exception:
            log.exception("%s can't be translated; what it had stays", unit)
            return None
        old = self._records.get(unit, _NOTHING)
        items = {item.path: item for item in translation.items}
        new = _Record(
            _settle(old, items, translation.trigger_time),
            max(old.newest_trigger_time, translation.trigger_time),
            translation.problems,
            translation.zones_asked,
        )
        self._remember(unit, old, new)
        if len(new.settled) == len(old.settled) and all(
            old.settled.get(path) is settled for path, settled in new.settled.items()
        ):
            return None
        return tuple(timed(item, new.settled[path].trigger_time) for path, item in items.items())

    def _translate(self, unit: Unit) -> Translation:
        if unit.kind == "Service":
            return translate_service(unit.name, self._index.cluster, self._options)
        if unit.kind == "Node":
            return translate_node(unit.name.name, self._index.cluster)
        outcome = translate_gateway(unit.name, self._index.cluster, self._options)
        if outcome.result is None:
            self._results.pop(unit.name, None)
        else:
            self._results[unit.name] = outcome.result
        return outcome.translation

    def _remember(self, unit: Unit, old: _Record, new: _Record) -> None:
        if old.problems != new.problems and new.problems:
            more = f"; and {len(new.problems) - _SHOWN} more" if len(new.problems) > _SHOWN else ""
            log.warning("%s: %s%s", unit, "; ".join(new.problems[:_SHOWN]), more)
        self._index.reads_zones(unit, old.zones_asked - new.zones_asked, new.zones_asked - old.zones_asked)
        if new.settled or new.problems:
            self._records[unit] = new
        else:
            self._records.pop(unit, None)


def _settle(old: _Record, items: Mapping[str, Item], trigger_time: int) -> dict[str, _Settled]:
    """Those that don't differ otherwise keep their TriggerTime."""
    time = trigger_time if trigger_time > old.newest_trigger_time else 0
    settled = {}
    for path, item in items.items():
        digest = _digest(item)
        before = old.settled.get(path)
        settled[path] = before if before is not None and before.digest == digest else _Settled(digest, time)
    return settled


def _digest(item: Item) -> int:
    """64 bits. That a change of one item goes unseen for it is less likely than that memory errs."""
    zones, nodes = (tuple(variants.items()) if variants else () for variants in (item.zones, item.nodes))
    return hash((item.kind, item.default, zones, nodes, item.blixt_only))
