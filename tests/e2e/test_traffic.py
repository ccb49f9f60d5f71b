"""What people apply carries traffic: real packets between hosts, by what a real control plane says."""

from __future__ import annotations

import json
from functools import partial
from ipaddress import ip_address

import pytest

from blixt_control_plane import workloads
from blixt_lab import Host, wait_for
from blixt_lab.load import holding
from blixt_lab.traffic import Target, spread
from blixt_lab.web import get
from blixt_real import Figures, RealCluster, Shop, Stream, undisturbed
from blixt_real.growth import open_shop
from blixt_real.shop import gateway, routes, service

pytestmark = pytest.mark.lab

APPLIED = """\
apiVersion: v1
kind: Service
metadata: {name: hello}
spec:
  selector: {app: hello}
  ipFamilyPolicy: PreferDualStack
  ports:
    - {name: web, port: 8000, targetPort: 8080}
    - {name: dns, port: 53, protocol: UDP, targetPort: 5353}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: blixt
  listeners:
    - {name: web, protocol: TCP, port: 80}
    - {name: dns, protocol: UDP, port: 53}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: web}
spec:
  parentRefs: [{name: edge, sectionName: web}]
  rules: [{backendRefs: [{name: hello, port: 8000}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: UDPRoute
metadata: {name: dns}
spec:
  parentRefs: [{name: edge, sectionName: dns}]
  rules: [{backendRefs: [{name: hello, port: 53}]}]
"""


def test_a_gateway_and_its_routes_become_programmed_and_carry_traffic(real: RealCluster, shop: Shop) -> None:
    """TCP and UDP, IPv4 and IPv6, to pods of both nodes, from outside and from a pod."""
    shop.run("hello", "1-1", "2-1")
    real.plane.apply(APPLIED, "--namespace", shop.namespace)
    shop.wait("gateway/edge", "condition=Programmed")
    for route in ("tcproute/web", "udproute/dns"):
        for condition in ("Accepted", "ResolvedRefs"):
            told = f'{{.status.parents[0].conditions[?(@.type=="{condition}")].status}}'
            shop.wait(route, f"jsonpath={told}=True")
    targets = shop.gateway()
    assert [ip_address(target.address).version for target in targets] == [4, 4, 6, 6]
    for client in (real.lab.client, shop.pod("1-2")):
        shop.await_answers({"1-1", "2-1"}, *targets, host=client)


def test_a_routes_weights_are_the_shares_of_connections(real: RealCluster, shop: Shop) -> None:
    for app, pod in (("blue", "1-1"), ("green", "2-1"), ("none", "2-2")):
        shop.apply(service(app, app))
        shop.run(app, pod)
    shop.apply(gateway("edge"), *routes("edge", blue=7, green=3, none=0))
    shop.wait("gateway/edge", "condition=Programmed")
    tcp4, _, _, udp6 = shop.gateway()

    def shares(target: Target, blue: float, count: int) -> bool:
        """Whether they are as expected, within four standard deviations."""
        seen = real.lab.client.do(spread(target, count))
        near = abs(seen.share("pod-1-1") - blue) < 4 * (blue * (1 - blue) / count) ** 0.5
        return near and not seen.failed and set(seen.answers) == {"pod-1-1", "pod-2-1"}

    shop.await_answers({"1-1", "2-1"}, tcp4, udp6)
    assert shares(tcp4, 0.7, 1500)
    assert shares(udp6, 0.7, 1500)

    for route in routes("edge", blue=1, green=9, none=0):
        what = f"{route['kind'].lower()}/edge"
        shop.kubectl("patch", what, "--type=merge", f"--patch={json.dumps({'spec': route['spec']})}")
    for target in (tcp4, udp6):
        wait_for(partial(shares, target, 0.1, 500), f"the new weights at {target}")


def test_a_pod_that_goes_drains_first(real: RealCluster, shop: Shop) -> None:
    """Told to end it gets nothing new, and its connections go on; once it is gone they end. No others do."""
    open_shop(shop)
    tcp4, udp4, *_ = shop.gateway()
    with (
        holding(real.lab.client, tcp4, 40, interval=0.1) as tcp,
        holding(real.lab.client, udp4, 40, interval=0.1) as udp,
    ):
        of_pod = tcp.result.by_server["pod-1-1"]
        assert 0 < of_pod < 40
        shop.terminate("web", "1-1")
        shop.await_answers({"2-1"}, *shop.gateway(), *shop.balancer(), *shop.inside())
        exchanges = tcp.result.exchanges, udp.result.exchanges
        wait_for(
            lambda: tcp.result.exchanges > exchanges[0] + 80 and udp.result.exchanges > exchanges[1] + 80,
            "every conversation to go on",
        )
        assert tcp.result.lost == []
        assert (udp.result.moved, udp.result.missed.total()) == (0, 0)

        shop.remove("web", "1-1")
        wait_for(lambda: len(tcp.result.lost) == of_pod, "the gone pod's connections to end")
        wait_for(lambda: set(udp.result.by_server) == {"pod-2-1"}, "its UDP flows to move")
    assert {(loss.server, loss.reason) for loss in tcp.result.lost} == {("pod-1-1", "reset")}
    assert tcp.result.open == 40 - of_pod
    assert udp.result.missed.total() == 0


def test_a_pod_that_is_not_ready_gets_nothing_new(real: RealCluster, shop: Shop, figures: Figures) -> None:
    """Its TCP connections go on, and its UDP flows choose another pod: none of them notices."""
    open_shop(shop)
    target = shop.gateway()[0]
    api = real.plane.api()
    held = {"tcp": 20, "udp": 0}
    load = [Stream(real.lab.client, each, held[each.protocol]) for each in shop.gateway()]
    with undisturbed(load, figures):
        shop.run("web", "2-2")
        shop.await_answers({"1-1", "2-1", "2-2"}, target)
        workloads.set_ready(api, shop.namespace, "web-1-1", False)
        shop.await_answers({"2-1", "2-2"}, target)
        workloads.set_ready(api, shop.namespace, "web-1-1", True)
        shop.await_answers({"1-1", "2-1", "2-2"}, target)


def test_services_of_type_load_balancer_get_addresses_of_the_pool_that_answer(shop: Shop) -> None:
    shop.run("hello", "1-1", "2-1")
    shop.apply(service("one", "hello", "LoadBalancer"), service("two", "hello", "LoadBalancer"))
    for name in ("one", "two"):
        shop.wait(f"service/{name}", "jsonpath={.status.loadBalancer.ingress}")
    one, two = shop.balancer("one"), shop.balancer("two")
    assert [ip_address(target.address).version for target in one] == [4, 4, 6, 6]
    assert not {target.address for target in one} & {target.address for target in two}
    shop.await_answers({"1-1", "2-1"}, *one, *two)

    shop.kubectl("delete", "service", "one")
    shop.await_silence(one[0], one[3])
    shop.await_answers({"1-1", "2-1"}, *two)


def test_cluster_ips_answer_pods_and_nodes(real: RealCluster, shop: Shop) -> None:
    """Also a pod that reaches itself, and a node to whose pods the Service belongs."""
    shop.run("hello", "1-1", "2-1")
    shop.apply(service("hello", "hello"))
    clients: list[Host] = [shop.pod("1-1"), shop.pod("1-2"), shop.pod("2-2"), *real.lab.nodes]
    for client in clients:
        shop.await_answers({"1-1", "2-1"}, *shop.inside("hello"), host=client)


def test_load_balancers_leave_nodes_that_are_being_deleted(real: RealCluster, shop: Shop) -> None:
    """By /healthz alone: tainted as the cluster autoscaler does, and deleted while a finalizer holds on."""
    api, client, (node1, node2) = real.plane.api(), real.lab.client, real.lab.nodes
    one, two = (f"/api/v1/nodes/{node.name}" for node in (node1, node2))
    before = api.get(two)

    def told(path: str) -> list[int]:
        return [get(client, node.address4, 10256, path).status for node in (node1, node2)]

    def becomes(*statuses: int) -> None:
        wait_for(lambda: told("/healthz") == list(statuses), f"/healthz to say {statuses}")
        assert told("/livez") == [200, 200]

    becomes(200, 200)
    taint = {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}
    api.patch(one, {"spec": {"taints": [taint]}})
    becomes(503, 200)
    api.patch(one, {"spec": {"taints": None}})
    becomes(200, 200)
    api.patch(two, {"metadata": {"finalizers": ["example.com/hold"]}})
    api.delete(two)
    becomes(200, 503)
    api.patch(two, {"metadata": {"finalizers": None}})
    # The object is gone, the machine isn't yet. One that joins again is told so.
    becomes(200, 503)
    api.post("/api/v1/nodes", {"metadata": {"name": node2.name, "labels": before["metadata"]["labels"]}})
    becomes(200, 200)
