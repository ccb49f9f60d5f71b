"""A shop that is open, and a change of it that shows whether Blixt still follows."""

from __future__ import annotations

import json

from blixt_lab import wait_for
from blixt_lab.traffic import TalkError, Target, ask
from blixt_real.figures import Clock, Figures
from blixt_real.shop import PORTS, Json, Shop, gateway, routes, service
from blixt_real.stream import Stream

_NEW_PORT = 8080
_NEW_POD = "2-2"


def open_shop(shop: Shop) -> None:
    """A pod on each node, behind a Gateway with routes and a Service with all kinds of addresses."""
    shop.apply(service("web", "web", "LoadBalancer"), gateway("edge"), *routes("edge", web=1))
    shop.run("web", "1-1", "2-1")
    shop.wait("gateway/edge", "condition=Programmed")
    shop.wait("service/web", "jsonpath={.status.loadBalancer.ingress}")
    shop.await_answers({"1-1", "2-1"}, *shop.gateway(), *shop.balancer(), *shop.inside())


def streams_of_services(shop: Shop) -> list[Stream]:
    """By the load balancer's addresses from outside, by cluster IPs from a pod and from a node."""
    tcp4, _, _, udp6 = shop.inside()
    return [
        *(Stream(shop.real.lab.client, target, held=10, rate=10) for target in shop.balancer()),
        Stream(shop.pod("1-2"), tcp4, held=5, rate=5),
        Stream(shop.real.lab["node2"], udp6, held=5, rate=5),
    ]


def streams(shop: Shop) -> list[Stream]:
    """The same, and by the Gateway."""
    return [
        *(Stream(shop.real.lab.client, target) for target in shop.gateway()),
        *streams_of_services(shop),
    ]


def grow(shop: Shop) -> None:
    """A pod more, a listener more, another weight: the Gateway and the TCPRoute are new generations."""
    shop.run("web", _NEW_POD)
    listener = {"name": "more", "protocol": "TCP", "port": _NEW_PORT}
    patches = {
        "gateway/edge": {"op": "add", "path": "/spec/listeners/-", "value": listener},
        "tcproute/edge": {"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 2},
    }
    for what, patch in patches.items():
        shop.kubectl("patch", what, "--type=json", f"--patch={json.dumps([patch])}")


def await_growth(shop: Shop, clock: Clock, figures: Figures) -> None:
    """Wait until what `grow` did carries traffic, and is told of; by the clock, how long that took."""

    def both() -> bool:
        if figures.traffic is None and carried(shop):
            figures.traffic = clock.seconds
        if figures.status is None and told(shop):
            figures.status = clock.seconds
        return figures.traffic is not None and figures.status is not None

    wait_for(both, "the change to carry traffic, and to be told of", 60)


def carried(shop: Shop) -> bool:
    """Whether the new listener answers, and the new pod at every old one and the Service."""
    try:
        for target in shop.gateway():
            if target.port == PORTS["tcp"]:
                shop.real.lab.client.do(ask(Target("tcp", target.address, _NEW_PORT), patience=0.3))
    except TalkError:
        return False
    everywhere = [*shop.gateway(), *shop.balancer(), *shop.inside()]
    return all(_NEW_POD in shop.answers(shop.real.lab.client, target) for target in everywhere)


def told(shop: Shop) -> bool:
    """Whether status speaks of the present generations, and is all that one wants to hear."""
    edge = shop.get("gateways", "edge")
    listeners = edge["status"]["listeners"]
    attached = {one["name"]: one["attachedRoutes"] for one in listeners}
    return (
        all(_holds(edge, one["conditions"], "Programmed") for one in (edge["status"], *listeners))
        and attached == {"tcp": 1, "udp": 1, "more": 1}
        and all(_route_is_told(shop.get(kind, "edge")) for kind in ("tcproutes", "udproutes"))
    )


def _route_is_told(route: Json) -> bool:
    (parent,) = route["status"]["parents"]
    return all(_holds(route, parent["conditions"], each) for each in ("Accepted", "ResolvedRefs"))


def _holds(owner: Json, conditions: list[Json], kind: str) -> bool:
    return any(
        (one["type"], one["status"], one["observedGeneration"])
        == (kind, "True", owner["metadata"]["generation"])
        for one in conditions
    )
