"""The daemon's process: signals, exit codes, and what runs between them."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import click

from blixt_backend.announce import running as announcing
from blixt_backend.announce.heartbeat import MOST_NAME_BYTES
from blixt_backend.client import Client
from blixt_backend.driver import Driver
from blixt_backend.planes.base import Plane
from blixt_backend.tls import Api, ApiAddressError, CertificateError, TlsFiles, target

log = logging.getLogger(__name__)

_MOST_INTERFACE_BYTES = 15  # IFNAMSIZ, less the 0 at its end


@dataclass(frozen=True, slots=True)
class Settings:
    """What the daemon needs to know besides its plane."""

    api: Api
    node: str
    announce: announcing.Settings


def settings(
    address: str, node: str, tls: TlsFiles, interfaces: Sequence[str] = (), group: str = "default"
) -> Settings:
    """What the command line says, checked. Raises click.UsageError."""
    if not node:
        raise click.UsageError("--node-name is empty: give the name of this node's Node object")
    try:
        api = Api(target(address), _checked(tls))
    except ApiAddressError as error:
        raise click.BadParameter(str(error), param_hint="--api") from None
    return Settings(api, node, _announce(interfaces, group, node))


def _announce(interfaces: Sequence[str], group: str, node: str) -> announcing.Settings:
    for name in interfaces:
        if not 0 < len(name.encode()) <= _MOST_INTERFACE_BYTES or set(name) & set("/*?[] "):
            raise click.BadParameter(f"{name!r} is no name of an interface", param_hint="--announce")
    if not group:
        raise click.BadParameter("it is empty", param_hint="--announce-group")
    if interfaces and len(node.encode()) > MOST_NAME_BYTES:
        raise click.BadParameter(f"longer than {MOST_NAME_BYTES} bytes", param_hint="--node-name")
    return announcing.Settings(tuple(dict.fromkeys(interfaces)), group)


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


async def serve(settings: Settings, plane: Plane) -> None:
    """Drive the plane until SIGTERM or SIGINT, and leave its dataplane running. Raises PlaneError, and
    AnnounceError if this process may not announce.

    The first signal lets an apply under way finish; the second one does not.
    """
    await asyncio.to_thread(announcing.check, settings.announce)
    announcer = announcing.Announcing(settings.node, settings.announce)
    async with Client(settings.api, settings.node) as client, _meanwhile(announcer.run()):
        stop = asyncio.Event()
        driver = Driver(client, plane, on_applied=announcer.applied)
        running = asyncio.create_task(driver.run(stop))

        def on_signal() -> None:
            if stop.is_set():
                running.cancel()
            stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        await running
    log.info("stopped; what was applied stays in force")


async def cleanup(settings: Settings, plane: Plane) -> None:
    """Take away what the plane put on this node, and tell the others so. Raises as `serve` does."""
    await plane.cleanup()
    await asyncio.to_thread(announcing.leave, settings.node, settings.announce)


@asynccontextmanager
async def _meanwhile(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Work that goes on during the body, and is cancelled after it."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def configure_logging(level: str) -> None:
    """One line an event on standard error."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z"
    )
