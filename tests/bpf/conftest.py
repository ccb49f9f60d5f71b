"""One namespace and one load of the objects for all tests of this folder; a count of what was compared."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from blixt_model.comparison import Comparison
from blixt_model.family import IPV4, IPV6, Family
from blixt_model.kernel import Kernel
from blixt_model.network import Network, inside, network
from blixt_model.scene import Scene
from blixt_model.ways import Settings

OBJECTS = Path(__file__).parents[2] / "backend/blixt_backend/objects"
#: So few ports that masquerading meets collisions and runs out of them, so few hints that some are lost, and
#: so few places for closed connections that they make each other go.
SETTINGS = Settings(
    hash_seed=0x1BADB002CAFEF00D, port_first=40000, port_count=3, hint_count=16, closing_count=2
)

#: Random packets that the differential test compares at least; an environment variable for longer runs.
PACKETS = int(os.environ.get("BLIXT_PACKETS", "12000"))

_compared = pytest.StashKey[dict[str, int]]()
_processed = pytest.StashKey[dict[str, int]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_compared] = {}
    config.stash[_processed] = {}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for what, count in config.stash[_compared].items():
        terminalreporter.write_line(f"differential test: {count} {what}")
    for program, count in config.stash[_processed].items():
        terminalreporter.write_line(f"verifier: {count:7,} instructions processed, {program}")


@pytest.fixture(scope="session")
def compared(pytestconfig: pytest.Config) -> dict[str, int]:
    """What was compared, and how many of it: shown at the end."""
    return pytestconfig.stash[_compared]


@pytest.fixture(scope="session")
def processed(pytestconfig: pytest.Config) -> dict[str, int]:
    """What the verifier went through, by program: shown at the end."""
    return pytestconfig.stash[_processed]


@pytest.fixture(scope="session")
def packets_wanted() -> int:
    return PACKETS


@pytest.fixture(scope="session")
def settings() -> Settings:
    return SETTINGS


@pytest.fixture(scope="session")
def settings_ports() -> range:
    """The ports to masquerade to."""
    return range(SETTINGS.port_first, SETTINGS.port_first + SETTINGS.port_count)


@pytest.fixture(scope="session")
def known_network() -> Iterator[Network]:
    with network() as made:
        yield made


@pytest.fixture(scope="session", params=[IPV4, IPV6], ids=["IPv4", "IPv6"])
def family(request: pytest.FixtureRequest) -> Family:
    chosen: Family = request.param
    return chosen


@pytest.fixture(scope="session")
def kernel(family: Family) -> Iterator[Kernel]:
    loaded = Kernel(OBJECTS / f"blixt{family.version}.bpf.o", family, SETTINGS)
    yield loaded
    loaded.close()


@pytest.fixture
def comparison(kernel: Kernel, known_network: Network) -> Iterator[Comparison]:
    """Model and kernel side by side, in the namespace."""
    with inside(known_network.name):
        yield Comparison(kernel, known_network, SETTINGS)


@pytest.fixture
def scene(comparison: Comparison) -> Scene:
    """The small world of the packets written by hand."""
    return Scene(comparison)
