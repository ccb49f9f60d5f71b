"""A plane that carries no packet: it prints what a node should do, as it changes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TextIO

import click

from blixt_backend.model import ChangeSet, Endpoint, PortMapping, ServiceView
from blixt_backend.planes import readable
from blixt_backend.planes.base import NodeIdentity, Plane, PlaneError


class Form(Enum):
    """How a change is printed."""

    #: One object a line: revision, resync, added and changed ({path: service}), removed ([path]).
    JSON = "json"
    #: A line for each service port and endpoint, after a sign: + added, ~ changed, - removed.
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Difference:
    """What sets one state apart from another."""

    added: Mapping[str, ServiceView]
    changed: Mapping[str, ServiceView]
    removed: Sequence[str]


class PrintPlane(Plane):
    """Carries no packet: prints what would change.

    It prints differences to what it printed before; a resync of what is known already prints empty ones.
    """

    only_shows = True

    def __init__(self, form: Form = Form.JSON, out: TextIO | None = None) -> None:
        self._render = {Form.JSON: as_json, Form.TABLE: as_table}[form]
        self._out = out or sys.stdout
        self._printed: dict[str, ServiceView] = {}

    @classmethod
    def options(cls) -> Sequence[click.Parameter]:
        form = click.Choice([each.value for each in Form])
        text = "How to print a change: one JSON object, or lines of a table."
        return [click.Option(["--print", "form"], type=form, default="json", show_default=True, help=text)]

    @classmethod
    def from_options(cls, node: NodeIdentity, **options: Any) -> PrintPlane:
        return cls(Form(options["form"]))

    async def start(self) -> None:
        """Nothing is there to take over."""

    async def apply(self, change: ChangeSet) -> None:
        difference = self._difference(change)
        # A reader that is slow, or a terminal that is stopped, must hold up this change and nothing else.
        await asyncio.to_thread(self._write, self._render(difference, change))
        self._printed.update(difference.added)
        self._printed.update(difference.changed)
        for path in difference.removed:
            del self._printed[path]

    async def stop(self) -> None:
        """Nothing was left running."""

    async def cleanup(self) -> None:
        """Nothing was put on the node."""

    def status(self) -> Mapping[str, object]:
        return {"services": len(self._printed)}

    def _difference(self, change: ChangeSet) -> Difference:
        gone = self._printed.keys() - change.desired.keys() if change.resync else change.removed
        return Difference(
            added={path: view for path, view in change.changed.items() if path not in self._printed},
            changed={
                path: view
                for path, view in change.changed.items()
                if path in self._printed and self._printed[path] != view
            },
            removed=sorted(gone & self._printed.keys()),
        )

    def _write(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except OSError as error:
            raise PlaneError(f"standard output takes nothing more: {error.strerror}") from None


def as_json(difference: Difference, change: ChangeSet) -> str:
    """The change as one line."""
    return (
        json.dumps(
            {
                "revision": change.revision,
                "resync": change.resync,
                "added": _readable(difference.added),
                "changed": _readable(difference.changed),
                "removed": difference.removed,
            },
            ensure_ascii=False,
        )
        + "\n"
    )


def as_table(difference: Difference, change: ChangeSet) -> str:
    """The change as lines of fixed columns under a heading."""
    kind = "resync" if change.resync else "change"
    heading = f"# revision {change.revision}, {kind}: {len(change.desired)} services\n"
    rows = [
        *_rows("+", difference.added),
        *_rows("~", difference.changed),
        *(("-", path, "", "", "") for path in difference.removed),
    ]
    return heading + "".join(f"{' '.join(_padded(row)).rstrip()}\n" for row in rows)


def _readable(views: Mapping[str, ServiceView]) -> dict[str, readable.Data]:
    return {path: readable.service_view(views[path]) for path in sorted(views)}


def _rows(sign: str, views: Mapping[str, ServiceView]) -> Iterable[tuple[str, ...]]:
    for path in sorted(views):
        service = views[path].service
        ips = readable.addresses((*service.cluster_ips, *service.external_ips, *service.load_balancer_ips))
        for port in service.ports:
            yield sign, path, f"{port.port}/{port.protocol.name}", ",".join(ips), service.type
            for endpoint in views[path].endpoints:
                yield sign, "", "", f"-> {_target(endpoint, port)}", _notes(endpoint)


def _target(endpoint: Endpoint, port: PortMapping) -> str:
    if endpoint.reject:
        return "refused"
    number = endpoint.port_for(port)
    return (
        f"{','.join(readable.addresses(endpoint.addresses))} {'no such port' if number is None else number}"
    )


def _notes(endpoint: Endpoint) -> str:
    notes: tuple[tuple[bool, Callable[[], str]], ...] = (
        (True, lambda: f"weight {endpoint.weight}"),
        (endpoint.group != 0, lambda: f"group {endpoint.group}"),
        (endpoint.local, lambda: "local"),
        (endpoint.terminating, lambda: "terminating"),
        (not endpoint.serving, lambda: "not serving"),
        (not endpoint.scopes, lambda: "draining"),
    )
    return ", ".join(text() for applies, text in notes if applies)


def _padded(row: tuple[str, ...]) -> Iterable[str]:
    sign, path, port, address, notes = row
    return sign, f"{path:<32}", f"{port:<11}", f"{address:<34}", notes
