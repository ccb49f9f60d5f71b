"""A status as it is, and what ours should say, to the status as it should be. Pure functions over JSON.

Only conditions of our types, and only parents of our controller, are touched. What differs in nothing else
than the time of its transition is equal. None comes out where nothing is to be written: nothing differs, or
the status is of a later generation of the object than what we know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from blixt_frontend.objects.gateway import GATEWAY_GROUP
from blixt_frontend.objects.routes import ParentRef
from blixt_frontend.status.wanted import (
    ClassWanted,
    GatewayWanted,
    ListenerWanted,
    ParentWanted,
    RouteWanted,
    Wanted,
)
from blixt_frontend.translation.results import Condition

Json = dict[str, Any]

#: The types of conditions that are ours to set, and to take away. The others are somebody else's.
CLASS_TYPES = frozenset({"Accepted", "SupportedVersion"})
GATEWAY_TYPES = frozenset({"Accepted", "Programmed"})
LISTENER_TYPES = frozenset({"Accepted", "Programmed", "ResolvedRefs", "Conflicted", "OverlappingTLSConfig"})
PARENT_TYPES = frozenset({"Accepted", "ResolvedRefs", "PartiallyInvalid"})

#: metav1.Condition's limit.
_LONGEST_MESSAGE = 32_768


def merged(namespace: str, current: Json, wanted: Wanted, now: str) -> Json | None:
    """The parts of the status that change, whole, by their name; None: nothing is to be written.

    `namespace` is the object's, `now` an RFC 3339 time.
    """
    match wanted:
        case GatewayWanted():
            parts = _gateway(current, wanted, now)
        case RouteWanted():
            parts = _route(namespace, current, wanted, now)
        case ClassWanted():
            parts = _class(current, wanted, now)
    changed = {name: part for name, part in parts.items() if part != (current.get(name) or [])}
    return changed or None


def _class(current: Json, wanted: ClassWanted, now: str) -> Json:
    conditions = _dicts(current.get("conditions"))
    if _is_later(conditions, CLASS_TYPES, wanted.generation):
        return {}
    parts: Json = {
        "conditions": merge_conditions(conditions, wanted.conditions, CLASS_TYPES, wanted.generation, now)
    }
    if wanted.features is not None:
        parts["supportedFeatures"] = [{"name": name} for name in wanted.features]
    return parts


def _gateway(current: Json, wanted: GatewayWanted, now: str) -> Json:
    conditions = _dicts(current.get("conditions"))
    if _is_later(conditions, GATEWAY_TYPES, wanted.generation):
        return {}
    stored = {listener.get("name"): listener for listener in _dicts(current.get("listeners"))}
    addresses = [{"type": "IPAddress", "value": value} for value in wanted.addresses]
    same_place = _dicts(current.get("addresses")) == addresses

    def settle(
        wanted_conditions: Sequence[Condition], waiting: Condition | None, before: Sequence[Json]
    ) -> list[Condition]:
        """What is served is told of as long as its generation and addresses are what nodes have applied."""
        held = same_place and _was_programmed(before, wanted.generation)
        return [
            waiting
            if waiting is not None and not held and condition.type == "Programmed" and condition.status
            else condition
            for condition in wanted_conditions
        ]

    # A listener has no reason of its own for a lack of nodes.
    of_listeners = wanted.waiting and replace(wanted.waiting, reason="Pending")

    def listener(one: ListenerWanted) -> Json:
        before = stored.get(one.name, {})
        conditions = _dicts(before.get("conditions"))
        return before | {
            "name": one.name,
            "supportedKinds": [{"group": kind.group, "kind": kind.kind} for kind in one.supported_kinds],
            "attachedRoutes": one.attached_routes,
            "conditions": merge_conditions(
                conditions,
                settle(one.conditions, of_listeners, conditions),
                LISTENER_TYPES,
                wanted.generation,
                now,
            ),
        }

    return {
        "conditions": merge_conditions(
            conditions,
            settle(wanted.conditions, wanted.waiting, conditions),
            GATEWAY_TYPES,
            wanted.generation,
            now,
        ),
        "addresses": addresses,
        "listeners": [listener(one) for one in wanted.listeners],
    }


def _was_programmed(conditions: Iterable[Json], generation: int) -> bool:
    return any(
        condition.get("type") == "Programmed"
        and condition.get("status") == "True"
        and condition.get("observedGeneration", 0) == generation
        for condition in conditions
    )


def _route(namespace: str, current: Json, wanted: RouteWanted, now: str) -> Json:
    parents = _dicts(current.get("parents"))
    left = {_identity(namespace, _parent_json(one.parent)): one for one in wanted.parents}
    result: list[Json] = []
    for entry in parents:
        if entry.get("controllerName") != wanted.controller:
            result.append(entry)
            continue
        reference = entry.get("parentRef") or {}
        ours = left.pop(_identity(namespace, reference), None)
        if ours is None:
            continue
        if _is_later(_dicts(entry.get("conditions")), PARENT_TYPES, ours.generation):
            return {}
        result.append(_entry(entry, ours, wanted.controller, now))
    result.extend(_entry({}, ours, wanted.controller, now) for ours in left.values())
    return {"parents": result}


def _entry(before: Json, ours: ParentWanted, controller: str, now: str) -> Json:
    conditions = _dicts(before.get("conditions"))
    return before | {
        "parentRef": _parent_json(ours.parent),
        "controllerName": controller,
        "conditions": merge_conditions(conditions, ours.conditions, PARENT_TYPES, ours.generation, now),
    }


def has_parent_of(controller: str, status: Json) -> bool:
    """Whether a route's status has an entry of the controller."""
    return any(entry.get("controllerName") == controller for entry in _dicts(status.get("parents")))


def _parent_json(parent: ParentRef) -> Json:
    """With its group and kind, also where the route left them to their defaults."""
    reference: Json = {"group": parent.group, "kind": parent.kind, "name": parent.name}
    if parent.namespace:
        reference["namespace"] = parent.namespace
    if parent.section_name:
        reference["sectionName"] = parent.section_name
    if parent.port is not None:
        reference["port"] = parent.port
    return reference


def _identity(namespace: str, reference: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        reference.get("group", GATEWAY_GROUP),
        reference.get("kind", "Gateway"),
        reference.get("namespace") or namespace,
        reference.get("name"),
        reference.get("sectionName") or "",
        reference.get("port"),
    )


def merge_conditions(
    current: Sequence[Json], wanted: Iterable[Condition], owned: frozenset[str], generation: int, now: str
) -> list[Json]:
    """By type: ours in their places, new ones behind them, ours that are no longer wanted away."""
    left: dict[str, Condition] = {condition.type: condition for condition in wanted}
    ours = owned.union(left)
    result: list[Json] = []
    for before in current:
        of_type = before.get("type")
        if of_type not in ours:
            result.append(before)
        elif (condition := left.pop(str(of_type), None)) is not None:
            result.append(_condition(before, condition, generation, now))
    result.extend(_condition({}, condition, generation, now) for condition in left.values())
    return result


def _condition(before: Json, condition: Condition, generation: int, now: str) -> Json:
    status = condition.status_text
    since = before.get("lastTransitionTime") if before.get("status") == status else None
    return {
        "type": condition.type,
        "status": status,
        "reason": condition.reason,
        "message": condition.message[:_LONGEST_MESSAGE],
        "observedGeneration": generation,
        "lastTransitionTime": since or now,
    }


def _is_later(conditions: Iterable[Json], owned: frozenset[str], generation: int) -> bool:
    return any(
        condition.get("type") in owned and condition.get("observedGeneration", 0) > generation
        for condition in conditions
    )


def _dicts(value: object) -> list[Json]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
