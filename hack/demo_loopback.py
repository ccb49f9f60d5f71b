"""The demo without root: a Gateway balances real traffic over processes, all of it on loopback."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click

from blixt_backend.testing.traffic import Conversation, TalkError, Target, ask, converse
from demo_machines import Endpoint, Manifests, Program, places
from demo_showing import DemoError, finished, heading, step, table, verdict

#: Three points are four standard deviations of the largest share of so many draws.
CONNECTIONS, POINTS = 4000, 3.0
AT_ONCE, PATIENCE = 32, 5.0
WEB, DNS, HELLO = "192.0.2.10:8080/tcp", "192.0.2.10:5353/udp", "192.0.2.20:8080/tcp"
#: Which of them each service has, as in config/samples; and the route's weights.
BEHIND = {"blue": (1, 2), "green": (3, 4), "dns": (1, 2, 3, 4), "hello": (1, 2, 3, 4)}
WEIGHTS = {"blue": 0.7, "green": 0.3}


@dataclass(slots=True)
class Outcome:
    """Answers by endpoint, and failures by reason."""

    answers: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)


class Setting:
    """All that runs."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self.endpoints = {n: Endpoint(f"endpoint-{n}", folder, stack) for n in (1, 2, 3, 4)}
        self.manifests = Manifests(folder / "manifests")
        self.tell(self.endpoints.values())
        # A path that is short enough for a socket's name on every system.
        self._api = f"unix:{folder}/api"
        self.frontend = self._frontend()
        maps = [f"--map={address}=127.0.0.1:0" for address in self.manifests.addresses()]
        plane = ["--plane", "userspace", "--node-name", "node1", "--healthz-address", "off", *maps]
        self.backend = Program(
            "backend", [_script("blixt-backend"), "--api", self._api, *plane], folder, stack
        )

    def tell(self, there: Iterable[Endpoint]) -> None:
        """Let these be all endpoints, as a cluster's EndpointSlices would say."""
        those = set(there)
        self.manifests.endpoints(
            {
                service: [self.endpoints[n] for n in numbers if self.endpoints[n] in those]
                for service, numbers in BEHIND.items()
            }
        )

    def target(self, frontend: str) -> Target:
        return Target(frontend.rpartition("/")[2], "127.0.0.1", places(self.backend.log)[frontend])

    def logs(self) -> str:
        return "\n".join(f"--- {each.name}\n{each.log[-3000:]}" for each in (self.frontend, self.backend))

    def check(self) -> None:
        """Raises DemoError if a daemon has ended by itself."""
        for each in (self.frontend, self.backend):
            if each.exit_code is not None:
                raise DemoError(f"{each.name} ended with exit code {each.exit_code}")

    def _frontend(self) -> Program:
        argv = [_script("blixt-frontend"), "--manifests", str(self.manifests.folder), "--listen", self._api]
        return Program("frontend", argv, self._folder, self._stack)


def show(keep: bool) -> None:
    """Start everything, balance traffic over it with Blixt, and show what happens.

    Raises click.ClickException if something went wrong.
    """
    started = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started ends, too
    click.echo(
        "Not root: this is the demo on loopback, where the userspace plane carries all (docs/userspace.md)."
    )
    click.echo("As root it shows eBPF on two nodes, made of network namespaces: sudo make demo")
    with tempfile.TemporaryDirectory(prefix="blixt-demo-") as folder, ExitStack() as stack:
        setting = Setting(Path(folder), stack)
        try:
            asyncio.run(show_all(setting))
            if keep:
                wait(setting, folder)
            show_end(setting)
        except (DemoError, TalkError, OSError, TimeoutError) as error:
            click.echo(setting.logs(), err=True)
            raise click.ClickException(f"demo: failed: {error}") from error
    finished(started)


async def show_all(setting: Setting) -> None:
    await show_places(setting)
    shares = {n: WEIGHTS[service] / 2 for service in ("blue", "green") for n in BEHIND[service]}
    await show_spread(setting, "TCP", WEB, shares)
    await show_spread(setting, "UDP", DNS, dict.fromkeys((1, 2, 3, 4), 0.25))
    await show_changes(setting)
    await show_frontends_death(setting)


async def show_places(setting: Setting) -> None:
    heading("Everything is a process of this user's, on 127.0.0.1")
    with step("frontend and backend serve the samples"):
        await until(lambda: {WEB, DNS, HELLO} <= places(setting.backend.log).keys(), setting)
    rows = [("process", "TCP port", "UDP port", "")]
    for number, each in setting.endpoints.items():
        behind = ", ".join(service for service, numbers in BEHIND.items() if number in numbers)
        rows.append((each.name, str(each.tcp), str(each.udp), behind))
    table(rows, " rr")
    click.echo("\n  Gateway demo/edge: TCP to blue (70) and green (30), UDP to dns. The backend listens at")
    for frontend in (WEB, DNS, HELLO):
        click.echo(f"  {setting.target(frontend)} for {frontend}")


async def show_spread(setting: Setting, title: str, frontend: str, shares: dict[int, float]) -> None:
    started = time.monotonic()
    got = await connect_often(setting.target(frontend), CONNECTIONS)
    heading(f"Spread, {title}: {CONNECTIONS} connections in {time.monotonic() - started:.1f} s")
    rows = [("endpoint", "answers", "share", "by weight", "off by")]
    largest = 0.0
    for number, expected in shares.items():
        name = setting.endpoints[number].name
        share = got.answers[name] / CONNECTIONS
        largest = max(largest, 100 * abs(share - expected))
        figures = (f"{100 * share:.1f} %", f"{100 * expected:.1f} %", f"{100 * (share - expected):+.1f}")
        rows.append((name, str(got.answers[name]), *figures))
    table(rows, " rrrr")
    verdict(not got.failures, f"failed: {got.failures.total()} {dict(got.failures) or ''}".rstrip())
    verdict(largest <= POINTS, f"within {POINTS:g} points of the weights")


async def show_changes(setting: Setting) -> None:
    killed, leaving = setting.endpoints[2], setting.endpoints[4]
    stay = [setting.endpoints[1], setting.endpoints[3]]
    target = setting.target(HELLO)
    heading(
        f"kill -9 of {killed.name}, then {leaving.name} is scaled away, with 30 connections open to others"
    )
    rows = [("", "connections", *(each.name for each in setting.endpoints.values()), "failed")]
    failed = 0

    async def phase(title: str) -> None:
        nonlocal failed
        got = await connect_often(target, 400)
        counts = [str(got.answers[each.name]) for each in setting.endpoints.values()]
        rows.append((title, "400", *counts, str(got.failures.total())))
        failed += got.failures.total()

    async with AsyncExitStack() as stack:
        held = await hold(stack, target, {each.name for each in (*stay, leaving)}, 30)
        await phase("all are there")
        killed.kill9()
        await phase(f"{killed.name} killed; nobody has told Blixt")
        setting.tell([*stay, killed])
        await until_unused(target, leaving)
        await phase(f"{leaving.name} alive; its EndpointSlice is gone")
        table(rows, " rrrrrr")
        after = Counter([await still(each, had) for each, had in held])
    verdict(not failed, f"failed: {failed}: what an endpoint refuses goes to another one")
    wanted = {had: "reset" if had == leaving.name else "goes on" for _, had in held}
    right = sum(count for (had, became), count in after.items() if wanted[had] == became)
    gone = sum(count for (had, _), count in after.items() if had == leaving.name)
    verdict(
        right == len(held), f"open connections: {len(held) - gone} go on, {gone} to {leaving.name} are reset"
    )


async def until_unused(target: Target, endpoint: Endpoint) -> None:
    """Wait until 50 connections in a row went elsewhere. Raises TimeoutError."""
    async with asyncio.timeout(30):
        while (await connect_often(target, 50)).answers[endpoint.name]:
            pass


async def still(opened: Conversation, had: str) -> tuple[str, str]:
    """The endpoint that a connection had, and what has become of it."""
    try:
        answer = await opened.ask("again", PATIENCE)
    except TalkError as error:
        return had, error.reason
    return had, "goes on" if answer.server == had else f"is {answer.server}'s"


async def show_frontends_death(setting: Setting) -> None:
    heading("kill -9 of the frontend")
    setting.frontend.kill9()
    got = await connect_often(setting.target(WEB), 400)
    verdict(not got.failures, f"failed without it: {got.failures.total()} of 400")


def show_end(setting: Setting) -> None:
    heading("The backend is told to end")
    code = setting.backend.terminate()
    verdict(code == 0, f"exit code {code}; the proxy is gone with it")


def wait(setting: Setting, folder: str) -> None:
    heading("Left up, to look around; Ctrl-C ends it")
    click.echo(f"  echo hello | nc {setting.target(WEB).address} {setting.target(WEB).port}")
    click.echo(f"  the manifests and logs are in {folder}")
    try:
        signal.pause()
    except KeyboardInterrupt:
        click.echo()


async def hold(
    stack: AsyncExitStack, target: Target, names: set[str], count: int
) -> list[tuple[Conversation, str]]:
    """So many connections that are open to these endpoints, each with its endpoint's name."""
    held: list[tuple[Conversation, str]] = []
    while len(held) < count:
        opened = await stack.enter_async_context(converse(target, PATIENCE))
        server = (await opened.ask("hello", PATIENCE)).server
        if server in names:
            held.append((opened, server))
    return held


async def connect_often(target: Target, count: int) -> Outcome:
    """So many connections with one question each, some at a time."""
    outcome, numbers = Outcome(), iter(range(count))

    async def work() -> None:
        for number in numbers:
            try:
                outcome.answers[(await ask(target, str(number), PATIENCE)).server] += 1
            except TalkError as error:
                outcome.failures[error.reason] += 1

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return outcome


async def until(holds: Callable[[], bool], setting: Setting) -> None:
    """Raises TimeoutError after a time that only a failure takes."""
    async with asyncio.timeout(30):
        while not holds():
            setting.check()
            await asyncio.sleep(0.05)


def _script(name: str) -> str:
    """A command that is installed beside this Python."""
    return str(Path(sys.executable).parent / name)
