"""docs/planes.md shows a whole plane: it must be one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from blixt_backend.model import ChangeSet, PackedAddress, Service, ServiceView
from blixt_backend.planes.base import NodeIdentity, PlaneError

PAGE = Path(__file__).parents[2] / "docs" / "planes.md"
VIEW = ServiceView(Service("shop", "web", cluster_ips=(PackedAddress(bytes([192, 0, 2, 10])),)))


@pytest.fixture(scope="module")
def plane_class() -> Any:
    [code] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    return names["HostsPlane"]


async def test_the_plane_of_the_page_works(plane_class: Any, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    plane = plane_class.from_options(NodeIdentity("node1"), hosts_file=hosts)
    await plane.start()
    views = {VIEW.service.path: VIEW}
    await plane.apply(ChangeSet(changed=views, removed=frozenset(), desired=views, resync=True))
    assert hosts.read_text() == "192.0.2.10 web.shop\n"
    await plane.apply(ChangeSet(changed={}, removed=frozenset(views), desired={}))
    assert hosts.read_text() == ""
    await plane.stop()
    assert hosts.exists()
    await plane.cleanup()
    assert not hosts.exists()


async def test_the_plane_of_the_page_says_what_it_misses(plane_class: Any, tmp_path: Path) -> None:
    with pytest.raises(PlaneError, match="--hosts-file"):
        await plane_class(tmp_path / "missing" / "hosts").start()


def test_the_plane_of_the_page_offers_its_option(plane_class: Any) -> None:
    assert [option.name for option in plane_class.options()] == ["hosts_file"]
