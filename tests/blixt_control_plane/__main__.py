"""A control plane by hand: `hack/control-plane.sh` calls this."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

import click

from blixt_control_plane.api import ApiError
from blixt_control_plane.build import BuildError
from blixt_control_plane.build import build as build_all
from blixt_control_plane.component import ComponentError
from blixt_control_plane.control_plane import ControlPlane, KubectlError
from blixt_control_plane.processes import end_all, processes_of
from blixt_control_plane.programs import BUNDLES, NEEDED, ROOT, MissingError, kubernetes_version
from blixt_lab.wait import WaitTimeoutError

SERVERS = tuple(name for name in NEEDED if name != "kubectl")
#: The frontend's ServiceAccount: namespace and name, as config/default has them.
FRONTEND = ("blixt-system", "blixt-frontend")

#: A file that says that a folder is a control plane's, and may be removed.
LABEL = "blixt-control-plane"

directory = click.option(
    "--dir",
    "home",
    type=click.Path(path_type=Path, file_okay=False, resolve_path=True),
    default=ROOT / "build" / "control-plane",
    show_default="build/control-plane",
    help="Where its data, logs, certificates and kubeconfigs are.",
)


@click.group(context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]})
def main() -> None:
    """A Kubernetes control plane on loopback: etcd, API server, controllers; no kubelet, no scheduler.

    \b
    Try it:
      hack/control-plane.sh up          # builds it the first time, and says how to use it
      hack/control-plane.sh down
    """


@main.command()
def build() -> None:
    """Build the programs from pinned Go modules, once, and bring the Gateway API's CRDs."""
    click.echo(_build())


@main.command()
@directory
@click.option(
    "--gateway-api",
    type=click.Choice([*BUNDLES, "none"]),
    default="standard",
    show_default=True,
    help="CRDs to install: " + "; ".join(f"{name}: {b.version} {b.channel}" for name, b in BUNDLES.items()),
)
def up(home: Path, gateway_api: str) -> None:
    """Start it; `down` ends it. Does nothing where it is up."""
    running = set(processes_of(home).values())
    if running and running != set(SERVERS):
        raise click.ClickException(f"only {', '.join(sorted(running))} run for {home}: first say `down`")
    if not running:
        _start(home, gateway_api)
    click.echo(
        f"export KUBECONFIG={home / 'admin.kubeconfig'}\n"
        f"export PATH={home / 'bin'}:$PATH\n"
        f"# {home / 'frontend.kubeconfig'} is the ServiceAccount {'/'.join(FRONTEND)}, "
        "with the rights that you give it"
    )


def _start(home: Path, gateway_api: str) -> None:
    _build()
    began = time.monotonic()
    if home.exists() and any(home.iterdir()):
        if not (home / LABEL).exists():
            raise click.ClickException(f"{home} has something else in it: name another folder")
        shutil.rmtree(home)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / LABEL).touch()
    with contextlib.ExitStack() as failed:
        failed.callback(end_all, home)
        try:
            _prepare(ControlPlane(home), gateway_api)
        except (ComponentError, WaitTimeoutError, MissingError, ApiError, KubectlError, OSError) as error:
            raise click.ClickException(f"{error}\nlogs: {home}") from error
        failed.pop_all()
    click.echo(f"# Kubernetes {kubernetes_version()} is up after {time.monotonic() - began:.1f} s")


def _prepare(plane: ControlPlane, gateway_api: str) -> None:
    plane.start()
    if gateway_api != "none":
        plane.install(BUNDLES[gateway_api])
    namespace, name = FRONTEND
    plane.namespace(namespace)
    plane.api().post(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
    plane.service_account_kubeconfig(namespace, name, plane.home / "frontend.kubeconfig")
    (plane.home / "bin").symlink_to(plane.programs.folder)


@main.command()
@directory
def down(home: Path) -> None:
    """End its processes and remove its folder."""
    running = processes_of(home)
    if not running and not (home / LABEL).exists():
        click.echo(f"there is no control plane in {home}")
        return
    end_all(home)
    if (home / LABEL).exists():
        shutil.rmtree(home)
    click.echo(f"ended {len(running)} processes of {home}")


@main.command()
@directory
def status(home: Path) -> None:
    """Show which of its servers run. Exit code 1 where one doesn't."""
    running = {name: pid for pid, name in processes_of(home).items()}
    for name in SERVERS:
        click.echo(f"{name:24} {f'runs, process {running[name]}' if name in running else 'does not run'}")
    if set(running) != set(SERVERS):
        raise SystemExit(1)


def _build() -> Path:
    try:
        return build_all(lambda line: click.echo(f"control-plane: {line}", err=True)).folder
    except (BuildError, MissingError, OSError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main(prog_name="hack/control-plane.sh")
