"""What Gateways and Services ask for, read off the objects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from blixt_frontend.addresses.pools import Address, Pools, parse_address
from blixt_frontend.objects import Gateway, LoadBalancerIngress, Service
from blixt_frontend.source import ObjectKey

#: The loadBalancerClass of Services that leave no doubt that they are ours.
LOAD_BALANCER_CLASS = "blixt.dev/frontend"
#: On a Gateway or a Service: the name of the pool that addresses are to come from.
POOL_ANNOTATION = "blixt.dev/address-pool"
#: On a Service, instead of spec.loadBalancerIP, which has room for one: addresses, with commas between them.
ADDRESSES_ANNOTATION = "blixt.dev/addresses"

_VERSIONS = {"IPv4": 4, "IPv6": 6}


@dataclass(frozen=True, slots=True)
class Wish:
    """One address: a certain one, or any of a family."""

    version: int
    #: None: any.
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """All that one object asks for."""

    key: ObjectKey
    #: Sorts the oldest first. Where two want the same, the older one has it.
    age: tuple[datetime, str, str]
    #: Certain ones first: what is held goes to them before it goes to those that take any.
    wishes: tuple[Wish, ...]
    #: How many wishes must be met; what is lacking beyond that is no problem.
    enough: int
    #: The pool that addresses are to come from, unless they are asked for one by one; empty: any.
    pool: str = ""
    #: What the object's status says that it has, as far as it lies in a pool.
    held: tuple[Address, ...] = ()
    #: Given without a question: addresses in no pool, which a Gateway brings along.
    static: tuple[Address, ...] = ()
    #: Why the request can't be read as it stands, if so.
    complaint: str = ""


def of_gateway(gateway: Gateway, pools: Pools) -> Request:
    """The request of a Gateway of ours.

    Without any spec.addresses it is for one address of every family that there are pools for, and one is
    enough. Each empty value is for one more address, the families in turn. An address in a pool is asked for,
    and one in no pool is taken as given. Values that are no IP addresses are left out.
    """
    asked = [address.value for address in gateway.spec.addresses if address.type == "IPAddress"]
    pool, complaint = _pool(gateway.metadata.annotations, pools)
    versions = pools.versions(pool)
    known = _read(asked)
    certain = [Wish(address.version, address) for address in known if pools.pool_of(address)]
    if gateway.spec.addresses:
        empties = asked.count("")
        count = empties if versions else 0
        wishes = (*certain, *(Wish(versions[index % len(versions)]) for index in range(count)))
        enough = len(certain) + empties
    else:
        empties = 1
        wishes = tuple(map(Wish, versions))
        enough = 1
    return Request(
        gateway.key,
        gateway.age_key,
        wishes,
        enough,
        pool,
        _held((address.value for address in gateway.status.addresses if address.type == "IPAddress"), pools),
        tuple(address for address in known if not pools.pool_of(address)),
        complaint if empties else "",
    )


def of_service(service: Service, pools: Pools) -> Request | None:
    """The request of a Service; None if its addresses are none of our business.

    They are ours if its type is LoadBalancer, its loadBalancerClass is LOAD_BALANCER_CLASS or unset, and,
    where it is unset, no other controller has given it an address or a host name. It asks for one address of
    each of its ipFamilies, which the API server fills in as ipFamilyPolicy says.
    """
    spec = service.spec
    if spec.type != "LoadBalancer" or spec.load_balancer_class not in ("", LOAD_BALANCER_CLASS):
        return None
    if not spec.load_balancer_class and _given_by_others(service.ingress, pools):
        return None
    pool, complaint = _pool(service.metadata.annotations, pools)
    asked = service.metadata.annotations.get(ADDRESSES_ANNOTATION, spec.load_balancer_ip)
    texts = [text.strip() for text in asked.split(",")]
    known = _read(texts)
    if bad := [text for text in texts if text and parse_address(text) is None]:
        complaint = f"no IP addresses: {', '.join(map(repr, bad))}"
    wishes = [Wish(address.version, address) for address in known]
    named = {address.version for address in known}
    for family in spec.ip_families or ("IPv4",):
        version = _VERSIONS.get(family)
        if version is not None and version not in named:
            wishes.append(Wish(version))
    return Request(
        service.key,
        service.age_key,
        tuple(wishes),
        len(wishes),
        pool,
        _held((ingress.ip for ingress in service.ingress), pools),
        complaint=complaint,
    )


def _given_by_others(ingress: tuple[LoadBalancerIngress, ...], pools: Pools) -> bool:
    """Whether an address stands there that can't have come from us."""
    addresses = [parse_address(entry.ip) for entry in ingress]
    return any(address is None or not pools.pool_of(address) for address in addresses)


def _pool(annotations: dict[str, str], pools: Pools) -> tuple[str, str]:
    """The pool that is named, and what is wrong with that."""
    name = annotations.get(POOL_ANNOTATION, "")
    if not name or name in pools.names:
        return name, ""
    return name, f"there is no address pool {name!r}; there are {', '.join(pools.names)}"


def _read(texts: Iterable[str]) -> list[Address]:
    """Those that are addresses, doubles left out."""
    return [address for address in dict.fromkeys(map(parse_address, texts)) if address is not None]


def _held(texts: Iterable[str], pools: Pools) -> tuple[Address, ...]:
    return tuple(address for address in _read(texts) if pools.pool_of(address))
