"""The demo as root: a Gateway balances real traffic over two nodes, all of it on this machine."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

from demo_showing import DemoError, finished, heading, step, table, verdict

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from blixt_lab import Cluster, cluster, wait_for  # noqa: E402 - the lab is found only with the path above
from blixt_lab.blixt import Blixt  # noqa: E402
from blixt_lab.daemon import script  # noqa: E402
from blixt_lab.host import Host  # noqa: E402
from blixt_lab.load import hammering, holding, start_servers  # noqa: E402
from blixt_lab.samples import Samples  # noqa: E402
from blixt_lab.traffic import Hammered, TalkError, Target, ask, spread  # noqa: E402

SAMPLES = ROOT / "config" / "samples"
WEB4, WEB6 = Target("tcp", "192.0.2.10", 8080), Target("tcp", "2001:db8:100::10", 8080)
DNS4, HELLO6 = Target("udp", "192.0.2.10", 5353), Target("udp", "2001:db8:100::20", 5353)
#: Three points are four standard deviations of the largest share of so many draws.
CONNECTIONS, POINTS = 4000, 3.0
PROGRAMS = {"ip": "iproute2", "bridge": "iproute2", "ethtool": "ethtool", "nsenter": "util-linux"}


def show(keep: bool) -> None:
    """Set up a lab of network namespaces, balance traffic over it with Blixt, and show what happens.

    Raises click.ClickException if it can't be, or if something went wrong.
    """
    if missing := list(missing_prerequisites()):
        raise click.ClickException("\n       ".join(missing))
    started = time.monotonic()
    with cluster(nodes=2, pods=2) as lab:
        samples = Samples(SAMPLES, lab.lab.folder / "samples")
        blixt = Blixt(lab, samples.folder)
        try:
            show_topology(lab)
            bring_up(lab, blixt)
            show_spread(lab, samples)
            show_scaling(lab, samples)
            show_kills(lab, blixt, samples)
        except (DemoError, AssertionError, TalkError, RuntimeError) as error:
            click.echo(blixt.logs(), err=True)
            raise click.ClickException(f"demo: failed: {error}") from error
        finally:
            if keep:
                lab.lab.entry.keep()
                show_handles(lab, blixt)
    finished(started)


def missing_prerequisites() -> Iterator[str]:
    """A line for each thing that the demo needs and lacks: what, and what to do."""
    for program, package in PROGRAMS.items():
        if not shutil.which(program):
            yield f"`{program}` is not on PATH: apt-get install {package}"
    for name in ("blixt-frontend", "blixt-backend"):
        try:
            script(name)
        except FileNotFoundError as error:
            yield f"{error}: make setup"
    if not list((ROOT / "backend" / "blixt_backend" / "objects").glob("*.bpf.o")):
        yield "the eBPF programs are not compiled: make bpf"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        yield "this kernel has no BTF (/sys/kernel/btf/vmlinux): use one that has"


def show_topology(lab: Cluster) -> None:
    heading("Topology: every host is a network namespace")
    rows = [("host", "IPv4", "IPv6", "")]
    rows += [(host.name, host.address4, host.address6, "on the fabric") for host in lab.clients]
    for node in lab.nodes:
        rows.append((node.name, node.address4, node.address6, "on the fabric, runs blixt-backend"))
        rows += [(f"  {pod.name}", pod.address4, pod.address6, "") for pod in lab.pods_of(node)]
    rows.append(("control", lab.control.address4, lab.control.address6, "on the fabric, runs blixt-frontend"))
    table(rows)
    click.echo(f"\n  Gateway demo/edge: {WEB4} and {WEB6} to blue (70) and green (30), {DNS4} to dns.")
    click.echo(f"  Service demo/hello: {HELLO6}. The client sends all of it to node1.")


def bring_up(lab: Cluster, blixt: Blixt) -> None:
    heading("Daemons")
    with step("the pods' servers answer"):
        start_servers(lab.lab, lab.pods)
    with step("frontend and backends serve the samples"):
        blixt.start()
        for target in (WEB4, WEB6, DNS4, HELLO6):
            wait_for(partial(answered, lab.client, target, blixt), f"an answer from {target}", timeout=30)


def answered(client: Host, target: Target, blixt: Blixt) -> bool:
    """Whether the target answers. Raises DemoError if a daemon has ended."""
    for daemon in blixt.daemons:
        if not daemon.running:
            raise DemoError(f"{daemon.name} ended with exit code {daemon.exit_code}")
    try:
        client.do(ask(target, patience=0.5))
    except TalkError:
        return False
    return True


def show_spread(lab: Cluster, samples: Samples) -> None:
    web, dns = samples.route_shares("TCPRoute", "web"), samples.route_shares("UDPRoute", "dns")
    for title, target, services in (
        ("TCP", WEB4, web),
        ("UDP", DNS4, dns),
        ("TCP over IPv6", WEB6, web),
        ("UDP over IPv6", HELLO6, {"hello": 1.0}),
    ):
        spread_of(lab, samples, title, target, services)


def spread_of(lab: Cluster, samples: Samples, title: str, target: Target, services: dict[str, float]) -> None:
    got = lab.client.do(spread(target, CONNECTIONS))
    heading(f"Spread, {title}: {CONNECTIONS} connections to {target} in {got.seconds:.1f} s")
    family = "IPv6" if ":" in target.address else "IPv4"
    rows = [("endpoint", "behind", "answers", "share", "by weight", "off by")]
    largest = 0.0
    for service, weight in services.items():
        addresses = samples.endpoint_addresses(service, family)
        for address in addresses:
            pod = lab.pod_by_address(address)
            share, expected = 100 * got.share(pod.name), 100 * weight / len(addresses)
            largest = max(largest, abs(share - expected))
            shares = (f"{share:.1f} %", f"{expected:.1f} %", f"{share - expected:+.1f}")
            rows.append((pod.name, service, str(got.answers[pod.name]), *shares))
    table(rows, "  rrrr")
    verdict(not got.failed, f"failed: {got.failed} {dict(got.failures) or ''}".rstrip())
    verdict(largest <= POINTS, f"within {POINTS:g} points of the weights")


def show_scaling(lab: Cluster, samples: Samples) -> None:
    pod = lab["pod-2-1"]
    heading(f"Scaling away {pod.name}, one of blue's two, while connections keep coming to {WEB4}")
    rows = [("EndpointSlice says", "connections", f"of them to {pod.name}", "failed")]
    with hammering(lab.client, WEB4, rate=300) as hammered:
        result = hammered.result
        rows.append(("ready", *phase(result, pod, lambda: None, 200)))
        rows.append(("terminating", *phase(result, pod, lambda: samples.terminate(pod), 200)))
        still = until_unused(result, pod)
        rows.append(("gone", *phase(result, pod, lambda: samples.remove(pod), 300)))
        after = until_unused(result, pod)
    table(rows, " rrr")
    verdict(not result.failures, f"failed connections: {len(result.failures)} of {result.tried}")
    verdict(still and after, f"{pod.name} gets no new ones any more")


def phase(result: Hammered, pod: Host, change: Callable[[], None], count: int) -> tuple[str, str, str]:
    """Make a change, and wait for so many more connections: all, those to the pod, failed ones."""
    before, failed = Counter(result.answers), len(result.failures)
    change()
    wait_for(
        lambda: result.answers.total() + len(result.failures) >= before.total() + failed + count,
        f"{count} more connections",
    )
    new = result.answers - before
    return str(new.total()), str(new[pod.name]), str(len(result.failures) - failed)


def until_unused(result: Hammered, pod: Host) -> bool:
    """Wait until 50 connections in a row went elsewhere."""

    def unused() -> bool:
        before = Counter(result.answers)
        wait_for(lambda: result.answers.total() >= before.total() + 50, "more connections")
        return result.answers[pod.name] == before[pod.name]

    return wait_for(unused, f"new connections to avoid {pod.name}", interval=0)


def show_kills(lab: Cluster, blixt: Blixt, samples: Samples) -> None:
    heading("kill -9 of the frontend and both backends, with connections open")
    with ExitStack() as stack:
        held = {
            target: stack.enter_context(holding(lab.client, target, count, interval=0.3)).result
            for target, count in ((WEB4, 150), (WEB6, 50), (DNS4, 25), (HELLO6, 25))
        }

        def exchanges(count: int) -> None:
            marks = {target: result.exchanges for target, result in held.items()}
            wait_for(
                lambda: all(
                    held[at].exchanges >= mark + count * held[at].wanted for at, mark in marks.items()
                ),
                "every connection to go on",
            )

        with step("killed; every open connection went on twice without them"):
            for daemon in blixt.daemons:
                daemon.kill9()
            exchanges(2)
        new = lab.client.do(spread(WEB4, 200))
        with step("restarted; the new ones are in charge: the pod that was scaled away is back"):
            blixt.start()
            samples.restore(SAMPLES)
            pod = lab["pod-2-1"]
            wait_for(lambda: lab.client.do(spread(WEB4, 50)).answers[pod.name], f"connections to {pod.name}")
            exchanges(2)
    rows = [("connections", "open", "dropped", "unanswered", "exchanges")]
    for target, result in held.items():
        unanswered = str(result.missed.total())
        rows.append((str(target), str(result.open), str(len(result.lost)), unanswered, str(result.exchanges)))
    table(rows, " rrrr")
    results = held.values()
    dropped = sum(len(result.lost) + result.moved for result in results)
    verdict(not new.failed, f"new connections without any daemon that failed: {new.failed} of 200")
    verdict(not dropped, f"dropped: {dropped} of {sum(result.wanted for result in results)}")
    verdict(not any(result.missed for result in results), "no datagram went unanswered")


def show_handles(lab: Cluster, blixt: Blixt) -> None:
    heading("Left up, to look around")
    backend, python = script("blixt-backend"), sys.executable
    for node in lab.nodes:
        inside = " ".join(node.command())
        click.echo(f"  {inside}  # a shell on {node.name}")
        for command in ("status", "services", "connections", "drops"):
            click.echo(f"  {inside} {backend} {command} --pin-root {blixt.pin_root(node)}")
    traffic = (
        f"{' '.join(lab.client.command())} env PYTHONPATH={ROOT / 'tests'} {python} -m blixt_lab.traffic"
    )
    click.echo(f"  {traffic} spread tcp {WEB4.address} {WEB4.port}")
    click.echo(f"  edit {blixt.folder.path}, read {lab.lab.entry.logs}")
    click.echo(f"Take it down: PYTHONPATH={ROOT / 'tests'} {python} -m blixt_lab down {lab.lab.id}")
