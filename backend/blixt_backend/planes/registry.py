"""Planes by name, from the entry points of installed packages.

    [project.entry-points."blixt.planes"]
    mine = "my_package.plane:MyPlane"

makes `blixt-backend --plane mine`. Only the plane that is asked for is imported.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from blixt_backend.planes.base import Plane

GROUP = "blixt.planes"


class UnknownPlaneError(LookupError):
    """No installed package has a plane of that name."""


class BrokenPlaneError(Exception):
    """The plane is installed, but can't be imported here, or is no Plane."""


def points() -> list[EntryPoint]:
    """The planes that are installed, one of each name, in alphabetical order. Nothing is imported."""
    found = {point.name: point for point in reversed(list(entry_points(group=GROUP)))}
    return [found[name] for name in sorted(found)]


def names() -> list[str]:
    """The names of the planes that are installed, in alphabetical order."""
    return [point.name for point in points()]


def load(name: str) -> type[Plane]:
    """The class of the plane called `name`. Raises UnknownPlaneError, BrokenPlaneError."""
    for point in entry_points(group=GROUP, name=name):
        return _class(point)
    raise UnknownPlaneError(f"there is no plane {name!r} here, only: {', '.join(names())}")


def _class(point: EntryPoint) -> type[Plane]:
    try:
        loaded = point.load()
    except (ImportError, AttributeError, OSError) as error:
        raise BrokenPlaneError(f"plane {point.name!r} ({point.value}) can't be imported: {error}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, Plane)):
        raise BrokenPlaneError(
            f"plane {point.name!r} ({point.value}) is no subclass of {Plane.__module__}.Plane"
        )
    return loaded
