"""`blixt-backend`: the command line. A plane's own options join in once `--plane` is known."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import click

from blixt_backend.health.places import DEFAULTS
from blixt_backend.planes import registry
from blixt_backend.planes.base import NodeIdentity, Plane, PlaneError
from blixt_backend.planes.capabilities import Capability
from blixt_backend.planes.command import planes
from blixt_backend.planes.pinroot import DEFAULT_PIN_ROOT, others_pin_root

DEFAULT_PLANE = "ebpf"
#: Subcommands that are about no plane in particular.
_OWN_COMMANDS = (planes,)
#: Where the others are, imported only when one is asked for: a print-only run needs no libbpf.
_COMMANDS = "blixt_backend.planes.ebpf.commands"
_PEM = click.Path(exists=True, dir_okay=False, path_type=Path)
_LEVELS = click.Choice(["debug", "info", "warning", "error"])
_PLANE_CLASS = f"{__name__}.plane_class"
_PIN_ROOT = "pin_root"

_HELP = """Apply what a Blixt frontend (or a KPNG server) says to this node's packets.

The daemon follows the frontend at --api and brings every difference to its plane: by default eBPF programs
in the kernel. When it is stopped, restarted or loses the frontend, traffic goes on; --cleanup takes all of it
away.

\b
Examples:
  The node's uplink is eth0, the frontend is on this machine:
    blixt-backend --interface eth0
  A frontend elsewhere, with mutual TLS:
    blixt-backend --interface eth0 --api frontend.blixt.svc:12090 \\
        --tls-ca ca.crt --tls-cert node.crt --tls-key node.key
  Answer for load balancer addresses on eth0's segment, too:
    blixt-backend --interface eth0 --announce eth0
  Only look at what this node would be told:
    blixt-backend --plane print --print table
  What is in force, read from the kernel (no daemon needed):
    blixt-backend services
  Which planes there are, and what they can do:
    blixt-backend planes
  Go over to another plane: stop the backend, start the other one; connections go on
    blixt-backend --plane nftables --interface eth0
  Give the node to another proxy that serves already, without ending connections:
    blixt-backend --drain
  Leave the node as it was, at once:
    blixt-backend --cleanup
"""


class BackendGroup(click.Group):
    """A group whose options depend on the plane that one of them names."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Which planes are broken is what `planes` is asked for: it must not stop at the default one.
        if args[:1] != [planes.name]:
            ctx.meta[_PLANE_CLASS] = _load_plane(_named_plane(args), ctx)
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        common = super().get_params(ctx)
        plane: type[Plane] | None = ctx.meta.get(_PLANE_CLASS)
        if plane is None:
            return common
        own = list(plane.options())
        if _drains_others(plane) and all(option.name != _PIN_ROOT for option in own):
            own.append(others_pin_root())
        return [*own, *common]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        try:
            super().format_commands(ctx, formatter)
        except click.ClickException as error:
            with formatter.section("Commands"):
                formatter.write_text(error.message)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [command.name for command in (*_OWN_COMMANDS, *_commands()) if command.name]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = next((command for command in _OWN_COMMANDS if command.name == cmd_name), None)
        return own or next((command for command in _commands() if command.name == cmd_name), None)


def _drains_others(plane: type[Plane]) -> bool:
    """Whether it takes the node over: one that is only there as long as its process is a guest."""
    return not plane.only_shows and Capability.OUTLIVES_PROCESS in plane.capabilities


def _named_plane(args: Sequence[str]) -> str:
    """The value of `--plane`, before the options that it brings can be parsed."""
    named = DEFAULT_PLANE
    for argument, following in zip(args, [*args[1:], ""], strict=True):
        if argument == "--plane" and following:
            named = following
        elif argument.startswith("--plane="):
            named = argument.removeprefix("--plane=")
    return named


def _load_plane(name: str, ctx: click.Context) -> type[Plane]:
    try:
        return registry.load(name)
    except registry.UnknownPlaneError as error:
        raise click.BadParameter(str(error.args[0]), ctx, param_hint="--plane") from None
    except registry.BrokenPlaneError as error:
        raise click.ClickException(
            f"{error}. Choose another with --plane: {', '.join(registry.names())}"
        ) from None


def _commands() -> Sequence[click.Command]:
    try:
        commands: Sequence[click.Command] = import_module(_COMMANDS).COMMANDS
    except ImportError as error:
        raise click.ClickException(f"the subcommands can't be imported: {error}") from error
    return commands


@click.group(
    cls=BackendGroup,
    invoke_without_command=True,
    help=_HELP,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
@click.option(
    "--api",
    "address",
    metavar="ADDRESS",
    default="127.0.0.1:12090",
    show_default=True,
    help="The frontend: HOST:PORT, [IPV6]:PORT or unix:PATH.",
)
@click.option(
    "--node-name",
    metavar="NAME",
    envvar="NODE_NAME",
    default=lambda: socket.gethostname().lower(),
    show_default="$NODE_NAME, else the host's name",
    help="The name of this node's Node object.",
)
@click.option(
    "--plane",
    "plane_name",
    metavar="NAME",
    default=DEFAULT_PLANE,
    show_default=True,
    help=f"What carries the packets: {', '.join(registry.names())}. Each has options of its own; "
    "see --plane NAME --help.",
)
@click.option(
    "--announce",
    "announce",
    metavar="INTERFACE",
    multiple=True,
    help="Answer on this interface's segment, by ARP and neighbour discovery, for the addresses of Gateways "
    "and of Services out of the frontend's pools. Of the nodes that do so, one answers for each address, and "
    "another one when that dies. Repeatable; an interface that isn't there is waited for.",
)
@click.option(
    "--announce-group",
    metavar="NAME",
    default="default",
    show_default=True,
    help="The nodes among whom --announce chooses: give each cluster on a segment a name of its own.",
)
@click.option(
    "--healthz-address",
    "healthz",
    metavar="ADDRESS",
    multiple=True,
    default=DEFAULTS,
    show_default=True,
    help="Where /healthz, /readyz and /livez tell of this node's health by HTTP: IPV4:PORT or [IPV6]:PORT; "
    "'off' for nowhere. Repeatable; an address that can't be had is tried again.",
)
@click.option("--tls-ca", type=_PEM, help="Use TLS; who may have signed the frontend's certificate.")
@click.option("--tls-cert", type=_PEM, help="Use mutual TLS with this certificate.")
@click.option("--tls-key", type=_PEM, help="The key of --tls-cert.")
@click.option(
    "--tls-server-name", metavar="NAME", help="The name in the frontend's certificate, if not --api's."
)
@click.option("--cleanup", is_flag=True, help="Remove everything that the plane put on this node, and exit.")
@click.option(
    "--drain",
    is_flag=True,
    help="Give this node's services away: take no new flows any more, whichever plane had them, wait until "
    "those that there are have ended, remove everything, and exit. Whoever is to serve must do so already.",
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="How long what another plane has left here, or what --drain drains, may keep its flows; they end "
    "then. Without it, until they end by themselves.",
)
@click.option(
    "--log-level", type=_LEVELS, default="info", show_default=True, help="What to log, on standard error."
)
@click.version_option(version("blixt"), prog_name="blixt-backend")
@click.pass_context
def main(
    context: click.Context,
    /,
    address: str,
    node_name: str,
    plane_name: str,
    announce: tuple[str, ...],
    announce_group: str,
    healthz: tuple[str, ...],
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_server_name: str | None,
    cleanup: bool,
    drain: bool,
    drain_timeout: float | None,
    log_level: str,
    **plane_options: object,
) -> None:
    if context.invoked_subcommand is not None:
        return
    plane_class: type[Plane] = context.meta[_PLANE_CLASS]
    # gRPC's own lines on standard error say the same as ours, in its developers' words.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Not needed, and slow, for the subcommands.
    from blixt_backend import app, tls
    from blixt_backend.announce.interface import AnnounceError
    from blixt_backend.planes import leftovers
    from blixt_backend.planes.draining import Draining, Pace

    if drain and cleanup:
        raise click.UsageError("--drain and --cleanup don't go together: --drain cleans up at its end")
    app.configure_logging(log_level)
    files = tls.TlsFiles(tls_ca, tls_cert, tls_key, tls_server_name or "")
    settings = app.settings(address, node_name, files, announce, announce_group, healthz, plane_name)
    pin_root = plane_options.get(_PIN_ROOT, DEFAULT_PIN_ROOT)
    assert isinstance(pin_root, Path), "whoever has the option has a path"
    if all(option.name != _PIN_ROOT for option in plane_class.options()):
        plane_options.pop(_PIN_ROOT, None)
    plane = plane_class.from_options(NodeIdentity(node_name), **plane_options)
    pace = Pace(longest=drain_timeout)
    try:
        if cleanup:
            asyncio.run(app.cleanup(settings, plane))
        elif drain:
            if not asyncio.run(app.drain(settings, Draining(leftovers.besides("", pin_root), pace))):
                raise click.ClickException("stopped before all flows had ended: they go on")
        else:
            left = leftovers.besides(plane_name, pin_root) if _drains_others(plane_class) else []
            asyncio.run(app.serve(settings, plane, Draining(left, pace)))
    except AnnounceError as error:
        raise click.ClickException(str(error)) from error
    except PlaneError as error:
        raise click.ClickException(f"plane {plane_name!r}: {error}") from error
    except asyncio.CancelledError:
        raise click.ClickException(
            "stopped in the middle of a change, as asked; the next start repairs it"
        ) from None
