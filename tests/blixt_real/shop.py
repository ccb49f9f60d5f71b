"""One test's objects, in a namespace of their own: pods, a Service, a Gateway and its routes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from blixt_control_plane import ApiError, workloads
from blixt_lab import Host, wait_for
from blixt_lab.traffic import Target, spread
from blixt_real.cluster import RealCluster

GATEWAY_API = "gateway.networking.k8s.io"
PORTS = {"tcp": 80, "udp": 53}
Json = dict[str, Any]


def service(name: str, app: str, kind: str = "ClusterIP") -> Json:
    """A Service of both families for the pods of an app, with ports 80/TCP and 53/UDP."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "type": kind,
            "selector": {"app": app},
            "ipFamilyPolicy": "RequireDualStack",
            "ports": [
                {"name": "tcp", "protocol": "TCP", "port": PORTS["tcp"], "targetPort": 8080},
                {"name": "udp", "protocol": "UDP", "port": PORTS["udp"], "targetPort": 5353},
            ],
        },
    }


def gateway(name: str) -> Json:
    """A Gateway with a TCP and a UDP listener, on addresses out of the pool."""
    listeners = [{"name": each, "protocol": each.upper(), "port": port} for each, port in PORTS.items()]
    return {
        "apiVersion": f"{GATEWAY_API}/v1",
        "kind": "Gateway",
        "metadata": {"name": name},
        "spec": {"gatewayClassName": "blixt", "listeners": listeners},
    }


def routes(gateway_name: str, **weights: int) -> list[Json]:
    """A TCPRoute and a UDPRoute from all of a Gateway's listeners to Services, by weight."""
    return [
        {
            "apiVersion": f"{GATEWAY_API}/v1",
            "kind": f"{protocol.upper()}Route",
            "metadata": {"name": gateway_name},
            "spec": {
                "parentRefs": [{"name": gateway_name}],
                "rules": [
                    {
                        "backendRefs": [
                            {"name": name, "port": port, "weight": weight} for name, weight in weights.items()
                        ]
                    }
                ],
            },
        }
        for protocol, port in PORTS.items()
    ]


class Shop:
    """A namespace, what is in it, and how it is reached."""

    def __init__(self, real: RealCluster, namespace: str) -> None:
        self.real = real
        self.namespace = namespace
        self._api = real.plane.api()
        self._pods: set[str] = set()
        real.plane.namespace(namespace)

    # --- what is applied ---

    def kubectl(self, *arguments: str) -> str:
        return self.real.plane.kubectl(*arguments, "--namespace", self.namespace)

    def apply(self, *objects: Json) -> None:
        """By kubectl."""
        self.real.plane.apply(list(objects), "--namespace", self.namespace)

    def wait(self, what: str, condition: str) -> None:
        """As people do, by kubectl."""
        self.kubectl("wait", what, f"--for={condition}", "--timeout=60s")

    def run(self, app: str, *pods: str) -> None:
        """Let the lab's pods, by short names such as 1-1, be ready pods of an app."""
        for name in pods:
            pod = self.pod(name)
            node = self.real.lab.node_of(pod).name
            addresses = [pod.address4, pod.address6]
            workloads.run_pod(self._api, self.namespace, f"{app}-{name}", node, addresses, {"app": app})
            self._pods.add(f"{app}-{name}")

    def terminate(self, app: str, pod: str) -> None:
        """Begin to delete a pod of an app, which serves on until `remove`."""
        workloads.terminate_pod(self._api, self.namespace, f"{app}-{pod}")

    def remove(self, app: str, pod: str) -> None:
        workloads.remove_pod(self._api, self.namespace, f"{app}-{pod}")
        self._pods.discard(f"{app}-{pod}")

    def close(self) -> None:
        """Delete all of it, without waiting. Without a kubelet, pods would be terminating for ever."""
        with contextlib.suppress(ApiError, OSError):  # a test that failed may have left no API server
            for pod in self._pods:
                workloads.remove_pod(self._api, self.namespace, pod)
            self.real.plane.delete_namespace(self.namespace)

    # --- what is there ---

    def pod(self, name: str) -> Host:
        return self.real.lab[f"pod-{name}"]

    def get(self, kind: str, name: str) -> Json:
        group = "api/v1" if kind == "services" else f"apis/{GATEWAY_API}/v1"
        found: Json = self._api.get(f"/{group}/namespaces/{self.namespace}/{kind}/{name}")
        return found

    def gateway(self, name: str = "edge") -> list[Target]:
        """TCP and UDP, at each address that the Gateway's status tells."""
        return _targets(one["value"] for one in self.get("gateways", name)["status"]["addresses"])

    def balancer(self, name: str = "web") -> list[Target]:
        """The same of the addresses that a Service of type LoadBalancer was given."""
        ingress = self.get("services", name)["status"]["loadBalancer"]["ingress"]
        return _targets(one["ip"] for one in ingress)

    def inside(self, name: str = "web") -> list[Target]:
        """The same of a Service's cluster IPs."""
        return _targets(self.get("services", name)["spec"]["clusterIPs"])

    def answers(self, host: Host, target: Target, count: int = 24) -> set[str]:
        """Who answers so many new conversations (pods by short names); and why if somebody doesn't."""
        seen = host.do(spread(target, count, concurrency=8, patience=1.0))
        return {name.removeprefix("pod-") for name in seen.answers} | set(seen.failures)

    def await_answers(self, expected: set[str], *targets: Target, host: Host | None = None) -> None:
        """Wait until just these answer at each of the targets."""
        client = host or self.real.lab.client
        for target in targets:

            def as_expected(target: Target = target) -> bool:
                return self.answers(client, target) == expected

            wait_for(as_expected, f"{target} to be answered by {expected}", 60)

    def await_silence(self, *targets: Target) -> None:
        """Wait until nobody answers at any of the targets."""
        for target in targets:

            def silent(target: Target = target) -> bool:
                return self.answers(self.real.lab.client, target, count=1) == {"timeout"}

            wait_for(silent, f"{target} to be silent", 60)


def _targets(addresses: Iterable[str]) -> list[Target]:
    return [Target(protocol, address, port) for address in addresses for protocol, port in PORTS.items()]
