"""The eBPF plane's command-line options, and their values checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import click

from blixt_backend.planes import nodeports, servicecidrs
from blixt_backend.planes.ebpf import nodes
from blixt_backend.planes.ebpf.devices import DEFAULT_POD_PATTERNS
from blixt_backend.planes.ebpf.sizes import Sizes
from blixt_backend.planes.parsing import parsed
from blixt_backend.planes.pinroot import DEFAULT_PIN_ROOT

_MOST_ENTRIES = 1 << 24


class XdpMode(Enum):
    """Where XDP runs on an uplink."""

    AUTO = "auto"
    NATIVE = "native"
    GENERIC = "generic"
    OFF = "off"


class SocketMode(Enum):
    """Whose endpoints are chosen at the socket."""

    OFF = "off"
    #: Programs on the node's own network.
    NODE = "node"
    #: Pods, too.
    ON = "on"


class Forwarding(Enum):
    """How packets of clients outside reach endpoints of other nodes."""

    SNAT = "snat"
    DSR = "dsr"


@dataclass(frozen=True, slots=True)
class PortRange:
    """Source ports for masquerading: `count` from `first`, host order."""

    first: int = 1024
    count: int = 28976

    def __str__(self) -> str:
        return f"{self.first}-{self.first + self.count - 1}"


class PortRangeType(click.ParamType[PortRange]):
    """FIRST-LAST, both included."""

    name = "range"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> PortRange:
        if isinstance(value, PortRange):
            return value
        first, dash, last = str(value).partition("-")
        if not (dash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= 65535):
            self.fail(f"{value!r} is no range of ports such as 1024-29999", param, ctx)
        return PortRange(int(first), int(last) - int(first) + 1)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the plane was asked to do."""

    interfaces: tuple[str, ...] = ()
    pod_interfaces: tuple[str, ...] = DEFAULT_POD_PATTERNS
    node_ports: nodeports.NodePortAddresses = field(default_factory=nodeports.NodePortAddresses)
    service_cidrs: tuple[servicecidrs.Range, ...] = ()
    xdp: XdpMode = XdpMode.AUTO
    pin_root: Path = DEFAULT_PIN_ROOT
    sizes: Sizes = field(default_factory=Sizes)
    masquerade_ports: PortRange = field(default_factory=PortRange)
    forwarding: Forwarding = Forwarding.SNAT
    #: Empty: whoever is in the uplinks' own networks.
    node_ranges: tuple[nodes.Range, ...] = ()
    socket_lb: SocketMode = SocketMode.NODE
    cgroup: Path | None = None


def pin_root_option() -> click.Option:
    """Also of the commands that read the pins."""
    return click.Option(
        ["--pin-root"],
        type=click.Path(file_okay=False, path_type=Path),
        default=DEFAULT_PIN_ROOT,
        show_default=True,
        help="Where maps and links are pinned: a folder of a BPF file system (mounted if there is none).",
    )


def options() -> list[click.Parameter]:
    sizes = Sizes()
    entries = click.IntRange(1, _MOST_ENTRIES)
    modes = click.Choice([mode.value for mode in XdpMode])
    return [
        click.Option(
            ["--interface", "interfaces"],
            metavar="NAME",
            multiple=True,
            help="An uplink: where clients from outside and other nodes' packets come in. Repeatable; may be "
            "a pattern such as 'eth*', which also takes interfaces that come later.",
        ),
        click.Option(
            ["--pod-interface", "pod_interfaces"],
            metavar="PATTERN",
            multiple=True,
            default=DEFAULT_POD_PATTERNS,
            show_default=True,
            help="The node's ends of the pods' interfaces, followed as they come and go. Repeatable.",
        ),
        click.Option(
            ["--nodeport-addresses"],
            metavar="RANGES",
            multiple=True,
            help="Where node ports answer: on each address of the node in one of these ranges, whichever "
            "interface has it (but no pod's), as addresses come and go; or 'primary': on the uplinks' oldest "
            "of each family. Repeatable, with commas. A family without a range, and by default both: on the "
            "addresses of the uplinks. 127.0.0.1 and ::1, in a range, answer the node's own programs.",
        ),
        click.Option(
            ["--service-cidrs"],
            metavar="RANGES",
            multiple=True,
            help="What the API server has as --service-cluster-ip-range: what is sent to an address in there "
            "that no service has is dropped. Leave it out where another proxy serves some of them. "
            "Repeatable, with commas.",
        ),
        click.Option(
            ["--xdp"],
            type=modes,
            default=XdpMode.AUTO.value,
            show_default=True,
            help="XDP on the uplinks, before TC. auto: native where the driver takes it, except on a veth, "
            "where it would cut bulk TCP to a tenth; else off.",
        ),
        pin_root_option(),
        click.Option(
            ["--max-services"],
            type=entries,
            default=sizes.services,
            show_default=True,
            help="Most pairs of a service's address and port, for each IP family.",
        ),
        click.Option(
            ["--max-endpoints"],
            type=entries,
            default=sizes.endpoints,
            show_default=True,
            help="Most endpoints, counted for each service port they serve, for each IP family.",
        ),
        click.Option(
            ["--max-maglev-slots"],
            type=entries,
            default=sizes.maglev_slots,
            show_default=True,
            help="Most slots of Maglev tables, for each IP family: each endpoint of each port of a service "
            "that is balanced so takes 100 to 400.",
        ),
        click.Option(
            ["--max-connections"],
            type=entries,
            default=sizes.connections,
            show_default=True,
            help="Most entries for connections (each takes two), for each IP family; "
            "the least recently used go.",
        ),
        click.Option(
            ["--max-embryos"],
            type=entries,
            default=sizes.embryos,
            show_default=True,
            help="Most flows that are no connections yet (nothing has answered, or the client has sent "
            "nothing since), for each IP family; the least recently used go. A flood of new flows throws out "
            "these, and no connection.",
        ),
        click.Option(
            ["--masquerade-ports"],
            type=PortRangeType(),
            default="1024-29999",
            show_default=True,
            metavar="FIRST-LAST",
            help="Source ports towards endpoints on other nodes: below node ports and ephemeral ports, "
            "so that they meet no socket of this node.",
        ),
        click.Option(
            ["--forwarding"],
            type=click.Choice([mode.value for mode in Forwarding]),
            default=Forwarding.SNAT.value,
            show_default=True,
            help="How packets from outside reach endpoints on other nodes. snat: from this node's address, "
            "and answers come back by it. dsr: as they are, in an IP-in-IP tunnel to the endpoint's address, "
            "and its node answers the client directly; the endpoint sees the client's address. The network "
            "must let both pass: see docs/dsr.md.",
        ),
        click.Option(
            ["--node-ranges"],
            metavar="RANGES",
            multiple=True,
            help="Where the nodes' addresses are from, with --forwarding dsr on any of them: what comes in a "
            "tunnel from elsewhere is dropped. By default the networks of the uplinks' own addresses. "
            "Repeatable, with commas.",
        ),
        click.Option(
            ["--socket-lb"],
            type=click.Choice([mode.value for mode in SocketMode]),
            default=SocketMode.NODE.value,
            show_default=True,
            help="Whose endpoints are chosen as they connect or send, not for their packets: 'node', "
            "of programs on the node's own network, which only so reach node ports of this very node, and "
            "endpoints on its own network; 'on', of pods, too, where other programs on the node (the pods' "
            "network policies, meshes) then see the endpoint's address; 'off', nobody's.",
        ),
        click.Option(
            ["--cgroup"],
            type=click.Path(file_okay=False, path_type=Path),
            default=None,
            help="Whose sockets --socket-lb is for: a cgroup2 folder, with all that is below it. Without it, "
            "the root of the cgroup2 file system.",
        ),
    ]


def settings(
    interfaces: tuple[str, ...],
    pod_interfaces: tuple[str, ...],
    nodeport_addresses: tuple[str, ...],
    service_cidrs: tuple[str, ...],
    xdp: str,
    pin_root: Path,
    max_services: int,
    max_endpoints: int,
    max_connections: int,
    max_embryos: int,
    max_maglev_slots: int,
    masquerade_ports: PortRange,
    forwarding: str,
    node_ranges: tuple[str, ...],
    socket_lb: str,
    cgroup: Path | None,
) -> Settings:
    """The options' values, checked. Raises click.UsageError."""
    node_ports = parsed("--nodeport-addresses", nodeports.parse, nodeport_addresses)
    cidrs = parsed("--service-cidrs", servicecidrs.parse, service_cidrs)
    mode = SocketMode(socket_lb)
    if mode is SocketMode.OFF and node_ports.names_loopback:
        raise click.BadParameter(
            "a range of loopback's needs --socket-lb: packets to node ports there meet no program",
            param_hint="--nodeport-addresses",
        )
    return Settings(
        interfaces=interfaces,
        pod_interfaces=pod_interfaces,
        node_ports=node_ports,
        service_cidrs=cidrs,
        xdp=XdpMode(xdp),
        pin_root=pin_root.absolute(),
        sizes=Sizes(max_services, max_endpoints, max_connections, max_embryos, max_maglev_slots),
        masquerade_ports=masquerade_ports,
        forwarding=Forwarding(forwarding),
        node_ranges=parsed("--node-ranges", nodes.parse, node_ranges),
        socket_lb=mode,
        cgroup=cgroup,
    )
