"""The daemon's process: signals, exit codes, and what runs between them."""

from __future__ import annotations

import asyncio
import logging
import signal
from dataclasses import dataclass

import click

from blixt_backend.client import Client
from blixt_backend.driver import Driver
from blixt_backend.planes.base import Plane
from blixt_backend.tls import Api, ApiAddressError, CertificateError, TlsFiles, target

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the daemon needs to know besides its plane."""

    api: Api
    node: str


def settings(address: str, node: str, tls: TlsFiles) -> Settings:
    """What the command line says, checked. Raises click.UsageError."""
    if not node:
        raise click.UsageError("--node-name is empty: give the name of this node's Node object")
    try:
        return Settings(Api(target(address), _checked(tls)), node)
    except ApiAddressError as error:
        raise click.BadParameter(str(error), param_hint="--api") from None


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
    """Drive the plane until SIGTERM or SIGINT, and leave its dataplane running. Raises PlaneError.

    The first signal lets an apply under way finish; the second one does not.
    """
    async with Client(settings.api, settings.node) as client:
        stop = asyncio.Event()
        running = asyncio.create_task(Driver(client, plane).run(stop))

        def on_signal() -> None:
            if stop.is_set():
                running.cancel()
            stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        await running
    log.info("stopped; what was applied stays in force")


def configure_logging(level: str) -> None:
    """One line an event on standard error."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z"
    )
