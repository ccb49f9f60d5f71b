"""From what Kubernetes' API and `kubectl apply` understand (JSON, or the values of YAML) to objects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn, TypeVar

import msgspec
from msgspec.structs import replace

from blixt_frontend.objects import (
    EndpointSlice,
    Gateway,
    GatewayClass,
    HTTPRoute,
    Namespace,
    Node,
    Object,
    ReferenceGrant,
    Resource,
    Secret,
    Service,
    TCPRoute,
    TLSRoute,
    UDPRoute,
)
from blixt_frontend.objects.gateway import GATEWAY_GROUP
from blixt_frontend.validation import Path, problems

T = TypeVar("T", bound=Resource)

#: (API group, kind) -> type and the versions that decode to it.
READ: dict[tuple[str, str], tuple[type[Object], frozenset[str]]] = {
    ("", "Service"): (Service, frozenset({"v1"})),
    ("", "Node"): (Node, frozenset({"v1"})),
    ("", "Namespace"): (Namespace, frozenset({"v1"})),
    ("", "Secret"): (Secret, frozenset({"v1"})),
    ("discovery.k8s.io", "EndpointSlice"): (EndpointSlice, frozenset({"v1"})),
    (GATEWAY_GROUP, "GatewayClass"): (GatewayClass, frozenset({"v1", "v1beta1"})),
    (GATEWAY_GROUP, "Gateway"): (Gateway, frozenset({"v1", "v1beta1"})),
    (GATEWAY_GROUP, "TCPRoute"): (TCPRoute, frozenset({"v1", "v1alpha2"})),
    (GATEWAY_GROUP, "UDPRoute"): (UDPRoute, frozenset({"v1", "v1alpha2"})),
    (GATEWAY_GROUP, "HTTPRoute"): (HTTPRoute, frozenset({"v1", "v1beta1"})),
    (GATEWAY_GROUP, "TLSRoute"): (TLSRoute, frozenset({"v1", "v1alpha3", "v1alpha2"})),
    (GATEWAY_GROUP, "ReferenceGrant"): (ReferenceGrant, frozenset({"v1", "v1beta1"})),
}
CLUSTER_SCOPED = frozenset({"Node", "Namespace", "GatewayClass"})

_WHERE = re.compile(r"(.*?)(?: - at `\$?\.?(.*)`)?\Z", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`\Z")
_STEP = re.compile(r"\[(\d+|\.\.\.)\]|([^.\[\]]+)")


class DecodeError(ValueError):
    """A value is no object that an API server would take. `path` leads to the field at fault."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{field_name(path)}: {problem}" if path else problem)


class TypeName(NamedTuple):
    """What a value says it is."""

    api_version: str
    kind: str

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        return self.api_version.rpartition("/")[2]

    @property
    def type(self) -> type[Object] | None:
        """The type to decode it to, or None: Blixt does not read it."""
        known, versions = READ.get((self.group, self.kind), (None, frozenset()))
        return known if self.version in versions else None

    @property
    def is_close(self) -> bool:
        """Not read, though its writer may expect it: another version, or another Gateway API kind."""
        return self.type is None and (self.group == GATEWAY_GROUP or (self.group, self.kind) in READ)

    def __str__(self) -> str:
        return f"{self.api_version} {self.kind}"


def type_name(value: Any) -> TypeName:
    """Raises DecodeError where `value` does not say what it is."""
    if not isinstance(value, dict):
        raise DecodeError((), f"expected an object, got {_json_type(value)}")
    for field in ("apiVersion", "kind"):
        if not isinstance(value.get(field), str) or not value[field]:
            raise DecodeError((field,), "required" if not value.get(field) else "expected a string")
    return TypeName(value["apiVersion"], value["kind"])


def flatten(value: Any) -> Iterator[tuple[Path, Any]]:
    """A list's items, or the value itself, each with its path. Empty documents yield nothing.

    Items of a `List` say what they are; those of a `ServiceList` and its like needn't.
    """
    if value is None:
        return
    if not isinstance(value, dict) or not str(value.get("kind")).endswith("List") or "items" not in value:
        yield (), value
        return
    items = [] if value["items"] is None else value["items"]
    if not isinstance(items, list):
        raise DecodeError(("items",), f"expected an array, got {_json_type(items)}")
    item_kind = value["kind"].removesuffix("List")
    implied = {"apiVersion": value.get("apiVersion"), "kind": item_kind} if item_kind else {}
    for index, item in enumerate(items):
        for path, flat in flatten({**implied, **item} if isinstance(item, dict) else item):
            yield ("items", index, *path), flat


def decode(value: Any) -> Object | None:
    """One object from the values of YAML or JSON, checked and completed as an API server would.

    None where it is of a kind or version that Blixt does not read. Raises DecodeError.
    """
    decoded_as = type_name(value).type
    if decoded_as is None:
        return None
    decoded = _convert(value, decoded_as)
    problem = next(problems(decoded), None)
    if problem is not None:
        raise DecodeError(*problem)
    return _in_namespace(decoded)


def decode_json(raw: bytes, decoded_as: type[T]) -> T:
    """An object from an API server's JSON, which has been checked and completed there. Raises DecodeError.

    `decoded_as` comes from the request, since the items of a server's list don't say what they are.
    """
    try:
        return msgspec.json.decode(raw, type=decoded_as)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Go writes empty lists and times as null, which is rare enough to take the long way.
        try:
            value = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise DecodeError((), str(error)) from None
    return _convert(value, decoded_as)


def field_name(path: Path) -> str:
    """As kubectl writes it: `spec.ports[0].port`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


def _convert(value: Any, decoded_as: type[T]) -> T:
    try:
        return msgspec.convert(value, decoded_as)
    except msgspec.ValidationError:
        value = _without_nulls(value)
    try:
        return msgspec.convert(value, decoded_as)
    except msgspec.ValidationError as error:
        _raise(error, value, decoded_as.confidential)


def _without_nulls(value: Any) -> Any:
    """To Kubernetes, null and absent are the same."""
    if isinstance(value, dict):
        return {key: _without_nulls(child) for key, child in value.items() if child is not None}
    if isinstance(value, list):
        return [_without_nulls(child) for child in value]
    return value


def _in_namespace(decoded: Object) -> Object:
    metadata = decoded.metadata
    namespace = "" if decoded.kind in CLUSTER_SCOPED else metadata.namespace or "default"
    if namespace == metadata.namespace:
        return decoded
    return replace(decoded, metadata=replace(metadata, namespace=namespace))


def _raise(error: msgspec.ValidationError, value: Any, confidential: bool) -> NoReturn:
    """From "Expected `int`, got `str` - at `$.spec.x`" to kubectl's style, with the value at fault."""
    match = _WHERE.match(str(error))
    text, where = match.groups() if match else (str(error), None)
    path, culprit = _walk(value, where or "")
    missing = _MISSING.match(text)
    if missing:
        raise DecodeError((*path, missing[1]), "required") from None
    problem = text.replace("`", "")
    if not isinstance(culprit, dict | list) and not confidential:
        problem = f"{culprit!r}: {problem[:1].lower()}{problem[1:]}"
    raise DecodeError(path, problem) from None


def _walk(value: Any, where: str) -> tuple[Path, Any]:
    path: list[str | int] = []
    for index, name in _STEP.findall(where):
        step: str | int = int(index) if index.isdigit() else name
        if index == "...":
            # msgspec doesn't say which entry of a mapping; in these models, one that is no string.
            step = next((key for key, child in value.items() if not isinstance(child, str)), "...")
        path.append(step)
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return tuple(path), None
    return tuple(path), value


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a bool", type(None): "null"}
    return names.get(type(value), "a number")
