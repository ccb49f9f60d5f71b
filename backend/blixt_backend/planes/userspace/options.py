"""The userspace plane's command-line options, and their values checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network

import click

from blixt_backend.planes import nodeports
from blixt_backend.planes.parsing import parsed
from blixt_backend.planes.userspace import mapping
from blixt_backend.planes.userspace.compile import Network


@dataclass(frozen=True, slots=True)
class Settings:
    """What the plane was asked to do. Times in seconds."""

    maps: mapping.Maps = field(default_factory=dict)
    cluster_cidrs: tuple[Network, ...] = ()
    node_ports: nodeports.NodePortAddresses = field(default_factory=nodeports.NodePortAddresses)
    max_connections: int = 16384
    max_flows: int = 8192
    connect_seconds: float = 3.0
    tcp_idle_seconds: float = 3600.0
    udp_idle_seconds: float = 120.0
    drain_seconds: float = 5.0


def options() -> list[click.Parameter]:
    usual = Settings()
    return [
        click.Option(
            ["--map", "maps"],
            metavar="VIP:PORT=ADDR:PORT",
            multiple=True,
            help="Listen at another place for a service's address that this machine doesn't have, or a port "
            "that it may not use, as 10.96.0.10:80=127.0.0.1:8080; with /tcp or /udp behind it for one of "
            "them only. Without ports (VIP=ADDR) all ports of the address, by the same numbers; with port 0 "
            "at the end any that is free, which is logged. Repeatable.",
        ),
        click.Option(
            ["--cluster-cidr", "cluster_cidrs"],
            metavar="RANGES",
            multiple=True,
            help="The pods' addresses: clients with one count as inside the cluster, as this machine's own "
            "programs do; all others as outside. Repeatable, with commas.",
        ),
        click.Option(
            ["--nodeport-addresses"],
            metavar="RANGES",
            multiple=True,
            help="Where node ports answer: on each address of the machine in one of these ranges, as "
            "addresses come and go; or 'primary': on the first of each family. By default on all of them, "
            "127.0.0.1 and ::1 too. Repeatable, with commas.",
        ),
        _number("--max-connections", usual.max_connections, "TCP connections at a time; more are reset."),
        _number("--max-flows", usual.max_flows, "UDP flows at a time; more are dropped."),
        _seconds("--connect-timeout", usual.connect_seconds, "Until an endpoint must take a connection."),
        _seconds("--tcp-idle-timeout", usual.tcp_idle_seconds, "Until a silent TCP connection is reset."),
        _seconds("--udp-idle-timeout", usual.udp_idle_seconds, "Until a silent UDP flow is forgotten."),
        _seconds(
            "--stop-grace",
            usual.drain_seconds,
            "For open TCP connections to end when the backend is stopped.",
        ),
    ]


def settings(
    maps: tuple[str, ...],
    cluster_cidrs: tuple[str, ...],
    nodeport_addresses: tuple[str, ...],
    max_connections: int,
    max_flows: int,
    connect_timeout: float,
    tcp_idle_timeout: float,
    udp_idle_timeout: float,
    stop_grace: float,
) -> Settings:
    """The options' values, checked. Raises click.UsageError."""
    return Settings(
        maps=parsed("--map", mapping.parse, maps),
        cluster_cidrs=parsed("--cluster-cidr", _ranges, cluster_cidrs),
        node_ports=parsed("--nodeport-addresses", nodeports.parse, nodeport_addresses),
        max_connections=max_connections,
        max_flows=max_flows,
        connect_seconds=connect_timeout,
        tcp_idle_seconds=tcp_idle_timeout,
        udp_idle_seconds=udp_idle_timeout,
        drain_seconds=stop_grace,
    )


def _number(name: str, usual: int, text: str) -> click.Option:
    return click.Option(
        [name], metavar="N", type=click.IntRange(1, 1 << 20), default=usual, show_default=True, help=text
    )


def _seconds(name: str, usual: float, text: str) -> click.Option:
    kind = click.FloatRange(0, 7 * 86400, min_open=name != "--stop-grace")
    return click.Option([name], metavar="SECONDS", type=kind, default=usual, show_default=True, help=text)


def _ranges(texts: Sequence[str]) -> tuple[Network, ...]:
    """Raises ValueError with what is wrong."""
    return tuple(dict.fromkeys(ip_network(word.strip()) for text in texts for word in text.split(",")))
