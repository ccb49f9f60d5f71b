"""`blixt-backend status|services|connections|drops|trace`: what the kernel holds, without the daemon."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from blixt_backend.model import Algorithm
from blixt_backend.planes.ebpf import inspect, options, watching
from blixt_backend.planes.ebpf.connections import ConnectionFilter, connections
from blixt_backend.planes.ebpf.inspect import Row
from blixt_backend.planes.ebpf.libbpf import BpfError, LibbpfMissingError
from blixt_backend.planes.ebpf.pins import Pins
from blixt_backend.planes.ebpf.tables import CONNECTION_HEADING, connection, table
from blixt_backend.planes.ebpf.tables import endpoint as _endpoint
from blixt_backend.planes.ebpf.tables import size as _size
from blixt_backend.planes.ebpf.trace.command import trace
from blixt_backend.planes.ebpf.trace.compiler import TraceError


def _status(pin_root: Path, output: str) -> None:
    found = inspect.status(Pins(pin_root))
    if output == "json":
        _print_json(found)
        return
    click.echo(f"pinned under {found['pin_root']}\n")
    _print_table(
        ("INTERFACE", "ROLE", "MASQUERADE"),
        ((row["name"] or f"#{row['ifindex']}", row["role"], *row["masquerade"]) for row in found["devices"]),
    )
    click.echo()
    _print_table(
        ("INTERFACE", "HOOK", "FAMILY", "BY", "PROGRAM"),
        (
            (row["interface"] or "(gone)", row["hook"], row["family"], row["by"], row["program_id"])
            for row in found["hooks"]
        ),
    )
    click.echo()
    _print_table(
        ("MAP", "FAMILY", "USED", "SIZE", "FULL"),
        (
            (row["map"], row["family"], row["used"], row["size"], f"{100 * row['used'] / row['size']:.1f}%")
            for row in found["maps"]
        ),
    )
    for family, ports in found["not_fitting"].items():
        if ports:
            click.echo(f"\n{ports} service ports of {family} don't fit: a map is full")
    for family, asked in found["kernel_asked"].items():
        if asked:
            click.echo(f"\nnew flows of {family} are looked up in the kernel's connection tracking")
    for family, draining in found["draining"].items():
        if draining:
            click.echo(
                f"\nno new flows of {family} are taken: another plane has them, those that there are go on"
            )


def _services(pin_root: Path, output: str) -> None:
    found = inspect.services(Pins(pin_root))
    if output == "json":
        _print_json(list(found))
        return
    for service in found:
        click.echo(service["name"] or f"service {service['id']} ({service['family']})")
        click.echo(
            f"  {service['connections']} connections, {service['refused']} refused, "
            f"in {service['packets_in']} packets {_size(service['bytes_in'])}B, "
            f"out {service['packets_out']} packets {_size(service['bytes_out'])}B"
            + _algorithm(service["algorithm"])
            + (f", affinity {service['affinity_seconds']} s" if service["affinity_seconds"] else "")
        )
        several = len(service["refused_shares"]) > 1
        for frontend in service["frontends"]:
            notes = [_side(frontend, side, several) for side in ("inside", "outside")]
            notes.append("source ranges" if frontend["source_ranges"] else "")
            text = "; ".join(note for note in notes if note)
            address = _endpoint(frontend["address"], frontend["port"])
            click.echo(f"  {address}/{frontend['protocol']}{f' ({text})' if text else ''}")
        for endpoint in service["endpoints"]:
            marks = [mark for mark in ("local", "draining") if endpoint[mark]]
            if endpoint["open_connections"] is not None:
                marks.append(f"{endpoint['open_connections']} open")
            click.echo(
                f"    {_endpoint(endpoint['address'], endpoint['port']):<28} "
                f"{_shares(endpoint['shares'])} {' '.join(marks)}".rstrip()
            )
        if any(service["refused_shares"]):
            click.echo(f"    {'refused':<28} {_shares(service['refused_shares'])}")


def _connections(
    pin_root: Path, output: str, vip: ConnectionFilter, endpoint: bytes | None, watch: bool
) -> None:
    wanted = ConnectionFilter(vip.service, vip.service_port, endpoint)
    if watch:
        watching.watch(Pins(pin_root), wanted, output)
        return
    found = connections(Pins(pin_root), wanted)
    if output == "json":
        _print_json(list(found))
        return
    _print_table(CONNECTION_HEADING, map(connection, found))


def _trace(
    pin_root: Path, output: str, vip: ConnectionFilter, endpoint: bytes | None, seconds: int | None
) -> None:
    if vip.service and endpoint:
        raise click.UsageError("--vip and --endpoint don't go together: a trace is about one of them")
    trace(Pins(pin_root), ConnectionFilter(vip.service, vip.service_port, endpoint), output, seconds)


def _drops(pin_root: Path, output: str) -> None:
    found = inspect.drops(Pins(pin_root))
    if output == "json":
        _print_json(found)
        return
    _print_table(
        ("REASON", "IPV4", "IPV6", "MEANING"),
        ((row["reason"], row.get("ipv4", 0), row.get("ipv6", 0), row["meaning"]) for row in found),
    )


class VipType(click.ParamType[ConnectionFilter]):
    """IP, IP:PORT or [IPV6]:PORT."""

    name = "vip"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> ConnectionFilter:
        if isinstance(value, ConnectionFilter):
            return value
        text = str(value)
        host, port = text, ""
        if text.startswith("["):
            host, _, port = text[1:].partition("]")
            port = port.removeprefix(":")
        elif text.count(":") == 1:
            host, _, port = text.partition(":")
        try:
            number = int(port) if port else None
            if number is not None and not 0 < number < 65536:
                raise ValueError(port)
            return ConnectionFilter(ipaddress.ip_address(host).packed, number)
        except ValueError:
            self.fail(f"{text!r} is no address such as 10.96.0.1, 10.96.0.1:80 or [fd00::1]:80", param, ctx)


class AddressType(click.ParamType[bytes]):
    """An IP address, packed."""

    name = "ip"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        if isinstance(value, bytes):
            return value
        try:
            return ipaddress.ip_address(str(value)).packed
        except ValueError:
            self.fail(f"{value!r} is no IP address", param, ctx)


def _command(
    name: str, run: Callable[..., None], text: str, more: Sequence[click.Parameter] = ()
) -> click.Command:
    def guarded(**values: Any) -> None:
        try:
            run(**values)
        except (inspect.NothingPinnedError, BpfError, LibbpfMissingError, TraceError) as error:
            raise click.ClickException(str(error)) from error
        except PermissionError as error:
            raise click.ClickException(f"{error.filename} can't be read: run this as root") from error

    output = click.Option(
        ["-o", "--output"],
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="How to print it.",
    )
    return click.Command(name, callback=guarded, params=[options.pin_root_option(), output, *more], help=text)


def _print_json(data: object) -> None:
    click.echo(json.dumps(data, indent=2))


def _print_table(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    click.echo("\n".join(table(heading, rows)))


def _algorithm(name: str) -> str:
    return "" if name == Algorithm.WEIGHTED_RANDOM.value else f", balanced by {name}"


def _side(frontend: Row, side: str, several: bool) -> str:
    """What clients of one side get, where that isn't plain: which column of shares, or nobody."""
    table = frontend[side]
    if table is None:
        return f"{side}: no endpoint, {frontend['without_endpoint']}"
    return f"{side}: column {table + 1}" if several else ""


def _shares(shares: Sequence[float]) -> str:
    return " ".join(f"{100 * share:6.2f}%" for share in shares)


def _filters(more: str = "") -> list[click.Parameter]:
    return [
        click.Option(
            ["--vip"],
            type=VipType(),
            metavar="IP[:PORT]",
            default=ConnectionFilter(),
            show_default=False,
            help=f"Only those to this service address{more}.",
        ),
        click.Option(["--endpoint"], type=AddressType(), metavar="IP", help="Only those to this endpoint."),
    ]


COMMANDS: list[click.Command] = [
    _command("status", _status, "Interfaces, attached programs, and how full the maps are."),
    _command(
        "services", _services, "Service addresses, their endpoints with shares of new connections, counters."
    ),
    _command(
        "connections",
        _connections,
        "Connections with their endpoints, states and counters.",
        [
            *_filters(),
            click.Option(
                ["--watch"],
                is_flag=True,
                help="Look once a second until Ctrl-C: drawn anew on a terminal, elsewhere a line (or a JSON "
                "object) for each connection that is new or has ended.",
            ),
        ],
    ),
    _command("drops", _drops, "Packets that were dropped or answered in an endpoint's stead, by reason."),
    _command(
        "trace",
        _trace,
        "Packets that the kernel drops on this node and in its pods, with its reasons, and what our own "
        "programs drop meanwhile. On bcc: needs Debian's python3-bpfcc, and root.",
        [
            *_filters(", and from and to its endpoints as they are at the start"),
            click.Option(
                ["--seconds"],
                type=click.IntRange(1),
                metavar="N",
                help="How long; without it until Ctrl-C.",
            ),
        ],
    ),
]
