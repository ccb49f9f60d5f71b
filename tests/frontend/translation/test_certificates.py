"""TLS listeners beside those that carry traffic: their certificates, and what hangs on these."""

from __future__ import annotations

import pytest

from blixt_frontend.objects import (
    CertificateRef,
    GrantFrom,
    GrantTo,
    Listener,
    ListenerTLS,
    Object,
    ReferenceGrant,
    RouteGroupKind,
)
from blixt_frontend.objects.gateway import GATEWAY_GROUP
from blixt_frontend.translation.cluster import NamespacedName
from blixt_frontend.translation.gateway_items import GatewayTranslation, translate_gateway
from blixt_frontend.translation.index import Index
from blixt_frontend.translation.options import Options
from blixt_frontend.translation.results import Condition, ListenerResult
from blixt_objects import (
    backend,
    gateway,
    gateway_class,
    grant,
    https,
    lets_in,
    listener,
    service,
    tcp_route,
    tls_secret,
)

CERT, OTHER = CertificateRef(name="cert"), CertificateRef(name="other")
FOREIGN = CertificateRef(name="cert", namespace="other")
MISSING = "Secret default/{} is not there, or not of type kubernetes.io/tls"


def translate(*objects: Object, unread: str = "") -> GatewayTranslation:
    index = Index()
    list(index.read_state({"Secret": unread} if unread else {}))
    for one in (gateway_class(), *objects):
        list(index.put(one))
    return translate_gateway(NamespacedName("default", "gw"), index.cluster, Options())


def first(*objects: Object, unread: str = "") -> ListenerResult:
    """The result of the first listener."""
    result = translate(*objects, unread=unread).result
    assert result is not None
    return result.listeners[0]


def resolved(*objects: Object, unread: str = "") -> tuple[str, str]:
    """Reason and message of the first listener's ResolvedRefs."""
    (found,) = (c for c in first(*objects, unread=unread).conditions if c.type == "ResolvedRefs")
    assert found.status is (None if found.reason == "Pending" else found.reason == "ResolvedRefs")
    return found.reason, found.message


def let(
    kind: str = "Gateway", namespace: str = "default", to: str = "Secret", name: str = ""
) -> ReferenceGrant:
    """A grant in namespace "other"."""
    origin = GrantFrom(group=GATEWAY_GROUP, kind=kind, namespace=namespace)
    return grant(from_=(origin,), to=(GrantTo(group="", kind=to, name=name),))


class TestReferences:
    def test_a_good_one(self) -> None:
        found = first(gateway(https()), tls_secret())
        assert found.conditions.reason("ResolvedRefs") == "ResolvedRefs"
        assert found.conditions.holds("Programmed")

    def test_a_secret_that_is_not_there(self) -> None:
        assert resolved(gateway(https())) == ("InvalidCertificateRef", MISSING.format("cert"))

    def test_a_secret_without_a_certificate_or_a_key(self) -> None:
        made = tls_secret(certificate=b"Hello world", key=b"Hello world")
        message = "tls.crt is no certificate in PEM; tls.key is no private key in PEM"
        assert resolved(gateway(https()), made) == (
            "InvalidCertificateRef",
            f"Secret default/cert: {message}",
        )

    def test_a_secret_of_another_type(self) -> None:
        assert resolved(gateway(https()), tls_secret(type="Opaque")) == (
            "InvalidCertificateRef",
            "Secret default/cert: is not of type kubernetes.io/tls",
        )

    @pytest.mark.parametrize("ref", [{"group": "x.io"}, {"kind": "ConfigMap"}])
    def test_something_else_than_a_secret(self, ref: dict[str, str]) -> None:
        reason, message = resolved(
            gateway(https("https", 443, CertificateRef(name="cert", **ref))), tls_secret()
        )
        assert reason == "InvalidCertificateRef"
        assert message.endswith("default/cert is no Secret")

    def test_all_of_several_must_be_good(self) -> None:
        made = gateway(https("https", 443, CERT, OTHER))
        assert resolved(made, tls_secret()) == ("InvalidCertificateRef", MISSING.format("other"))
        assert resolved(made, tls_secret("other")) == ("InvalidCertificateRef", MISSING.format("cert"))
        assert resolved(made, tls_secret(), tls_secret("other")) == ("ResolvedRefs", "")
        assert resolved(made)[1] == f"{MISSING.format('cert')}; {MISSING.format('other')}"

    def test_what_passes_through_needs_none(self) -> None:
        made = https("tls", 443, OTHER, protocol="TLS", tls=ListenerTLS(mode="Passthrough"))
        assert resolved(gateway(made)) == ("ResolvedRefs", "")

    def test_kinds_in_vain_are_told_as_well(self) -> None:
        odd = gateway(https(allowed_routes=lets_in("Same", kinds=(RouteGroupKind(kind="Odd"),))))
        in_vain = f"unsupported kinds: {GATEWAY_GROUP}/Odd"
        assert resolved(odd, tls_secret()) == ("InvalidRouteKinds", in_vain)
        assert resolved(odd) == ("InvalidCertificateRef", f"{MISSING.format('cert')}; {in_vain}")
        assert resolved(odd, unread="x") == ("InvalidRouteKinds", in_vain)


class TestGrants:
    MADE = gateway(https("https", 443, FOREIGN))
    SECRET = tls_secret(namespace="other")

    def test_without_any(self) -> None:
        assert resolved(self.MADE, self.SECRET) == (
            "RefNotPermitted",
            "no ReferenceGrant lets a Gateway of default refer to Secret other/cert",
        )

    @pytest.mark.parametrize("made", [let(), let(name="cert")], ids=["all", "specific"])
    def test_a_grant(self, made: ReferenceGrant) -> None:
        assert resolved(self.MADE, self.SECRET, made) == ("ResolvedRefs", "")

    @pytest.mark.parametrize(
        "made",
        [let("TCPRoute"), let(namespace="third"), let(to="Service"), let(name="another")],
        ids=["from a route", "from elsewhere", "to a Service", "to another"],
    )
    def test_grants_of_something_else(self, made: ReferenceGrant) -> None:
        assert resolved(self.MADE, self.SECRET, made)[0] == "RefNotPermitted"

    def test_what_is_granted_must_be_there(self) -> None:
        assert resolved(self.MADE, let())[0] == "InvalidCertificateRef"

    def test_nobody_learns_what_is_there_without_a_grant(self) -> None:
        assert resolved(self.MADE) == resolved(self.MADE, self.SECRET)


class TestUnread:
    def test_it_can_not_be_said(self) -> None:
        told = ("Pending", "Secrets can't be read: Forbidden")
        assert resolved(gateway(https()), unread="Forbidden") == told

    def test_what_can_be_said_is_said(self) -> None:
        assert resolved(gateway(https("https", 443, FOREIGN)), unread="x")[0] == "RefNotPermitted"
        vault = CertificateRef(name="cert", group="x.io", kind="Vault")
        assert resolved(gateway(https("https", 443, CERT, vault)), unread="x")[0] == "InvalidCertificateRef"

    def test_it_costs_nothing_else(self) -> None:
        result = translate(gateway(https()), unread="Forbidden").result
        assert result is not None
        assert result.conditions == (
            Condition("Accepted", True, "Accepted"),
            Condition("Programmed", True, "Programmed"),
        )
        assert result.listeners[0].conditions.holds("Programmed")


class TestWhatHangsOnIt:
    def test_a_listener_without_its_certificate_is_accepted_and_not_programmed(self) -> None:
        found = first(gateway(https(), listener())).conditions
        assert found.holds("Accepted")
        assert found.reason("Programmed") == "Invalid"

    def test_those_that_carry_traffic_go_on(self) -> None:
        objects = (gateway(https(), listener()), tcp_route(backend()), service())
        bad, good = translate(*objects), translate(*objects, tls_secret())
        assert bad.translation.items == good.translation.items != ()
        assert bad.result is not None
        assert bad.result.conditions[0].status is True
        assert bad.result.conditions[0].reason == "ListenersNotValid"

    def test_a_gateway_of_nothing_else_has_nothing_to_program(self) -> None:
        result = translate(gateway(https())).result
        assert result is not None
        assert [(c.status, c.reason) for c in result.conditions] == [
            (False, "ListenersNotValid"),
            (False, "Invalid"),
        ]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (https(tls=ListenerTLS(mode="Passthrough")), "HTTPS can only be Terminate"),
        (
            https(tls=ListenerTLS(mode="Odd", certificate_refs=(CERT,))),
            "'Odd' is none of Terminate, Passthrough",
        ),
        (https(tls=None), "required to end TLS (HTTPS)"),
        (https(protocol="TLS", tls=ListenerTLS()), "required to end TLS (TLS)"),
        (listener(allowed_routes=lets_in("Odd")), "'Odd' is none of All, Same, Selector, None"),
    ],
)
def test_unsupported_values(made: Listener, message: str) -> None:
    found = first(gateway(made), tls_secret())
    (accepted,) = (c for c in found.conditions if c.type == "Accepted")
    assert (accepted.status, accepted.reason) == (False, "UnsupportedValue")
    assert message in accepted.message
    assert not found.conditions.holds("Programmed")


@pytest.mark.parametrize(
    ("hostnames", "overlapping"),
    [
        (("a.example.org", "b.example.org"), ()),
        (("*.example.org", "b.example.org", "example.org"), (0, 1)),
        (("", "b.example.org"), (0, 1)),
    ],
)
def test_overlapping_hostnames(hostnames: tuple[str, ...], overlapping: tuple[int, ...]) -> None:
    listeners = [https(f"l{index}", 443, hostname=name) for index, name in enumerate(hostnames)]
    elsewhere = https("elsewhere", 444, hostname="*.example.org")
    result = translate(gateway(*listeners, elsewhere), tls_secret()).result
    assert result is not None
    found = [i for i, one in enumerate(result.listeners) if one.conditions.holds("OverlappingTLSConfig")]
    assert tuple(found) == overlapping
    assert all(one.conditions.holds("Programmed") for one in result.listeners)
