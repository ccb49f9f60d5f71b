"""The daemon's process: signals, exit codes, and what runs between them."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import click

from blixt_backend import memory
from blixt_backend.announce import running as announcing
from blixt_backend.announce.heartbeat import MOST_NAME_BYTES
from blixt_backend.client import Client
from blixt_backend.driver import Driver
from blixt_backend.health import places
from blixt_backend.health import running as health
from blixt_backend.model import ChangeSet
from blixt_backend.planes.base import Plane
from blixt_backend.planes.capabilities import Capability
from blixt_backend.planes.draining import Draining, Onlooker
from blixt_backend.shortcomings import Shortcomings
from blixt_backend.tls import Api, ApiAddressError, CertificateError, TlsFiles, target

log = logging.getLogger(__name__)

_MOST_INTERFACE_BYTES = 15  # IFNAMSIZ, less the 0 at its end
_OPEN_FILES = 1 << 16


@dataclass(frozen=True, slots=True)
class Settings:
    """What the daemon needs to know besides its plane."""

    api: Api
    node: str
    announce: announcing.Settings
    health: health.Settings
    #: The plane's name, to speak of it.
    plane: str = ""


def settings(
    address: str,
    node: str,
    tls: TlsFiles,
    interfaces: Sequence[str] = (),
    group: str = "default",
    healthz: Sequence[str] = (),
    plane: str = "",
) -> Settings:
    """What the command line says, checked. Raises click.UsageError."""
    if not node:
        raise click.UsageError("--node-name is empty: give the name of this node's Node object")
    try:
        api = Api(target(address), _checked(tls))
    except ApiAddressError as error:
        raise click.BadParameter(str(error), param_hint="--api") from None
    return Settings(api, node, _announce(interfaces, group, node), _health(healthz), plane)


def _announce(interfaces: Sequence[str], group: str, node: str) -> announcing.Settings:
    for name in interfaces:
        if not 0 < len(name.encode()) <= _MOST_INTERFACE_BYTES or set(name) & set("/*?[] "):
            raise click.BadParameter(f"{name!r} is no name of an interface", param_hint="--announce")
    if not group:
        raise click.BadParameter("it is empty", param_hint="--announce-group")
    if interfaces and len(node.encode()) > MOST_NAME_BYTES:
        raise click.BadParameter(f"longer than {MOST_NAME_BYTES} bytes", param_hint="--node-name")
    return announcing.Settings(tuple(dict.fromkeys(interfaces)), group)


def _health(addresses: Sequence[str]) -> health.Settings:
    if places.OFF in addresses:
        if len(addresses) > 1:
            raise click.BadParameter(f"{places.OFF!r} goes with no address", param_hint="--healthz-address")
        return health.Settings()
    try:
        found = dict.fromkeys(places.parse(text) for text in addresses)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--healthz-address") from None
    return health.Settings(tuple(found))


def _checked(tls: TlsFiles) -> TlsFiles | None:
    if tls == TlsFiles():
        return None
    if bool(tls.certificate) != bool(tls.key):
        raise click.UsageError("--tls-cert and --tls-key go together")
    try:
        tls.credentials()
    except CertificateError as error:
        raise click.ClickException(str(error)) from None
    return tls


async def serve(settings: Settings, plane: Plane, draining: Draining) -> None:
    """Drive the plane until SIGTERM or SIGINT, and leave its dataplane running. Raises PlaneError, and
    AnnounceError if this process may not announce. `draining`: what other planes have left.

    The first signal lets an apply under way finish; the second one does not.
    """
    memory.begin()
    await asyncio.to_thread(announcing.check, settings.announce)
    _allow_open_files()
    loop = asyncio.get_running_loop()
    announcer = announcing.Announcing(settings.node, settings.announce)
    checks = health.Health(settings.health, plane.node_port_addresses)

    shortcomings = Shortcomings(settings.plane, plane.capabilities)

    def on_applied(change: ChangeSet) -> None:
        announcer.applied(change)
        checks.applied(change)
        draining.applied(change)
        if not plane.only_shows:
            shortcomings.applied(change)
        if change.resync:
            loop.call_later(memory.CLEAR_UP_SECONDS, memory.clear_up)

    async with Client(settings.api, settings.node) as client, AsyncExitStack() as stack:
        await stack.enter_async_context(_meanwhile(announcer.run()))
        await stack.enter_async_context(_meanwhile(draining.run()))
        if not plane.only_shows:
            shortcomings.start()
            await stack.enter_async_context(_meanwhile(checks.run()))
        stop = asyncio.Event()
        driver = Driver(client, plane, None, on_applied, on_trying=checks.trying, on_failed=checks.failed)
        await _until_told(driver, stop)
    stays = plane.only_shows or Capability.OUTLIVES_PROCESS in plane.capabilities
    log.info("stopped; what was applied %s", "stays in force" if stays else "ended with this process")


async def drain(settings: Settings, draining: Draining) -> bool:
    """Give this node's services away: until nothing is left of what any plane has on this node, or SIGTERM or
    SIGINT. Whether nothing is. The frontend, if it is there, tells of endpoints that leave meanwhile."""
    draining.begin()
    stop = asyncio.Event()
    async with Client(settings.api, settings.node) as client:
        drained = asyncio.create_task(draining.run())
        drained.add_done_callback(lambda _: stop.set())
        try:
            await _until_told(Driver(client, Onlooker(), None, draining.applied), stop)
        finally:
            done = drained.done()
            drained.cancel()
            await asyncio.wait([drained])
    if done:
        drained.result()
        log.info("nothing of ours is left on this node")
    return done


async def _until_told(driver: Driver, stop: asyncio.Event) -> None:
    """By SIGTERM, SIGINT or the event. The second signal cancels."""
    running = asyncio.create_task(driver.run(stop))

    def on_signal() -> None:
        if stop.is_set():
            running.cancel()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await running


async def cleanup(settings: Settings, plane: Plane) -> None:
    """Take away what the plane put on this node, and tell the others so. Raises as `serve` does."""
    await plane.cleanup()
    await asyncio.to_thread(announcing.leave, settings.node, settings.announce)


@asynccontextmanager
async def _meanwhile(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Work that goes on during the body, and is cancelled after it. If it fails, that is logged at once."""
    task = asyncio.create_task(work)
    task.add_done_callback(_report)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _report(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("a part of the daemon has ended: %s; the plane goes on", error, exc_info=error)


def _allow_open_files() -> None:
    """Each health check node port takes two descriptors: the usual soft limit ends at 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def configure_logging(level: str) -> None:
    """One line an event on standard error."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z"
    )
