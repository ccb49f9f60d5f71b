"""The traffic tools by hand: `nsenter --net=PATH python -m blixt_lab.traffic spread tcp ADDRESS PORT`."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
from collections.abc import Coroutine
from typing import Any

import click

from blixt_lab.traffic import Target, hammer, hold, serve, spread

_target = [
    click.argument("protocol", type=click.Choice(["tcp", "udp"])),
    click.argument("address"),
    click.argument("port", type=click.IntRange(1, 65535)),
]


def _with_target(command: Any) -> Any:
    for argument in reversed(_target):
        command = argument(command)
    return command


@click.group()
def main() -> None:
    """Talk to services, and count who answers. Results are one JSON object."""


@main.command("serve")
@click.argument("name")
@click.option("--tcp", default=8080, show_default=True, help="TCP port.")
@click.option("--udp", default=5353, show_default=True, help="UDP port.")
def serve_command(name: str, tcp: int, udp: int) -> None:
    """Answer as NAME over IPv4 and IPv6, until SIGINT or SIGTERM."""
    _run(lambda stop: serve(name, tcp, udp, lambda: click.echo("ready"), stop))


@main.command("spread")
@_with_target
@click.option("--count", default=1000, show_default=True, help="How many conversations.")
@click.option("--concurrency", default=32, show_default=True, help="How many at a time.")
def spread_command(protocol: str, address: str, port: int, count: int, concurrency: int) -> None:
    """Many short conversations: who answers how often."""
    _show(asyncio.run(spread(Target(protocol, address, port), count, concurrency)))


@main.command("hammer")
@_with_target
@click.option("--rate", default=200.0, show_default=True, help="Conversations a second.")
@click.option("--seconds", default=60.0, show_default=True, help="How long, unless interrupted.")
def hammer_command(protocol: str, address: str, port: int, rate: float, seconds: float) -> None:
    """New conversations at a steady rate, until Ctrl-C."""
    target = Target(protocol, address, port)
    _show(_run(lambda stop: hammer(target, stop, rate, longest=seconds)))


@main.command("hold")
@_with_target
@click.option("--count", default=200, show_default=True, help="How many conversations.")
@click.option("--seconds", default=60.0, show_default=True, help="How long, unless interrupted.")
def hold_command(protocol: str, address: str, port: int, count: int, seconds: float) -> None:
    """Long-lived conversations, until Ctrl-C: which were lost, and why."""
    target = Target(protocol, address, port)
    _show(_run(lambda stop: hold(target, count, stop, longest=seconds)))


def _run(work: Any) -> Any:
    async def until_told() -> Any:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        task: Coroutine[Any, Any, Any] = work(stop)
        return await task

    return asyncio.run(until_told())


def _show(result: Any) -> None:
    # Not asdict(): it makes Counters of Counters' items.
    shown = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    if "seen" in shown:
        shown["seen"] = {f"{server} saw {client}": n for (server, client), n in result.seen.items()}
    click.echo(json.dumps(shown, default=dataclasses.asdict))


if __name__ == "__main__":
    main()
