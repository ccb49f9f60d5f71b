"""One control plane for all tests of this folder; those that hurt it get their own."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

from blixt_control_plane import STANDARD, ControlPlane, MissingError, control_plane
from blixt_control_plane.programs import check_ready


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
    return report


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
