"""`blixt-backend planes`: which planes are installed, and what each claims to do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import click

from blixt_backend.planes import registry
from blixt_backend.planes.base import Plane
from blixt_backend.planes.capabilities import Capability


@dataclass(frozen=True, slots=True)
class Installed:
    """A plane that some package brings. Without `plane` it can't be imported; `problem` says why."""

    name: str
    package: str
    plane: type[Plane] | None
    problem: str = ""

    @property
    def summary(self) -> str:
        """The first line of what it says of itself, or of what is wrong."""
        return self.problem or next(iter((self.plane.__doc__ or "").strip().splitlines()), "")

    def claims(self, capability: Capability) -> bool:
        return self.plane is not None and capability in self.plane.capabilities


def installed() -> list[Installed]:
    """All planes, by name."""
    return [_look(point) for point in registry.points()]


def as_json(planes: Sequence[Installed]) -> str:
    """{"planes": {name: ...}, "capabilities": {key: {"text", "planes": {name: true or false}}}}."""
    return json.dumps(
        {
            "planes": {
                each.name: {
                    "package": each.package,
                    "summary": each.summary,
                    "usable": each.plane is not None,
                    "only_shows": each.plane is not None and each.plane.only_shows,
                }
                for each in planes
            },
            "capabilities": {
                capability.key: {
                    "text": capability.text,
                    "planes": {each.name: each.claims(capability) for each in planes},
                }
                for capability in Capability
            },
        },
        indent=2,
    )


def as_tables(planes: Sequence[Installed]) -> str:
    """The planes, then a line for each capability with a column for each plane that can be imported."""
    columns = [each for each in planes if each.plane]
    answers = {True: "yes", False: "no"}
    return "\n".join(
        [
            *_table(
                [("PLANE", "PACKAGE", ""), *((each.name, each.package, each.summary) for each in planes)]
            ),
            "",
            *_table(
                [
                    ("CAPABILITY", *(each.name for each in columns), ""),
                    *(
                        (
                            capability.key,
                            *(answers[each.claims(capability)] for each in columns),
                            capability.text,
                        )
                        for capability in Capability
                    ),
                ]
            ),
        ]
    )


def _look(point: EntryPoint) -> Installed:
    package = f"{point.dist.name} {point.dist.version}" if point.dist else ""
    try:
        return Installed(point.name, package, registry.load(point.name))
    except registry.BrokenPlaneError as error:
        return Installed(point.name, package, None, str(error))


def _table(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


@click.command("planes")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How to print it.",
)
def planes(output: str) -> None:
    """The planes that are installed, and what each can do."""
    found = installed()
    click.echo(as_json(found) if output == "json" else as_tables(found))
