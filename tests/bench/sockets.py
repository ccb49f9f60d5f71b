"""What a pod pays to reach another one of its node through a service, as ratios to reaching it without.

Plain: to the pods' own addresses. Packets: to the service's, which is translated at TC. Sockets: the same,
with --socket-lb on.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import click

from bench import loads, report, topology
from bench.dataplane import PLAIN, Candidate, measure, start_balanced
from bench.topology import Topology
from blixt_lab import Lab, open_lab

_METRICS = (loads.CONNECTIONS, loads.DATAGRAMS, loads.PACKETS, loads.BULK)


def _from_a_pod(built: Topology) -> Topology:
    """The first pod is the client."""
    client, *others = built.pods
    return replace(built, client=client, pods=tuple(others))


def _candidates(lab: Lab, pods: int, services: int, family: int) -> list[Candidate]:
    plain, packets = (_from_a_pod(topology.build(lab, name, pods + 1)) for name in (PLAIN, "packets"))
    cgroup = lab.entry.add_cgroup("sockets")
    sockets = _from_a_pod(topology.build(lab, "sockets", pods + 1, cgroup))
    return [
        Candidate(PLAIN, 0, plain, plain.pod_addresses(family)),
        start_balanced(lab, packets, services, family),
        start_balanced(lab, sockets, services, family, "--socket-lb", "on", "--cgroup", str(cgroup)),
    ]


@click.command(context_settings={"show_default": True})
@click.option("--rounds", type=click.IntRange(1), default=7, help="Rounds that are counted.")
@click.option("--seconds", type=click.IntRange(1, 60), default=1, help="Length of one measurement.")
@click.option("--pods", type=click.IntRange(1, 16), default=4, help="Endpoints of the measured service.")
@click.option("--services", type=click.IntRange(1, 50_000), default=1000, help="Services of the node.")
@click.option("--family", type=click.Choice(["4", "6"]), default="4", help="IP version.")
def main(rounds: int, seconds: int, pods: int, services: int, family: str) -> None:
    """Connect rate, UDP and bulk TCP from pod to pod, by packets and by sockets, as ratios to neither.

    Needs root. Writes build/bench/results.json; the ratios mean something, the absolute figures hardly.
    """
    try:
        program = loads.compile_generator(report.RESULTS.absolute())
        with open_lab() as lab:
            candidates = _candidates(lab, pods, services, int(family))
            rows = measure(loads.Generator(program, seconds), candidates, rounds, _METRICS)
    except (loads.LoadError, OSError, RuntimeError, AssertionError) as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(1)
    click.echo(report.table(rows))
    click.echo(f"written to {report.write(f'sockets-v{family}', rows)}")


if __name__ == "__main__":
    main()
