"""The seam between what a node should do and what does it: a plane.

A plane is a class of its own package, found by the entry point group `blixt.planes`. It is started once,
given one ChangeSet at a time, and stopped; it never sees the wire, the frontend or Kubernetes.

Its command line is its own: `options` adds to those of `blixt-backend` while the plane is the chosen one, and
`from_options` gets their values. An option must not be `required`, since `--cleanup` and the subcommands run
without it: `start` raises PlaneError for what it misses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from blixt_backend.model import ChangeSet, PackedAddress
from blixt_backend.planes.capabilities import Capability

if TYPE_CHECKING:
    import click


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who this node is to the cluster: the name of its Node object."""

    name: str


class PlaneError(Exception):
    """What was wrong, where, and what to do, in one line for an operator."""


class Plane(ABC):
    """Applies change sets to whatever carries packets on this node.

    `apply` is all or repaired: when it raises, the caller goes on, and the next call is a resync.
    `stop` leaves the dataplane running; only `cleanup` takes it away.
    """

    #: Whether it carries no packet: then nothing on this node answers for its health.
    only_shows: ClassVar[bool] = False
    #: What it claims to do. `blixt_backend.testing` checks that; of the rest the operator is told.
    capabilities: ClassVar[frozenset[Capability]] = frozenset()

    @classmethod
    def options(cls) -> Sequence[click.Parameter]:
        """The plane's own command-line options; their names are the keywords of `from_options`."""
        return ()

    @classmethod
    def from_options(cls, node: NodeIdentity, **options: Any) -> Self:
        """A plane for this node. Raises click.UsageError for a value that can't be; touches nothing yet."""
        return cls(**options)

    @abstractmethod
    async def start(self) -> None:
        """Take over what an earlier process left, without a gap. Raises PlaneError if it can't work."""

    @abstractmethod
    async def apply(self, change: ChangeSet) -> None:
        """Bring the dataplane to `change.desired`. Raises PlaneError when it could not, whole or in part."""

    @abstractmethod
    async def stop(self) -> None:
        """End this process's part. Traffic goes on."""

    @abstractmethod
    async def cleanup(self) -> None:
        """Remove everything this plane ever put on the node. Called without `start`. Raises PlaneError."""

    def node_port_addresses(self) -> Collection[PackedAddress] | None:
        """Where node ports answer, and with them health check node ports; None: on all that the node has."""
        return None

    def status(self) -> Mapping[str, object]:
        """A few figures about the plane, ready for JSON."""
        return {}
