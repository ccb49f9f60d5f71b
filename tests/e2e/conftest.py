"""One control plane for all tests of this folder; those that hurt it get their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator

import pytest

from blixt_control_plane import STANDARD, ControlPlane, MissingError, control_plane
from blixt_control_plane.programs import check_ready
from blixt_real import Figures, RealCluster, Shop, real_cluster


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "e2e: against a real control plane; needs its programs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is marked, and skipped where the programs are missing, with what to do about it."""
    reason = _missing()
    for item in items:
        if item.path.parent.name == "e2e":
            item.add_marker(pytest.mark.e2e)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))
            elif item.get_closest_marker("lab") and os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="needs root"))


def _missing() -> str | None:
    try:
        check_ready()
    except MissingError as error:
        return str(error)
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows the ends of its control planes' logs."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for made in item.funcargs.values():
            if isinstance(made, ControlPlane):
                report.sections += [(part.name, part.log_tail(12)) for part in made.components]
            elif isinstance(made, RealCluster):
                report.sections += made.logs()
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was seen of traffic, in one table."""
    rows = [
        (report.nodeid.rpartition("::")[2].removeprefix("test_"), *value.texts())
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, ())
        for value in dict(report.user_properties).values()
        if report.when == "call" and isinstance(value, Figures)
    ]
    if rows:
        table = [("", *Figures.titles()), *rows]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        terminalreporter.section("traffic")
        for first, *others in table:
            cells = (text.rjust(width) for text, width in zip(others, widths[1:], strict=True))
            terminalreporter.write_line("  ".join((first.ljust(widths[0]), *cells)))


@pytest.fixture(scope="session")
def shared_control_plane() -> Iterator[ControlPlane]:
    """With the CRDs of the Gateway API's standard channel. Each test has namespaces of its own."""
    with control_plane() as plane:
        plane.install(STANDARD)
        yield plane


@pytest.fixture
def own_control_plane() -> Iterator[ControlPlane]:
    """Without CRDs, for one test that kills servers or exchanges CRDs."""
    with control_plane() as plane:
        yield plane


@pytest.fixture(scope="session")
def real() -> Iterator[RealCluster]:
    """A control plane, nodes and traffic for all tests that need them. Each has a namespace of its own."""
    with real_cluster() as made:
        yield made


@pytest.fixture
def shop(real: RealCluster, request: pytest.FixtureRequest) -> Iterator[Shop]:
    """An empty namespace. No daemon may have ended when the test has."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())
    made = Shop(real, name[-50:].strip("-"))
    yield made
    made.close()
    for daemon in real.daemons:
        assert daemon.running, f"{daemon.name} ended with {daemon.exit_code}"


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Figures:
    """To be filled by the test, and shown at the end of the run."""
    made = Figures()
    record_property("figures", made)
    return made
