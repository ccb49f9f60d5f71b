"""What a node's packets cost through Blixt, as ratios to plain routing in the same run.

Plain: the client writes to the pods, and the node only routes. Every candidate has a topology of its own, all
up at once. They are measured in turn, round by round, and a ratio is the median of the rounds' own ratios, so
that what else the machine does hits all of them alike.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import click

from bench import daemons, loads, report, topology
from bench.topology import Topology
from blixt_lab import Lab, open_lab, scale

_METRICS = (loads.CONNECTIONS, loads.PACKETS, loads.BULK)
PLAIN = "plain"
_NODE = "node1"


@dataclass(frozen=True, slots=True)
class Candidate:
    name: str
    services: int
    topology: Topology
    #: Where the client sends to.
    targets: list[str]


def service_manifests(pods: Topology) -> list[scale.Manifest]:
    """The service under test: one load balancer address of each family, all pods, a port for each load."""
    ports = [
        {"name": "crr", "port": loads.CRR_PORT, "protocol": "TCP"},
        {"name": "udp", "port": loads.UDP_PORT, "protocol": "UDP"},
        {"name": "bulk", "port": loads.BULK_PORT, "protocol": "TCP"},
        {"name": "echo", "port": loads.ECHO_PORT, "protocol": "UDP"},
    ]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "measured", "namespace": "bench"},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.10",
            "clusterIPs": ["10.96.0.10", "fd00:10:96::10"],
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "PreferDualStack",
            "allocateLoadBalancerNodePorts": False,
            "ports": ports,
        },
        "status": {"loadBalancer": {"ingress": [{"ip": ip} for ip in topology.SERVICE_ADDRESS.values()]}},
    }
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"}}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": _NODE}}
    slices = [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"measured-v{family}",
                "namespace": "bench",
                "labels": {"kubernetes.io/service-name": "measured"},
            },
            "addressType": f"IPv{family}",
            "ports": ports,
            "endpoints": [
                {"addresses": [address], "conditions": {"ready": True}, "nodeName": _NODE}
                for address in pods.pod_addresses(family)
            ],
        }
        for family in (4, 6)
    ]
    return [namespace, node, service, *slices]


def start_balanced(
    lab: Lab, built: Topology, services: int, family: int, *more: str, xdp: str = "auto"
) -> Candidate:
    """A topology's node gets a backend, with `services` services in all, one of them measured."""
    name = built.name
    folder = lab.folder / f"{name}-manifests"
    folder.mkdir()
    scale.write(folder / "measured.json", service_manifests(built))
    scale.write(folder / "others.yaml", scale.Scale(services - 1).manifests())
    bpffs = lab.bpffs / name
    bpffs.mkdir()
    address = f"unix:{lab.folder / name}.sock"
    flags = daemons.ebpf_flags(bpffs, topology.UPLINK, topology.POD_DEVICES, xdp)
    pair = (
        daemons.frontend(lab, built.node, folder, address),
        daemons.backend(lab, built.node, address, _NODE, *flags, *more),
    )
    applied = f"applied all {services} services"
    daemons.wait_while_running(pair, lambda: applied in pair[1].log.read_text() or None, applied)
    return Candidate(name, services, built, [topology.SERVICE_ADDRESS[family]])


def measure(
    generator: loads.Generator,
    candidates: Sequence[Candidate],
    rounds: int,
    metrics: Sequence[loads.Metric] = _METRICS,
) -> list[report.Row]:
    """All metrics of all candidates, interleaved, after one round that isn't counted."""
    samples: dict[tuple[str, str], list[loads.Sample]] = {}
    for number in range(rounds + 1):
        for metric in metrics:
            turn = number % len(candidates)
            for candidate in (*candidates[turn:], *candidates[:turn]):
                sample = generator.measure(metric, candidate.topology, candidate.targets)
                if number:
                    samples.setdefault((metric.name, candidate.name), []).append(sample)
        click.echo(f"round {number} of {rounds}" if number else "warmed up", err=True)
    rows = []
    for metric in metrics:
        plain = samples[metric.name, PLAIN]
        for candidate in candidates:
            taken = samples[metric.name, candidate.name]
            row = report.summarise(
                candidate.name,
                candidate.services,
                metric.name,
                metric.unit,
                [sample.value for sample in taken],
                delivered=min(sample.delivered for sample in taken),
            )
            ratio = median(one.value / base.value for one, base in zip(taken, plain, strict=True))
            rows.append(replace(row, ratio=ratio, ratio_to=PLAIN))
    return rows


@click.command(context_settings={"show_default": True})
@click.option("--rounds", type=click.IntRange(1), default=7, help="Rounds that are counted.")
@click.option("--seconds", type=click.IntRange(1, 60), default=1, help="Length of one measurement.")
@click.option("--pods", type=click.IntRange(1, 16), default=4, help="Endpoints of the measured service.")
@click.option(
    "--services",
    type=click.IntRange(1, 50_000),
    multiple=True,
    default=(1, 10_000),
    help="Services that the node serves. Repeatable: a candidate each.",
)
@click.option("--family", type=click.Choice(["4", "6"]), default="4", help="IP version.")
@click.option(
    "--xdp",
    type=click.Choice(["auto", "native", "generic", "off"]),
    default="auto",
    help="XDP on the node's uplink, as the backend's flag.",
)
def main(rounds: int, seconds: int, pods: int, services: tuple[int, ...], family: str, xdp: str) -> None:
    """Connect rate, UDP packet rate and bulk TCP through one node, as ratios to plain routing.

    Needs root. Writes build/bench/results.json; the ratios mean something, the absolute figures hardly.
    """
    version = int(family)
    try:
        program = loads.compile_generator(report.RESULTS.absolute())
        with open_lab() as lab:
            plain = topology.build(lab, PLAIN, pods)
            candidates = [Candidate(PLAIN, 0, plain, plain.pod_addresses(version))]
            for count in services:
                built = topology.build(lab, f"blixt-{count}", pods)
                candidates.append(start_balanced(lab, built, count, version, xdp=xdp))
            rows = measure(loads.Generator(program, seconds), candidates, rounds)
    except (loads.LoadError, OSError, RuntimeError, AssertionError) as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(1)
    click.echo(report.table(rows))
    click.echo(f"written to {report.write(f'dataplane-v{family}', rows)}")


if __name__ == "__main__":
    main()
