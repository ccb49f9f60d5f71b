"""registry: planes by entry point."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from blixt_backend.planes import registry
from blixt_backend.planes.fake import RecordingPlane
from blixt_backend.planes.print import PrintPlane

FAKE = "blixt_backend.planes.fake"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three planes of other people's packages, of which one works."""
    points = EntryPoints(
        EntryPoint(name, value, registry.GROUP)
        for name, value in {
            "good": f"{FAKE}:RecordingPlane",
            "absent": "no_such_package.plane:Plane",
            "typo": f"{FAKE}:RecrodingPlane",
            "function": "json:dumps",
        }.items()
    )
    monkeypatch.setattr(registry, "entry_points", lambda **query: points.select(**query))


def test_our_own_planes_are_installed() -> None:
    assert {"ebpf", "print"} <= set(registry.names())
    assert registry.load("print") is PrintPlane


@pytest.mark.usefixtures("installed")
def test_others_planes_are_found() -> None:
    assert registry.load("good") is RecordingPlane


@pytest.mark.usefixtures("installed")
def test_an_unknown_name_is_answered_with_those_that_are_known() -> None:
    with pytest.raises(
        registry.UnknownPlaneError, match="'iptables' here, only: absent, function, good, typo"
    ):
        registry.load("iptables")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("absent", "No module named 'no_such_package'"),
        ("typo", "RecrodingPlane"),
        ("function", "no subclass of blixt_backend.planes.base.Plane"),
    ],
)
def test_a_plane_that_cannot_be_loaded_is_named_with_the_reason(name: str, says: str) -> None:
    with pytest.raises(registry.BrokenPlaneError, match=says):
        registry.load(name)
