"""What the programs themselves take for a packet, in ns: test runs, net of an empty program and of the
rearming.

Two nodes serve one endpoint behind many services. One has it in a pod, as nodes do: TC redirects into the
pod. The other has it behind a second uplink, where XDP may carry known flows. Flows are brought about as
clients and pods do it, packet by packet, and a run counts only if it ended within the tick that all its
flows were last seen in, since the way on is looked up again once a tick.
"""

from __future__ import annotations

import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

from bench import daemons, loads, report, service, topology
from bench.candidates import forget_flows
from bench.program_runs import Hook, Packets, Runner, pinned_program
from bench.report import Row, summarise
from bench.topology import Topology
from blixt_backend.planes.ebpf.layout import COUNTER_FIELDS, IPV4, TICK_SHIFT
from blixt_backend.planes.ebpf.maps import BpfMap
from blixt_backend.planes.ebpf.pins import Pins
from blixt_lab import Host, Lab, scale

_SUBJECT = "blixt"
_TRIES = 5
_SYN, _SYN_ACK, _ACK = 0x02, 0x12, 0x10
#: Flows of runs that open some; those that are known are below.
_FIRST_NEW = 1 << 24
_TICK = (1 << TICK_SHIFT) / 1e9
#: TC's and XDP's verdicts.
_REDIRECT, _XDP_REDIRECT, _XDP_PASS, _NEXT = 7, 4, 2, -1
_CARRYING = (_REDIRECT, _XDP_REDIRECT)
_PACKETS_IN = COUNTER_FIELDS.index("packets_in")
_CLIENTS, _NOBODY = "198.18.0.0", "203.0.113.9"


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is run: known flows by so many, each a power of two, and at least so many packets a run."""

    flows: tuple[int, ...] = (1, 1 << 10, 1 << 16, 1 << 18)
    packets: int = 100_000

    @property
    def entries(self) -> int:
        """Of the tables of flows: a connection takes two, and of those that are known none is thrown out."""
        return 4 * max(self.flows)


FULL, QUICK = Extent(), Extent((1, 1 << 10, 1 << 14), 1 << 15)


@dataclass(frozen=True, slots=True)
class Node:
    """A node whose programs are run, and the packets that it is given."""

    host: Host
    root: Path
    uplink: int
    inner: int
    #: Hooks of the two, as pinned links are named.
    ingress: int
    reply_ingress: int
    fast: int | None
    macs: tuple[bytes, bytes, bytes]  # node, client, pod
    endpoint: bytes

    def from_client(self, flags: int, *, flows: int = 0, first: int = 0) -> Packets:
        return Packets(
            self.macs[0] + self.macs[1],
            ip_address(_CLIENTS).packed,
            ip_address(service.ADDRESS[4]).packed,
            loads.CRR_PORT,
            flags,
            flows=flows,
            first=first,
        )

    def from_endpoint(self, flows: int) -> Packets:
        return Packets(
            self.macs[0] + self.macs[2],
            ip_address(_CLIENTS).packed,
            self.endpoint,
            loads.CRR_PORT,
            _SYN_ACK,
            to_flow=True,
            flows=flows,
        )


def measure(
    lab: Lab, services: Sequence[int], extent: Extent, rounds: int, say: Callable[[str], None]
) -> list[Row]:
    """Rows for the largest of several numbers of services. Raises BpfError, RuntimeError."""
    count = max(services)
    nodes = [_start(lab, f"programs-{hook.value}", count, extent, hook is Hook.XDP) for hook in Hook]
    found: defaultdict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        for node in nodes:
            for metric, nanoseconds in node.host.call(lambda: list(_round(node, extent))):  # noqa: B023
                found[metric].append(nanoseconds)
        say(f"test runs: round {number + 1} of {rounds}")
    return [summarise(_SUBJECT, count, metric, "ns", values) for metric, values in found.items()]


def _start(lab: Lab, name: str, services: int, extent: Extent, by_uplinks: bool) -> Node:
    built = topology.build(lab, name, 1)
    folder, root = lab.folder / name, lab.bpffs / name
    folder.mkdir()
    root.mkdir()
    scale.write(folder / "all.json", service.manifests(services, built))
    pods = "none*" if by_uplinks else topology.POD_DEVICES
    flags = daemons.ebpf_flags(root, topology.UPLINK, pods, "native" if by_uplinks else "off")
    flags += ["--interface", topology.POD_DEVICES] if by_uplinks else []
    entries = str(extent.entries)
    flags += ["--socket-lb", "off", "--max-connections", entries, "--max-embryos", entries]
    address = f"unix:{folder}.sock"
    pair = (
        daemons.frontend(lab, built.node, folder, address),
        daemons.backend(lab, built.node, address, service.NODE, *flags),
    )
    daemons.wait_for_words(pair[1], f"applied all {services} services", pair)
    daemons.wait_until_looked(root, pair)
    for daemon in reversed(pair):
        daemon.terminate()
    return _node(built, root, by_uplinks)


def _node(built: Topology, root: Path, by_uplinks: bool) -> Node:
    uplink, inner = (_ifindex(built.node, name) for name in (topology.UPLINK, "pod1"))
    links = Pins(root).links(IPV4)
    hosts = (built.node, built.client, built.pods[0])
    return Node(
        host=built.node,
        root=root,
        uplink=uplink,
        inner=inner,
        ingress=pinned_program(links / f"uplink_ingress-{uplink}"),
        reply_ingress=pinned_program(links / f"{'uplink' if by_uplinks else 'pod'}_ingress-{inner}"),
        fast=pinned_program(links / f"xdp_native-{uplink}") if by_uplinks else None,
        macs=tuple(bytes.fromhex(host.mac.replace(":", "")) for host in hosts),  # type: ignore[arg-type]
        endpoint=ip_address(built.pods[0].address4).packed,
    )


def _round(node: Node, extent: Extent) -> Iterator[tuple[str, float]]:
    """(metric, net ns) once for each."""
    with Runner(report.RESULTS.absolute()) as runner:
        bench = _Round(runner, node, extent)
        if node.fast is not None:
            yield from bench.known_flows(Hook.XDP, node.fast, _XDP_REDIRECT)
            yield from bench.misses(Hook.XDP, node.fast, _XDP_PASS)
        else:
            yield from bench.known_flows(Hook.TC, node.ingress, _REDIRECT)
            yield from bench.new_flows()
            yield from bench.misses(Hook.TC, node.ingress, _NEXT)
        forget_flows(node.root)


class _Round:
    def __init__(self, runner: Runner, node: Node, extent: Extent) -> None:
        self._runner, self._node, self._extent = runner, node, extent

    def known_flows(self, hook: Hook, program: int, wanted: int) -> Iterator[tuple[str, float]]:
        """With no others in the tables: whatever came into a chain of a hash table later is met before."""
        for flows in self._extent.flows:
            forget_flows(self._node.root)
            self._establish(flows)
            spent = self._in_one_tick(self._node.from_client(_ACK, flows=flows), hook, program, wanted)
            yield f"{hook.name}, known flow, {flows:,} flow{'s' if flows > 1 else ''}", spent

    def new_flows(self) -> Iterator[tuple[str, float]]:
        ingress, entries = self._node.ingress, self._extent.entries
        forget_flows(self._node.root)
        opening = self._node.from_client(_SYN, first=_FIRST_NEW)
        yield "TC, new flow", self._net(Hook.TC, ingress, opening, _REDIRECT)
        filling = replace(opening, first=2 * _FIRST_NEW)
        self._runner.run(Hook.TC, ingress, filling, self._node.uplink, entries + entries // 8)
        more = replace(opening, first=3 * _FIRST_NEW)
        yield "TC, new flow, table full", self._net(Hook.TC, ingress, more, _REDIRECT)

    def misses(self, hook: Hook, program: int, wanted: int) -> Iterator[tuple[str, float]]:
        miss = replace(self._node.from_client(_ACK, flows=1 << 10), fixed=ip_address(_NOBODY).packed)
        yield f"{hook.name}, not ours", self._net(hook, program, miss, wanted)

    def _establish(self, flows: int) -> None:
        """SYN, SYN and ACK, ACK: after that a flow is a connection."""
        node, run = self._node, self._runner.run
        run(Hook.TC, node.ingress, node.from_client(_SYN, flows=flows), node.uplink, flows)
        run(Hook.TC, node.reply_ingress, node.from_endpoint(flows), node.inner, flows)
        run(Hook.TC, node.ingress, node.from_client(_ACK, flows=flows), node.uplink, flows)

    def _in_one_tick(self, packets: Packets, hook: Hook, program: int, wanted: int) -> float:
        """Raises RuntimeError when the machine is too busy for that."""
        for _ in range(_TRIES):
            _await_tick()
            began = _tick()
            self._runner.run(Hook.TC, self._node.ingress, packets, self._node.uplink, packets.flows)
            measured = self._run(hook, program, packets, max(self._extent.packets, packets.flows))
            if _tick() == began:
                return measured.checked(wanted)
        raise RuntimeError(f"test runs over {packets.flows:,} flows never ended within {_TICK:.1f} s")

    def _net(self, hook: Hook, program: int, packets: Packets, wanted: int) -> float:
        return self._run(hook, program, packets, self._extent.packets).checked(wanted)

    def _run(self, hook: Hook, program: int, packets: Packets, times: int) -> _Measured:
        node, run = self._node, self._runner.run
        _, idle = run(hook, self._runner.nothing(hook), packets, node.uplink, times)
        before = _carried(node)
        verdict, spent = run(hook, program, packets, node.uplink, times)
        return _Measured(hook, times, verdict, _carried(node) - before, spent - idle)


@dataclass(frozen=True, slots=True)
class _Measured:
    hook: Hook
    times: int
    verdict: int
    carried: int
    net: int

    def checked(self, wanted: int) -> float:
        """Net ns. RuntimeError where the verdict isn't the wanted one, or packets weren't carried."""
        should = self.times if wanted in _CARRYING else 0
        if self.verdict != wanted or self.carried != should:
            raise RuntimeError(
                f"a test run of {self.hook.name} over {self.times:,} packets carried {self.carried:,}, "
                f"not {should:,}, and ended with verdict {self.verdict}, not {wanted}"
            )
        return float(self.net)


def _carried(node: Node) -> int:
    """Clients' packets that the node's programs have counted for services."""
    with BpfMap.open(Pins(node.root).maps(IPV4) / "counters") as counters:
        return sum(sums[_PACKETS_IN] for _, sums in counters.summed())


def _tick() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) >> TICK_SHIFT


def _await_tick() -> None:
    """Until another one has just begun, also on the kernel's coarse clock, which is some ms behind."""
    time.sleep(_TICK - time.clock_gettime(time.CLOCK_MONOTONIC) % _TICK + 0.02)


def _ifindex(host: Host, device: str) -> int:
    return host.call(lambda: socket.if_nametoindex(device))
