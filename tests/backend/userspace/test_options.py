"""The command line of the userspace plane."""

from __future__ import annotations

import click
import pytest

from blixt_backend.planes.base import NodeIdentity
from blixt_backend.planes.userspace.options import Settings
from blixt_backend.planes.userspace.plane import UserspacePlane


def made(*arguments: str) -> UserspacePlane:
    command = click.Command("plane", params=list(UserspacePlane.options()))
    with command.make_context("plane", list(arguments)) as context:
        return UserspacePlane.from_options(NodeIdentity("node1"), **context.params)


def test_without_options_all_is_as_usual() -> None:
    assert made()._settings == Settings()


def test_every_option_is_heard() -> None:
    settings = made(
        "--map", "10.96.0.1=127.0.0.1:0", "--cluster-cidr", "10.244.0.0/16,fd00::/64",
        "--nodeport-addresses", "primary", "--max-connections", "5", "--max-flows", "6",
        "--connect-timeout", "0.5", "--tcp-idle-timeout", "7", "--udp-idle-timeout", "8", "--stop-grace", "0",
    )._settings  # fmt: skip
    assert len(settings.maps) == 1
    assert [str(each) for each in settings.cluster_cidrs] == ["10.244.0.0/16", "fd00::/64"]
    assert settings.node_ports.primary
    assert (settings.max_connections, settings.max_flows) == (5, 6)
    assert (settings.connect_seconds, settings.tcp_idle_seconds, settings.udp_idle_seconds) == (0.5, 7, 8)
    assert settings.drain_seconds == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--map", "nothing"], "is nothing like"),
        (["--cluster-cidr", "10.0.0.1/8"], "has host bits set"),
        (["--nodeport-addresses", "eth0"], "is no range"),
        (["--max-connections", "0"], "not in the range"),
        (["--connect-timeout", "0"], "not in the range"),
    ],
)
def test_what_is_refused(arguments: list[str], complaint: str) -> None:
    with pytest.raises(click.BadParameter, match=complaint):
        made(*arguments)
