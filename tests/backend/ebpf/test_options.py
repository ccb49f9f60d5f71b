"""The plane's options: what they become, and what is refused."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from blixt_backend.planes.base import NodeIdentity
from blixt_backend.planes.ebpf import nodes
from blixt_backend.planes.ebpf.options import (
    Forwarding,
    PortRange,
    Settings,
    SocketMode,
    XdpMode,
    options,
    settings,
)
from blixt_backend.planes.ebpf.plane import EbpfPlane
from blixt_backend.planes.ebpf.sizes import Sizes
from blixt_backend.planes.nodeports import parse


def parsed(*arguments: str) -> Settings:
    """What a command line becomes. Raises click.UsageError."""
    command = click.Command("test", params=options(), callback=settings)
    found = command.main(list(arguments), standalone_mode=False)
    assert isinstance(found, Settings)
    return found


def test_the_defaults() -> None:
    assert parsed() == Settings()
    assert str(PortRange()) == "1024-29999"


def test_every_option_counts() -> None:
    given = (
        "--interface eth0 --interface ens* --pod-interface x* --xdp native --pin-root rel --max-services 1"
    )
    more = "--max-endpoints 2 --max-connections 3 --max-embryos 4 --masquerade-ports 5000-5999"
    sockets = "--socket-lb on --cgroup /c"
    ranges = "--nodeport-addresses 10.0.0.0/8,fd00::/8 --nodeport-addresses 192.0.2.0/24"
    tunnels = "--forwarding dsr --node-ranges 192.0.2.0/24,fd00::/64 --node-ranges 198.51.100.7"
    found = parsed(*given.split(), *more.split(), *sockets.split(), *ranges.split(), *tunnels.split())
    assert found == Settings(
        interfaces=("eth0", "ens*"),
        pod_interfaces=("x*",),
        node_ports=parse(["10.0.0.0/8", "fd00::/8", "192.0.2.0/24"]),
        xdp=XdpMode.NATIVE,
        pin_root=Path("rel").absolute(),
        sizes=Sizes(1, 2, 3, 4),
        masquerade_ports=PortRange(5000, 1000),
        forwarding=Forwarding.DSR,
        node_ranges=nodes.parse(["192.0.2.0/24", "fd00::/64", "198.51.100.7"]),
        socket_lb=SocketMode.ON,
        cgroup=Path("/c"),
    )


@pytest.mark.parametrize("text", ["", "80", "2-1", "0-5", "1-65536", "a-b", "-5", "1-2-3"])
def test_a_range_that_is_none_is_bad_usage(text: str) -> None:
    with pytest.raises(click.UsageError, match="no range of ports"):
        parsed(f"--masquerade-ports={text}")


@pytest.mark.parametrize(
    "arguments", [("--xdp", "fast"), ("--max-services", "0"), ("--max-endpoints", "many")]
)
def test_other_values_that_cannot_be(arguments: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError):
        parsed(*arguments)


def test_nodes_of_no_range_are_bad_usage() -> None:
    with pytest.raises(click.UsageError, match="'node1' is no range"):
        parsed("--node-ranges", "node1")


def test_node_ports_of_no_range_are_bad_usage() -> None:
    with pytest.raises(click.UsageError, match="'eth0' is no range"):
        parsed("--nodeport-addresses", "eth0")


@pytest.mark.parametrize("ranges", ["127.0.0.0/8", "10.0.0.0/8,::1/128"])
def test_node_ports_on_loopback_need_the_work_on_sockets(ranges: str) -> None:
    assert parsed("--nodeport-addresses", ranges).node_ports.names_loopback
    with pytest.raises(click.UsageError, match="a range of loopback's needs --socket-lb"):
        parsed("--nodeport-addresses", ranges, "--socket-lb", "off")
    assert not parsed("--nodeport-addresses", "0.0.0.0/0", "--socket-lb", "off").node_ports.names_loopback


def test_the_plane_is_made_from_its_options() -> None:
    command = click.Command(
        "test",
        params=list(EbpfPlane.options()),
        callback=lambda **values: EbpfPlane.from_options(NodeIdentity("node"), **values),
    )
    assert isinstance(command.main(["--interface", "eth0"], standalone_mode=False), EbpfPlane)
    assert "--masquerade-ports" in CliRunner().invoke(command, ["--help"]).output
