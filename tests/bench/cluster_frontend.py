"""The frontend under measurement, on a real control plane, with the rights that config/default gives it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from bench import cluster_changes, daemons, follow, watchers
from bench.cluster_changes import Change, Editor
from bench.cluster_load import Load
from bench.cluster_objects import ADDRESS_POOL, NAMESPACE, node_name
from bench.processes import cpu_seconds, peak_mb, resident_mb, waited_seconds
from blixt_control_plane import STANDARD, ControlPlane, user_name
from blixt_control_plane.place import LOOPBACK
from blixt_control_plane.programs import ROOT
from blixt_lab import Host, Lab, wait_for
from blixt_lab.daemon import Daemon, script

SYSTEM, ACCOUNT = "blixt-system", "blixt-frontend"
_GATEWAYS = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/gateways"
#: The address of the one node that kube-proxy runs on.
_NODE_ADDRESS = "192.0.2.1"
#: Processes that the simulated backends are spread over.
_CROWDS = 2
_PATIENCE = 300.0


def prepare(plane: ControlPlane, host: Host) -> None:
    """What an administrator has installed before the first Service comes."""
    plane.install(STANDARD)
    folder = ROOT / "config" / "default"
    # Not the Deployment and the DaemonSet: a pod for each node would be made, and run nowhere.
    for name in ("namespace", "rbac", "gatewayclass"):
        plane.apply(folder / f"{name}.yaml")
    plane.wait_for_namespace(SYSTEM)
    plane.namespace(NAMESPACE)
    host.ip(f"addr add {_NODE_ADDRESS}/32 dev lo")


def address_node(plane: ControlPlane) -> None:
    """kube-proxy waits for its node's address."""
    status = {"addresses": [{"type": "InternalIP", "address": _NODE_ADDRESS}]}
    plane.api().patch(f"/api/v1/nodes/{node_name(0)}/status", {"status": status})


class Bed:
    """What everything stands on: one namespace with the control plane and all the programs in it."""

    def __init__(self, lab: Lab, host: Host, plane: ControlPlane, editor: Editor) -> None:
        self.lab = lab
        self.host = host
        self.plane = plane
        self.kubeconfig = plane.service_account_kubeconfig(SYSTEM, ACCOUNT)
        self._editor = editor
        self._numbers = count()

    def change(self, services: int, times: int, interval: float) -> list[Change]:
        async def make() -> list[Change]:
            async with Load(self.plane) as load:
                return await self._editor.make(load, services, times, interval)

        return self.host.do(make())

    def name(self, role: str) -> str:
        """Of a process that is started anew: each has a log of its own."""
        return f"{role}-{next(self._numbers)}"


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds, one a change."""

    #: Until the plane was called, from before the write was sent, and from when its answer was there.
    from_sent: list[float]
    from_acknowledged: list[float]
    #: Until a plain watch had it: the API server's part.
    to_watch: list[float]
    #: From then on: what is the frontend's and the backend's.
    from_watch: list[float]

    @classmethod
    def of(cls, changes: Sequence[Change], applied: Sequence[float]) -> Latencies:
        pairs = list(zip(changes, applied, strict=True))
        return cls(
            [at - change.sent for change, at in pairs],
            [at - change.acknowledged for change, at in pairs],
            [change.seen - change.sent for change in changes],
            [at - change.seen for change, at in pairs],
        )


class Running:
    """A frontend and the one backend whose clock is read."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self.address = f"{LOOPBACK}:{bed.plane.place.free_ports(1)[0]}"
        arguments = [
            "--kubeconfig",
            str(bed.kubeconfig),
            "--listen",
            self.address,
            "--address-pool",
            ADDRESS_POOL,
        ]
        command = [script("blixt-frontend"), *arguments]
        self._started_at = time.monotonic()
        self.frontend = daemons.started(bed.lab, bed.host, bed.name("frontend"), command)
        self.backend = daemons.module(
            bed.lab, bed.host, bed.name("backend"), "bench.follow", "none", self.address, node_name(0)
        )
        self.crowds: list[Daemon] = []

    def wait_first_sync(self, services: int) -> float:
        """Seconds from the frontend's start to the backend's first Sync, which must have all Services."""
        first = self._wait(lambda: next(iter(follow.read(self.backend.log)), None), "a first round")
        if first.services < services:
            raise RuntimeError(f"the first round had {first.services} services of {services}")
        return first.synced - self._started_at

    def wait_programmed(self, gateways: int) -> None:
        """Until all Gateways' status says that they are programmed, and nothing is left to be written."""

        def programmed() -> bool:
            conditions = [
                condition
                for gateway in api.get(_GATEWAYS)["items"]
                for condition in gateway.get("status", {}).get("conditions", ())
            ]
            done = [c for c in conditions if c["type"] == "Programmed" and c["status"] == "True"]
            return len(done) >= gateways

        api = self._bed.plane.api()
        wait_for(programmed, f"{gateways} Gateways to be programmed", _PATIENCE, 0.5)
        wait_for(lambda: not self.writes_within(2.0)[0], "status to be written", _PATIENCE)

    def writes_within(self, seconds: float) -> tuple[int, int]:
        """What the frontend writes during that time: all but Leases, and those of Leases."""
        audit = self._bed.plane.audit
        mark = audit.mark()
        time.sleep(seconds)
        written = audit.writes(mark, user_name(SYSTEM, ACCOUNT))
        leases = sum(write.resource == "leases" for write in written)
        return len(written) - leases, leases

    def change(self, services: int, times: int, interval: float) -> Latencies:
        """Change endpoints, and wait until the backend's plane was called with every change."""
        changes = self._bed.change(services, times, interval)

        def all_applied() -> list[float] | None:
            found = cluster_changes.applied(changes, follow.read(self.backend.log))
            done = [at for at in found if at is not None]
            return done if len(done) == len(changes) else None

        return Latencies.of(changes, self._wait(all_applied, "all changes to be applied"))

    def gather_crowd(self, backends: int) -> float:
        """Start that many more backends; seconds from their first start until each of them had its Sync."""
        began = time.monotonic()
        for number in range(_CROWDS):
            first, end = (1 + backends * part // _CROWDS for part in (number, number + 1))
            self.crowds.append(
                daemons.module(
                    self._bed.lab,
                    self._bed.host,
                    self._bed.name("crowd"),
                    *("bench.watchers", self.address, str(first), str(end - first)),
                )
            )
        self._wait(lambda: all(watchers.read(crowd.log) for crowd in self.crowds) or None, "all first rounds")
        firsts = [watchers.read(crowd.log)[0] for crowd in self.crowds]
        return max(max(first.times) for first in firsts) - began

    def broken_streams(self) -> int:
        """How many streams of the crowd have broken so far."""
        return sum(watchers.broken_streams(crowd.log) for crowd in self.crowds)

    def crowd_arrivals(self, since: float) -> list[list[float]]:
        """For each revision that all of the crowd got after that time: when each of them had it."""
        by_revision: dict[int, list[float]] = {}
        for crowd in self.crowds:
            for one in watchers.read(crowd.log):
                by_revision.setdefault(one.revision, []).extend(one.times)
        return [sorted(times) for times in by_revision.values() if min(times) > since]

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.frontend.pid)

    def waited_seconds(self) -> float:
        """How long frontend and backend have waited for a CPU so far."""
        return waited_seconds(self.frontend.pid) + waited_seconds(self.backend.pid)

    def memory_mb(self) -> tuple[float, float]:
        """Now, and at most."""
        return resident_mb(self.frontend.pid), peak_mb(self.frontend.pid)

    def end(self) -> None:
        for daemon in (*self.crowds, self.backend):
            daemon.kill9()
        self.frontend.terminate()

    def _wait(self, look: Callable[[], daemons.Result | None], what: str) -> daemons.Result:
        return daemons.wait_while_running([self.frontend, self.backend, *self.crowds], look, what, 0.05)
