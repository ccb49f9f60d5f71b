"""Rows for people to read. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from blixt_backend.planes.ebpf.inspect import Row

_UNITS = ("", "K", "M", "G", "T", "P")
CONNECTION_HEADING = ("PROTO", "CLIENT", "SERVICE", "ENDPOINT", "STATE", "SEEN", "IN", "OUT", "NAME")


def table(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines with columns as wide as they must be."""
    cells = [list(heading), *([str(cell) for cell in row] for row in rows)]
    columns = max(len(row) for row in cells)
    widths = [max((len(row[i]) for row in cells if i < len(row)), default=0) for i in range(columns)]
    return ["  ".join(cell.ljust(widths[i]) for i, cell in enumerate(row)).rstrip() for row in cells]


def connection(row: Row) -> tuple[str, ...]:
    """A connection's cells under CONNECTION_HEADING."""
    return (
        row["protocol"],
        endpoint(row["client"], row["client_port"]),
        endpoint(row["service"], row["service_port"]),
        endpoint(row["endpoint"], row["endpoint_port"]),
        row["state"],
        f"{row['seen_seconds_ago']:.0f}s",
        f"{row['packets_in']}/{size(row['bytes_in'])}B",
        f"{row['packets_out']}/{size(row['bytes_out'])}B",
        row["service_name"],
    )


def endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def size(number: int) -> str:
    """A number with three digits or so, and a unit of thousands."""
    amount, unit = float(number), 0
    while amount >= 1000 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.1f} {_UNITS[unit]}" if unit else f"{number} "
