"""The incremental driver: what is translated when, and that nothing bad stops it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import pytest

from blixt_frontend import translator as module
from blixt_frontend.items import Item
from blixt_frontend.objects import CertificateRef, LabelSelector, Object, ParentRef
from blixt_frontend.source import Batch, ObjectKey
from blixt_frontend.translation.cluster import NamespacedName, Translation
from blixt_frontend.translation.gateway_items import translate_gateway
from blixt_frontend.translation.results import Reason
from blixt_frontend.translation.services import translate_service
from blixt_frontend.translator import Translator
from blixt_objects import (
    Seen,
    backend,
    endpoint,
    endpoint_slice,
    gateway,
    gateway_class,
    grant,
    http_route,
    https,
    lets_in,
    listener,
    namespace,
    node,
    service,
    tcp_route,
    tls_secret,
)

Units = Mapping[str, tuple[Item, ...]]

WEB = (service(), endpoint_slice(endpoint("10.0.0.1", "web-0"), time="2026-01-01T00:00:00Z"))
GATEWAY = (gateway_class(), gateway(listener()), tcp_route(backend()))


def started(*objects: Object) -> Translator:
    translator = Translator()
    translator.apply(Batch(objects, complete=True))
    return translator


def put(translator: Translator, *objects: Object) -> Units:
    return translator.apply(Batch(objects, complete=True))


def delete(translator: Translator, *objects: Object) -> Units:
    return translator.apply(Batch(deletions=tuple(o.key for o in objects), complete=True))


def test_nothing_comes_out_before_everything_was_listed() -> None:
    translator = Translator()
    assert translator.apply(Batch(WEB)) == {}
    assert translator.apply(Batch((service("api"),))) == {}
    units = translator.apply(Batch(complete=True))
    assert {unit: len(items) for unit, items in units.items()} == {
        "Service default/web": 2,
        "Service default/api": 1,
    }


def test_what_was_deleted_before_everything_was_listed_never_comes_out() -> None:
    translator = Translator()
    translator.apply(Batch((service("api"),)))
    assert translator.apply(Batch(WEB, (service("api").key,), complete=True)).keys() == {
        "Service default/web"
    }


def test_a_unit_that_goes_has_no_items() -> None:
    translator = started(*WEB)
    assert delete(translator, WEB[0]) == {"Service default/web": ()}
    assert delete(translator, WEB[0], WEB[1]) == {}


def test_an_unknown_deletion_is_nothing() -> None:
    assert started().apply(Batch(deletions=(ObjectKey("Odd", "a", "b"),), complete=True)) == {}


def test_an_equal_object_changes_nothing() -> None:
    translator = started(*WEB, *GATEWAY)
    assert put(translator, *WEB, *GATEWAY) == {}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []

    def counted(kind: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(name: NamespacedName, *args: object) -> object:
            made.append(f"{kind} {name.namespace}/{name.name}")
            return function(name, *args)

        return call

    monkeypatch.setattr(module, "translate_service", counted("Service", translate_service))
    monkeypatch.setattr(module, "translate_gateway", counted("Gateway", translate_gateway))
    return made


@pytest.mark.parametrize("others", [0, 300])
def test_one_slice_costs_its_service_and_the_gateways_before_it(calls: list[str], others: int) -> None:
    more: list[Object] = [service(f"s{i}") for i in range(others)]
    more += [gateway(listener(), name=f"g{i}") for i in range(others)]
    more += [
        tcp_route(backend(f"s{i}"), name=f"r{i}", parents=(ParentRef(name=f"g{i}"),)) for i in range(others)
    ]
    translator = started(*WEB, *GATEWAY, *more)
    calls.clear()
    units = put(translator, endpoint_slice(endpoint("10.0.0.2", "web-0")))
    assert calls == ["Service default/web", "Gateway default/gw"]
    assert set(units) == set(calls)


class TestWhatTouchesAGateway:
    SCENE = (
        *WEB,
        gateway_class(),
        gateway(
            listener(allowed_routes=lets_in("Selector", LabelSelector(match_labels={"team": "a"}))),
        ),
        namespace("default", team="a"),
        tcp_route(backend()),
        gateway(listener(), name="bystander"),
        tcp_route(backend("api"), name="other", parents=(ParentRef(name="bystander"),)),
    )

    def touched(self, calls: list[str], translator: Translator, *objects: Object) -> set[str]:
        calls.clear()
        put(translator, *objects)
        return set(calls)

    def test_its_route(self, calls: list[str]) -> None:
        translator = started(*self.SCENE)
        assert self.touched(calls, translator, tcp_route(backend(weight=5))) == {"Gateway default/gw"}

    def test_a_route_that_leaves_for_another(self, calls: list[str]) -> None:
        translator = started(*self.SCENE)
        moved = tcp_route(backend(), parents=(ParentRef(name="bystander"),))
        assert self.touched(calls, translator, moved) == {"Gateway default/gw", "Gateway default/bystander"}
        assert self.touched(
            calls, translator, WEB[1].__class__(metadata=WEB[1].metadata, address_type="IPv4")
        ) == {
            "Service default/web",
            "Gateway default/bystander",
        }

    def test_the_namespace_of_its_routes(self) -> None:
        translator = started(*self.SCENE)
        (items,) = put(translator, namespace("default", team="b")).values()
        assert not Seen(items).endpoints

    def test_its_class(self, calls: list[str]) -> None:
        translator = started(*self.SCENE)
        units = put(translator, gateway_class(controller="example.org/another"))
        assert units == {"Gateway default/gw": (), "Gateway default/bystander": ()}
        assert not translator.gateways
        assert set(put(translator, gateway_class())) == set(units)

    def test_itself(self) -> None:
        translator = started(*self.SCENE)
        assert set(put(translator, gateway(listener(number=99)))) == {"Gateway default/gw"}
        assert delete(translator, gateway()) == {"Gateway default/gw": ()}

    def test_a_grant_and_its_revocation_at_once(self) -> None:
        there = (
            service(namespace="other"),
            endpoint_slice(endpoint("10.0.0.1", "web-0"), namespace="other"),
        )
        translator = started(
            gateway_class(), gateway(listener()), tcp_route(backend(namespace="other")), *there, grant()
        )
        (items,) = delete(translator, grant()).values()
        assert [m.Reject for m in Seen(items).endpoints.values()] == [True]
        (items,) = put(translator, grant()).values()
        assert [m.Reject for m in Seen(items).endpoints.values()] == [False]

    def test_a_grant_elsewhere_touches_nobody(self, calls: list[str]) -> None:
        assert not self.touched(calls, started(*self.SCENE), grant(namespace="nowhere"))

    def test_its_certificates(self, calls: list[str]) -> None:
        foreign = CertificateRef(name="cert", namespace="other")
        translator = started(
            *self.SCENE, gateway(https(), name="tls"), gateway(https("a", 1, foreign), name="far")
        )
        assert self.touched(calls, translator, tls_secret()) == {"Gateway default/tls"}
        assert not self.touched(calls, translator, tls_secret())
        assert not self.touched(calls, translator, tls_secret(namespace="third"))
        assert self.touched(calls, translator, tls_secret(namespace="other")) == {"Gateway default/far"}
        assert self.touched(calls, translator, grant()) == {"Gateway default/far"}
        calls.clear()
        delete(translator, tls_secret())
        assert calls == ["Gateway default/tls"]

    def test_certificates_that_can_not_be_read(self, calls: list[str]) -> None:
        translator = started(*self.SCENE, gateway(https(), name="tls"))

        def resolved() -> Reason | None:
            result = translator.gateways[NamespacedName("default", "tls")]
            return result.listeners[0].conditions.reason("ResolvedRefs")

        calls.clear()
        translator.apply(Batch(complete=True, unread={"Secret": "Forbidden"}))
        assert calls == ["Gateway default/tls"]
        assert resolved() == "Pending"
        translator.apply(Batch(complete=True))
        translator.apply(Batch(complete=True, unread={"Secret": "Forbidden", "HTTPRoute": "Forbidden"}))
        assert calls == ["Gateway default/tls"]
        translator.apply(Batch((tls_secret(),), complete=True, unread={}))
        assert resolved() == "ResolvedRefs"

    def test_a_route_that_is_only_counted(self, calls: list[str]) -> None:
        translator = started(*self.SCENE)
        assert self.touched(calls, translator, http_route(namespace="default")) == {"Gateway default/gw"}
        assert not put(translator, http_route("a.example"))  # nothing that is served changes
        there = http_route(namespace="shop", parents=(ParentRef(name="bystander", namespace="default"),))
        put(translator, there)
        assert self.touched(calls, translator, namespace("shop", team="a")) == {"Gateway default/bystander"}

    def test_results_are_kept_for_status(self) -> None:
        translator = started(*self.SCENE)
        assert set(translator.gateways) == {
            NamespacedName("default", "gw"),
            NamespacedName("default", "bystander"),
        }
        delete(translator, gateway())
        assert set(translator.gateways) == {NamespacedName("default", "bystander")}


class TestNodes:
    HINTED = (
        service(),
        endpoint_slice(
            endpoint("10.0.0.1", "x", node="n1", zones=("a",)),
            endpoint("10.0.0.2", "y", node="n2", zones=("b",)),
        ),
    )

    def test_zones(self) -> None:
        translator = started(node("n1", "a"), node("n2"))
        assert dict(translator.zones) == {"n1": "a"}
        put(translator, node("n1", "b"), node("n2", "c"))
        assert dict(translator.zones) == {"n1": "b", "n2": "c"}
        delete(translator, node("n1"))
        assert dict(translator.zones) == {"n2": "c"}

    def test_a_nodes_zone_touches_no_item_that_has_no_hints(self, calls: list[str]) -> None:
        translator = started(*WEB, node("n1", "a"))
        calls.clear()
        assert put(translator, node("n1", "b")) == {}
        assert not calls

    def test_the_zone_of_a_hinted_endpoints_own_node_counts(self) -> None:
        translator = started(*self.HINTED, node("n1", "a"), node("n2", "b"))
        (items,) = put(translator, node("n1", "b")).values()
        assert Seen(items, "n1", "b").cluster() == {"10.0.0.2"}

    def test_and_is_forgotten_with_the_hints(self, calls: list[str]) -> None:
        translator = started(*self.HINTED, node("n1", "a"))
        put(translator, endpoint_slice(endpoint("10.0.0.1", "x", node="n1")))
        calls.clear()
        put(translator, node("n1", "b"))
        assert not calls


class TestTriggerTime:
    @staticmethod
    def times(items: tuple[Item, ...]) -> list[int]:
        return [m.TriggerTime for m in Seen(items).endpoints.values()]

    def test_is_the_slices(self) -> None:
        (items,) = Translator().apply(Batch(WEB, complete=True)).values()
        assert self.times(items) == [1767225600 * 10**9]

    def test_is_on_every_nodes_variant(self) -> None:
        slices = endpoint_slice(endpoint(node="a", zones=("x",)), time="2026-01-01T00:00:00.5Z")
        (items,) = Translator().apply(Batch((service(), slices), complete=True)).values()
        for where in (("a", ""), ("b", "x"), ("c", "")):
            assert [m.TriggerTime for m in Seen(items, *where).endpoints.values()] == [1767225600_500_000_000]

    def test_alone_changes_no_item(self) -> None:
        translator = started(*WEB)
        assert (
            put(translator, endpoint_slice(endpoint("10.0.0.1", "web-0"), time="2026-01-01T00:00:09Z")) == {}
        )

    def test_is_new_only_on_what_else_changed(self) -> None:
        translator = started(*WEB)
        two = endpoint_slice(
            endpoint("10.0.0.1", "web-0"), endpoint("10.0.0.2", "web-1"), time="2026-01-01T00:00:09Z"
        )
        (items,) = put(translator, two).values()
        assert self.times(items) == [1767225600 * 10**9, 1767225609 * 10**9]

    def test_is_unset_where_the_change_is_not_the_endpoints(self) -> None:
        translator = started(*WEB)
        (items,) = put(translator, service(session_affinity="ClientIP")).values()
        assert self.times(items) == [1767225600 * 10**9]  # nothing new of the endpoint itself
        (items,) = put(translator, service(internal_traffic_policy="Local")).values()
        assert self.times(items) == [0]

    @pytest.mark.parametrize("text", ["", "yesterday", "2026-01-01T00:00:00", "1969-01-01T00:00:00Z"])
    def test_one_that_cannot_be_read_is_unknown(self, text: str) -> None:
        slices = endpoint_slice(endpoint(), time=text)
        (items,) = Translator().apply(Batch((service(), slices), complete=True)).values()
        assert self.times(items) == [0]


class TestFaults:
    def test_a_unit_that_cannot_be_translated_keeps_what_it_had(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        translator = started(*WEB)

        def failing(name: NamespacedName, *args: object) -> Translation:
            if name.name == "web":
                raise RuntimeError("odd")
            return translate_service(name, *args)  # type: ignore[arg-type]  # passed on as it came

        monkeypatch.setattr(module, "translate_service", failing)
        units = put(translator, service("web", cluster_ips=("10.96.0.7",)), service("api"))
        assert set(units) == {"Service default/api"}
        assert "Service default/web can't be translated" in caplog.text
        monkeypatch.undo()
        assert set(put(translator, service("web", cluster_ips=("10.96.0.8",)))) == {"Service default/web"}

    def test_what_is_no_object_is_left_out(self, caplog: pytest.LogCaptureFixture) -> None:
        class Odd:
            key = ObjectKey("Odd", "", "x")

        translator = started()
        units = translator.apply(Batch((Odd(), *WEB), complete=True))
        assert set(units) == {"Service default/web"}
        assert "can't be taken in" in caplog.text

    def test_text_that_cannot_be_encoded(self, caplog: pytest.LogCaptureFixture) -> None:
        translator = started(*WEB)
        assert put(translator, service(labels={"x": "\ud800"})) == {}
        assert "can't be translated" in caplog.text

    def test_problems_are_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING)
        translator = started(service(external_ips=("nowhere",)))
        assert caplog.text.count("nowhere") == 1
        put(translator, endpoint_slice(endpoint()))
        assert caplog.text.count("nowhere") == 1
        put(translator, service(external_ips=("elsewhere",)))
        assert caplog.text.count("elsewhere") == 1
