"""The nftables plane's command-line options, and their values checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

import click

from blixt_backend.planes import nodeports, servicecidrs
from blixt_backend.planes.nftables.ruleset import Range, Rules
from blixt_backend.planes.parsing import parsed
from blixt_backend.planes.pinroot import DEFAULT_PIN_ROOT, others_pin_root

#: kube-proxy's bit, which CNIs know and leave alone.
DEFAULT_MASQUERADE_BIT = 14


@dataclass(frozen=True, slots=True)
class Settings:
    """What the plane was asked to do."""

    interfaces: tuple[str, ...] = ()
    node_ports: nodeports.NodePortAddresses = field(default_factory=nodeports.NodePortAddresses)
    rules: Rules = field(default_factory=Rules)
    #: Where plane ebpf has pinned what is drained, if it was here before.
    pin_root: Path = DEFAULT_PIN_ROOT


def options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--interface", "interfaces"],
            metavar="NAME",
            multiple=True,
            help="An uplink: where clients from outside and other nodes' packets come in. Repeatable; may be "
            "a pattern such as 'eth*', which also takes interfaces that come later.",
        ),
        click.Option(
            ["--cluster-cidr", "cluster_cidrs"],
            metavar="RANGES",
            multiple=True,
            help="The pods' addresses: clients with one count as inside the cluster, wherever they come in. "
            "Without --interface, all others that come in count as outside. Repeatable, with commas.",
        ),
        click.Option(
            ["--nodeport-addresses"],
            metavar="RANGES",
            multiple=True,
            help="Where node ports answer: on each address of the node in one of these ranges, whichever "
            "interface has it (but never loopback), as addresses come and go; or 'primary': on the uplinks' "
            "oldest of each family. Repeatable, with commas. A family without a range, and by default both: "
            "on the addresses of the uplinks.",
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
            ["--masquerade-bit"],
            type=click.IntRange(0, 31),
            default=DEFAULT_MASQUERADE_BIT,
            show_default=True,
            help="The bit of packets' marks that says that the source must be translated; kube-proxy's own. "
            "It is set between this plane's rules only.",
        ),
        others_pin_root(),
    ]


def settings(
    interfaces: tuple[str, ...],
    cluster_cidrs: tuple[str, ...],
    nodeport_addresses: tuple[str, ...],
    service_cidrs: tuple[str, ...],
    masquerade_bit: int,
    pin_root: Path,
) -> Settings:
    """The options' values, checked. Raises click.UsageError."""
    node_ports = parsed("--nodeport-addresses", nodeports.parse, nodeport_addresses)
    if node_ports.names_loopback:
        raise click.BadParameter(
            "the kernel routes nothing from loopback to pods: leave that range out",
            param_hint="--nodeport-addresses",
        )
    rules = Rules(
        by_uplink=bool(interfaces),
        cluster_cidrs=parsed("--cluster-cidr", _ranges, cluster_cidrs),
        service_cidrs=parsed("--service-cidrs", servicecidrs.parse, service_cidrs),
        mark=1 << masquerade_bit,
    )
    return Settings(interfaces, node_ports, rules, pin_root.absolute())


def _ranges(texts: Sequence[str]) -> tuple[Range, ...]:
    """Raises ValueError with what is wrong."""
    return tuple(dict.fromkeys(ip_network(word.strip()) for text in texts for word in text.split(",")))
