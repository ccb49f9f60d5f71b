"""The command `blixt-frontend`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from blixt_frontend import log
from blixt_frontend.addresses import AddressBook, Pools, parse_pool
from blixt_frontend.app import run
from blixt_frontend.cluster import run_on_cluster
from blixt_frontend.errors import FrontendError
from blixt_frontend.kubernetes import InCluster, Kubeconfig
from blixt_frontend.listeners import Address, parse_address
from blixt_frontend.manifests import ManifestSource
from blixt_frontend.server import ServerConfig
from blixt_frontend.source import SourceError
from blixt_frontend.tls import TlsFiles
from blixt_frontend.translator import Translator

LEASE_NAMESPACE = "blixt-system"


def addresses(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> tuple[Address, ...]:
    """The addresses to listen on."""
    try:
        return tuple(parse_address(text) for text in texts)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from error


def at_most_one(_: click.Context, __: click.Parameter, paths: tuple[Path, ...]) -> Path | None:
    """One source feeds a frontend."""
    if len(paths) > 1:
        raise click.BadParameter("give one path; a folder may hold many files.")
    return paths[0] if paths else None


def pools(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> Pools:
    """The address pools."""
    try:
        return Pools(map(parse_pool, texts))
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from error


@click.command(context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]})
@click.option(
    "--manifests",
    type=click.Path(path_type=Path),
    multiple=True,
    callback=at_most_one,
    help="A YAML file, or a folder of them, such as `kubectl apply -f` takes. Changes are picked up as "
    "they are saved; a file that is broken is reported, and its last good version stays in force.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    help="Follow the cluster of this file, such as ~/.kube/config. Of the Gateway API what is installed is "
    "followed, and the rest once it is.",
)
@click.option("--context", metavar="NAME", help="The context of --kubeconfig; without it, its current one.")
@click.option(
    "--in-cluster",
    is_flag=True,
    help="Follow the cluster that this runs in as a pod, by the pod's service account.",
)
@click.option(
    "--lease-namespace",
    metavar="NAMESPACE",
    help="With a cluster: where the Lease blixt-frontend is. Of those that share it, one writes status "
    f"and gives out addresses.  [default: {LEASE_NAMESPACE}]",
)
@click.option(
    "--listen",
    multiple=True,
    callback=addresses,
    default=["127.0.0.1:12090"],
    show_default=True,
    metavar="ADDRESS",
    help="HOST:PORT, [IPv6]:PORT, :PORT for every address, or unix:PATH, a socket that only the user "
    "who runs this can open. May be repeated.",
)
@click.option(
    "--address-pool",
    "address_pools",
    multiple=True,
    callback=pools,
    metavar="NAME=PART[,PART...]",
    help="Give Gateways and Services of type LoadBalancer addresses out of this pool. A part is a CIDR "
    "(without its network and broadcast address), a range FIRST-LAST, or an address, of IPv4 or IPv6. May be "
    "repeated; the annotation blixt.dev/address-pool chooses one. Services with another loadBalancerClass "
    "than blixt.dev/frontend, or with an address from elsewhere, are left alone.",
)
@click.option(
    "--tls-cert", type=click.Path(path_type=Path), help="Serve TLS on TCP with this certificate chain (PEM)."
)
@click.option(
    "--tls-key", type=click.Path(path_type=Path), help="The key of --tls-cert (PEM, without a password)."
)
@click.option(
    "--tls-client-ca",
    type=click.Path(path_type=Path),
    help="Let in only clients with a certificate of this authority (PEM), each for the node that the "
    "certificate names: its common name or a DNS name is NODE or system:node:NODE.",
)
@click.option(
    "--log-level",
    type=click.Choice(log.LEVELS),
    default="info",
    show_default=True,
    help="Lines go to stderr.",
)
@click.version_option(package_name="blixt", message="%(prog)s %(version)s")
def main(
    manifests: Path | None,
    kubeconfig: Path | None,
    context: str | None,
    in_cluster: bool,
    lease_namespace: str | None,
    listen: tuple[Address, ...],
    address_pools: Pools,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    log_level: str,
) -> None:
    """Tell every node's backend which services, listeners and endpoints there are.

    Kubernetes objects (Services, EndpointSlices, Gateways, TCPRoutes, UDPRoutes and what they refer to)
    are translated to a small service model. Backends watch it by gRPC and get what differs.

    The objects come from a cluster (--kubeconfig, --in-cluster) or from files (--manifests).

    \b
    Try it on this machine:
      blixt-frontend --manifests config/samples --listen 127.0.0.1:12090
      blixt-backend --api 127.0.0.1:12090 --plane print

    \b
    For a cluster's network, with certificates on both sides:
      blixt-frontend --kubeconfig ~/.kube/config --listen :12090 \\
        --tls-cert tls.crt --tls-key tls.key --tls-client-ca ca.crt

    Certificates are read again when their files change. SIGTERM and SIGINT end it: streams finish their
    round, and nodes go on with what they have. Exit codes: 0 ended by signal, 1 failure, 2 wrong usage.
    """
    config = ServerConfig(listen, tls_files(tls_cert, tls_key, tls_client_ca))
    origin = only_origin(manifests, kubeconfig, context, in_cluster)
    if lease_namespace is not None and isinstance(origin, Path):
        raise click.UsageError("--lease-namespace goes with a cluster, not with --manifests.")
    log.configure(log_level)
    try:
        if isinstance(origin, Path):
            check_readable(origin)
            asyncio.run(run(ManifestSource(origin), Translator(addresses=AddressBook(address_pools)), config))
        else:
            asyncio.run(run_on_cluster(origin, config, address_pools, lease_namespace or LEASE_NAMESPACE))
    except FrontendError as error:
        raise click.ClickException(str(error)) from error


def only_origin(
    manifests: Path | None, kubeconfig: Path | None, context: str | None, in_cluster: bool
) -> Path | Kubeconfig | InCluster:
    """Where the objects come from: a path of manifests, or a cluster. Raises UsageError."""
    if (manifests is not None) + (kubeconfig is not None) + in_cluster != 1:
        raise click.UsageError("Give one of --kubeconfig, --in-cluster and --manifests.")
    if context is not None and kubeconfig is None:
        raise click.UsageError("--context needs --kubeconfig.")
    if manifests is not None:
        return manifests
    return Kubeconfig(kubeconfig, context) if kubeconfig is not None else InCluster()


def check_readable(path: Path) -> None:
    """Raises SourceError. Later on, what can't be read is waited for, but at the start it is a mistake."""
    try:
        if path.is_dir():
            next(path.iterdir(), None)
        else:
            path.open("rb").close()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def tls_files(certificate: Path | None, key: Path | None, client_ca: Path | None) -> TlsFiles | None:
    """Raises UsageError where a part is missing."""
    if certificate is None and key is None:
        if client_ca is not None:
            raise click.UsageError("--tls-client-ca needs --tls-cert and --tls-key.")
        return None
    if certificate is None or key is None:
        raise click.UsageError("--tls-cert and --tls-key go together.")
    return TlsFiles(certificate, key, client_ca)
