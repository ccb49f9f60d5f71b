from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt_frontend.decode import READ, DecodeError, TypeName, decode, decode_json, flatten, type_name
from blixt_frontend.objects import EndpointSlice, Gateway, Service

SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"ports": [{"port": 80}]},
}


def changed(value: Any, path: str, new: Any) -> Any:
    """A copy of `value` with what is at `path` (`spec.ports.0.port`) replaced, or left out if `new` is ..."""
    step, _, rest = path.partition(".")
    if isinstance(value, list):
        copy: Any = list(value)
        index = int(step)
        copy[index] = changed(copy[index], rest, new) if rest else new
        return copy
    copy = dict(value)
    if rest:
        copy[step] = changed(copy.get(step, {}), rest, new)
    elif new is ...:
        del copy[step]
    else:
        copy[step] = new
    return copy


@pytest.mark.parametrize(
    ("path", "new", "message"),
    [
        ("spec.ports.0.port", 0, "spec.ports[0].port: 0: expected int >= 1"),
        ("spec.ports.0.port", 65536, "spec.ports[0].port: 65536: expected int <= 65535"),
        ("spec.ports.0.port", "80", "spec.ports[0].port: '80': expected int, got str"),
        ("spec.ports.0.port", True, "spec.ports[0].port: True: expected int, got bool"),
        ("spec.ports.0.port", ..., "spec.ports[0].port: required"),
        ("spec.ports.0", None, "spec.ports[0]: None: expected object, got null"),
        ("spec.ports", {}, "spec.ports: Expected array, got object"),
        ("spec", [], "spec: Expected object, got array"),
        ("metadata", ..., "metadata: required"),
        ("metadata", None, "metadata: required"),
        ("metadata.name", ..., "metadata.name: required"),
        ("metadata.name", None, "metadata.name: required"),
        ("metadata.name", 7, "metadata.name: 7: expected str, got int"),
        ("metadata.labels", {"a": "b", "c": 1}, "metadata.labels.c: 1: expected str, got int"),
        ("metadata.labels", "x", "metadata.labels: 'x': expected object, got str"),
        (
            "metadata.creationTimestamp",
            "yesterday",
            "metadata.creationTimestamp: 'yesterday': invalid RFC3339 encoded datetime",
        ),
        ("kind", ..., "kind: required"),
        ("kind", "", "kind: required"),
        ("kind", 1, "kind: expected a string"),
        ("apiVersion", ..., "apiVersion: required"),
        ("apiVersion", 1, "apiVersion: expected a string"),
    ],
)
def test_errors_name_the_field_as_kubectl_does_and_the_value(path: str, new: object, message: str) -> None:
    with pytest.raises(DecodeError) as raised:
        decode(changed(SERVICE, path, new))
    assert str(raised.value) == message


@pytest.mark.parametrize("value", [[SERVICE], "text", 7, None, True])
def test_what_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(DecodeError, match="expected an object, got"):
        decode(value)


def test_objects_without_a_namespace_are_in_default() -> None:
    decoded = decode(SERVICE)
    assert decoded is not None
    assert decoded.key == ("Service", "default", "web")


@pytest.mark.parametrize("kind", ["Node", "Namespace"])
def test_cluster_scoped_objects_have_no_namespace(kind: str) -> None:
    for namespace in ("", "x"):
        metadata = {"name": "a", "namespace": namespace}
        decoded = decode({"apiVersion": "v1", "kind": kind, "metadata": metadata})
        assert decoded is not None
        assert decoded.key == (kind, "", "a")


def test_null_is_as_good_as_absent() -> None:
    noisy = changed(SERVICE, "metadata.creationTimestamp", None)
    noisy = changed(noisy, "spec.ports.0", {"port": 80, "nodePort": None, "targetPort": None, "name": None})
    noisy = changed(noisy, "status", None)
    assert decode(noisy) == decode(SERVICE)


@pytest.mark.parametrize(
    ("api_version", "kind", "read", "close"),
    [
        *(
            (f"{group}/{version}".lstrip("/"), kind, True, False)
            for (group, kind), (_, versions) in READ.items()
            for version in versions
        ),
        ("apps/v1", "Deployment", False, False),
        ("v1", "ConfigMap", False, False),
        ("v2", "Service", False, True),
        ("serving.knative.dev/v1", "Service", False, False),
        ("discovery.k8s.io/v1beta1", "EndpointSlice", False, True),
        ("gateway.networking.k8s.io/v1", "GRPCRoute", False, True),
        ("gateway.networking.k8s.io/v1alpha3", "TCPRoute", False, True),
    ],
)
def test_which_kinds_and_versions_are_read(api_version: str, kind: str, read: bool, close: bool) -> None:
    name = TypeName(api_version, kind)
    assert ((name.type is not None), name.is_close) == (read, close)
    if not read:
        assert decode({"apiVersion": api_version, "kind": kind}) is None


def test_an_empty_document_holds_nothing() -> None:
    assert list(flatten(None)) == []


def test_lists_are_flattened_with_the_path_of_each_item() -> None:
    inner = {"apiVersion": "v1", "kind": "List", "items": [SERVICE]}
    outer = {"apiVersion": "v1", "kind": "List", "items": [SERVICE, inner]}
    assert list(flatten(outer)) == [(("items", 0), SERVICE), (("items", 1, "items", 0), SERVICE)]


@pytest.mark.parametrize("items", [None, []])
def test_a_list_may_be_empty(items: object) -> None:
    assert list(flatten({"apiVersion": "v1", "kind": "List", "items": items})) == []


def test_items_of_a_typed_list_need_not_say_what_they_are() -> None:
    bare = {name: value for name, value in SERVICE.items() if name in ("metadata", "spec")}
    ((path, item),) = flatten({"apiVersion": "v1", "kind": "ServiceList", "items": [bare]})
    assert path == ("items", 0)
    assert decode(item) == decode(SERVICE)


def test_a_lists_items_must_be_an_array() -> None:
    with pytest.raises(DecodeError, match=r"^items: expected an array, got an object$"):
        list(flatten({"apiVersion": "v1", "kind": "List", "items": {}}))


def test_an_item_of_a_list_that_is_no_object_is_refused_where_it_stands() -> None:
    ((path, item),) = flatten({"apiVersion": "v1", "kind": "List", "items": [7]})
    assert path == ("items", 0)
    with pytest.raises(DecodeError, match="a number"):
        type_name(item)


class TestDecodeJson:
    """The API server's bytes: complete already, and trusted to be valid."""

    def test_bytes_become_an_object_without_a_kind(self) -> None:
        raw = json.dumps({"metadata": {"name": "a", "namespace": "n"}, "addressType": "IPv4"}).encode()
        assert decode_json(raw, EndpointSlice).key == ("EndpointSlice", "n", "a")

    def test_gos_null_lists_are_empty(self) -> None:
        raw = b'{"metadata":{"name":"a"},"addressType":"IPv4","endpoints":null,"ports":null}'
        decoded = decode_json(raw, EndpointSlice)
        assert (decoded.endpoints, decoded.ports) == ((), ())

    def test_what_is_no_such_object_is_an_error_with_its_path(self) -> None:
        with pytest.raises(DecodeError, match=r"^spec\.gatewayClassName: required$"):
            decode_json(b'{"metadata":{"name":"a"},"spec":{}}', Gateway)

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"{",
            rb'{"metadata":{"name":"\ud800"}}',
            b"\xff",
            b"[]",
            b"7",
            b'{"metadata":{"name":"\xff"}}',
        ],
    )
    def test_what_is_no_json_or_no_object_is_an_error(self, raw: bytes) -> None:
        with pytest.raises(DecodeError):
            decode_json(raw, Service)


GATEWAY_API = "gateway.networking.k8s.io/v1"
VALID: list[dict[str, Any]] = [
    {**SERVICE, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}},
    {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "a", "labels": {"a": "b"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
        "ports": [{"port": 80}],
    },
    {
        "apiVersion": GATEWAY_API,
        "kind": "Gateway",
        "metadata": {"name": "g"},
        "spec": {
            "gatewayClassName": "c",
            "addresses": [{"value": "192.0.2.1"}],
            "listeners": [{"name": "a", "port": 80, "protocol": "TCP"}],
        },
    },
    {
        "apiVersion": GATEWAY_API,
        "kind": "UDPRoute",
        "metadata": {"name": "r"},
        "spec": {"parentRefs": [{"name": "g"}], "rules": [{"backendRefs": [{"name": "s", "port": 80}]}]},
    },
]


def paths(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict | list):
        return []
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    own = [(f"{prefix}{step}", child) for step, child in entries]
    return [path for path, _ in own] + [path for step, child in own for path in paths(child, f"{step}.")]


# No unpaired surrogates: neither JSON nor YAML lets them in, see below.
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["\0", "::"]),
    lambda children: st.lists(children, max_size=2) | st.dictionaries(st.text(), children, max_size=2),
    max_leaves=5,
)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_any_value_in_any_field_is_taken_or_refused_with_its_field(data: st.DataObject) -> None:
    valid = data.draw(st.sampled_from(VALID))
    assert decode(valid) is not None
    path = data.draw(st.sampled_from(paths(valid)))
    refused: DecodeError | None = None
    try:
        decode(changed(valid, path, data.draw(anything)))
    except DecodeError as error:
        refused = error
    assert refused is None or (refused.path and refused.problem)
