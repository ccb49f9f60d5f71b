"""The whole plane on real tables in a network namespace: what it holds, and what others do to it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from blixt_backend.model import (
    ChangeSet,
    Endpoint,
    PortMapping,
    Protocol,
    Scope,
    Service,
    ServiceView,
    SourceFilter,
)
from blixt_backend.planes.base import Plane, PlaneError
from blixt_backend.planes.nftables import adopt, libnftables
from blixt_backend.planes.nftables.compile import Frontend
from blixt_backend.planes.nftables.elements import NAMES, Element, Value
from blixt_backend.planes.nftables.family import FAMILIES, TABLE
from blixt_backend.planes.nftables.kernel import Tables
from blixt_backend.planes.nftables.libnftables import Nftables
from blixt_backend.planes.nftables.options import Settings
from blixt_backend.planes.nftables.plane import NftablesPlane
from blixt_backend.planes.nftables.ruleset import Rules
from blixt_backend.testing import contract
from blixt_backend.testing.contract import Destinations, Harness, Listener, Target
from blixt_views import packed

pytestmark = pytest.mark.bpf
Ip = Callable[[str], None]


def nft(*commands: str) -> str:
    return subprocess.run(["nft", *commands], check=True, timeout=20, capture_output=True, text=True).stdout


def tables() -> list[str]:
    return nft("list", "tables").split("\n")[:-1]


@pytest.fixture
def settings(namespace: Ip) -> Settings:
    namespace("link add u0 type veth peer name u1")
    namespace("address add 192.0.2.1/24 dev u0")
    namespace("link set u0 up")
    return Settings(interfaces=("u0",))


def held() -> Mapping[Element, Value]:
    """What is in the kernel, both families'."""
    opened = Tables(Nftables(), Rules())
    try:
        return {
            element: value for family in FAMILIES for element, value in opened.held(family).elements.items()
        }
    finally:
        opened.close()


class KernelHarness(Harness):
    """Reads what is in force from the kernel."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def make(self) -> Plane:
        return NftablesPlane(self._settings)

    def destinations(self) -> Destinations:
        elements = held()
        places = adopt.places(elements)
        found = {}
        for element in elements:
            if element.name == "inside_frontends":
                address, protocol, port = frontend = Frontend(*element.key)  # type: ignore[arg-type]
                targets = frozenset(Target(*slot) for slot in places[frontend].get("inside", ()) if slot)
                found[Listener(address, port, Protocol[protocol.upper()])] = targets
        return found

    def fail_next_apply(self, plane: Plane) -> None:
        """Somebody empties a map: what the plane wants to delete isn't there."""
        nft("flush", "map", "ip", TABLE, "inside_slots")


@pytest.mark.parametrize("check", contract.CHECKS, ids=contract.name)
async def test_contract(check: contract.Check, settings: Settings) -> None:
    await check(KernelHarness(settings))


def view(name: str, address: str, endpoints: int, **fields: Any) -> ServiceView:
    usual: dict[str, Any] = {"ports": (PortMapping("http", Protocol.TCP, 80, 30080, 8080),)}
    made = Service("ns", name, cluster_ips=packed(address), **(usual | fields))
    return ServiceView(made, tuple(Endpoint(str(n), packed(f"10.0.0.{n + 1}")) for n in range(endpoints)))


def all_of(*views: ServiceView) -> ChangeSet:
    desired = {each.service.path: each for each in views}
    return ChangeSet(desired, frozenset(), desired, resync=True)


@asynccontextmanager
async def running(settings: Settings, *views: ServiceView) -> AsyncIterator[NftablesPlane]:
    plane = NftablesPlane(settings)
    await plane.start()
    try:
        await plane.apply(all_of(*views))
        yield plane
    finally:
        await plane.stop()


def at(address: str, port: int = 80) -> Element:
    return Element("inside_frontends", (address, "tcp", port))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 -- the kernel's state is what is waited for: it sets no Event
            await asyncio.sleep(0.02)


WEB = view("web", "10.96.0.1", 2)


async def test_a_restart_touches_nothing_that_is_right(settings: Settings, tmp_path: Path) -> None:
    sticky = view("sticky", "10.96.0.2", 3, affinity_seconds=600)
    async with running(settings, WEB, sticky):
        pass
    client = "{ 0x1 . 0x2 timeout 1h : b180:1 }"
    nft("add", "element", "ip", TABLE, "affinity", client)
    before = held()
    with monitored(tmp_path / "told") as changes:
        async with running(settings, WEB, sticky):
            assert held() == before
            assert "b180:1" in nft("list", "map", "ip", TABLE, "affinity")
    assert [each for each in changes() if "element" in each and "choices" not in each] == []


@contextmanager
def monitored(file: Path) -> Iterator[Callable[[], list[str]]]:
    """What nft tells of changes of our tables while the body runs, to be read after it."""

    def mark(name: str) -> None:
        deadline = time.monotonic() + 20
        while f" {name}" not in file.read_text():
            assert time.monotonic() < deadline, "nft monitor tells nothing"
            nft(f"add table ip {name}; delete table ip {name}")
            time.sleep(0.05)

    with file.open("w") as out, subprocess.Popen(["nft", "monitor"], stdout=out) as process:
        try:
            mark("begin")  # it listens some time after its start
            yield lambda: [line for line in file.read_text().splitlines() if TABLE in line]
            mark("end")
        finally:
            process.terminate()


async def test_one_endpoint_touches_its_own_elements(settings: Settings, tmp_path: Path) -> None:
    others = [view(f"other-{n}", f"10.96.1.{n}", 3) for n in range(1, 200)]
    async with running(settings, WEB, *others) as plane:
        more = view("web", "10.96.0.1", 3)
        desired = {each.service.path: each for each in (more, *others)}
        with monitored(tmp_path / "told") as changes:
            await plane.apply(ChangeSet({"ns/web": more}, frozenset(), desired))
    # The frontend has another count, and one slot more; its node port is another service's.
    told = [each.split(" {")[0] for each in changes() if "element" in each]
    assert told == [
        f"delete element ip {TABLE} inside_frontends",
        f"add element ip {TABLE} inside_frontends",
        f"add element ip {TABLE} inside_slots",
    ]


async def test_somebody_elses_changes_are_mended_by_the_next_resync(settings: Settings) -> None:
    async with running(settings, WEB) as plane:
        before = held()
        nft("delete", "element", "ip", TABLE, "inside_frontends", "{ 10.96.0.1 . tcp . 80 }")
        nft("add", "element", "ip", TABLE, "inside_frontends", "{ 10.96.0.7 . tcp . 80 : 0:5 }")
        nft("add", "element", "ip", TABLE, "guarded", "{ 10.96.0.7 . gre . 80 }")
        nft("delete", "element", "ip", TABLE, "inside_choices", "{ 0:5 }")
        nft("add", "element", "ip", TABLE, "source_ranges", "{ 1.2.3.4 . tcp . 80 . 1.1.1.1-1.1.1.7 }")
        nft("flush", "chain", "ip", TABLE, "prerouting")
        await plane.apply(all_of(WEB))
        assert held() == before
        assert "goto outside" in nft("list", "chain", "ip", TABLE, "prerouting")
        nft("delete", "table", "ip", TABLE)
        await plane.apply(all_of(WEB))
        assert held() == before


async def test_a_failed_change_leaves_what_was_and_says_why(settings: Settings) -> None:
    async with running(settings, WEB) as plane:
        nft("add", "element", "ip", TABLE, "inside_frontends", "{ 10.96.0.9 . tcp . 80 : 0:1 }")
        before = held()
        more = view("more", "10.96.0.9", 1)
        desired = {"ns/web": WEB, "ns/more": more}
        with pytest.raises(PlaneError, match=r"^nftables: Could not process rule: File exists$"):
            await plane.apply(ChangeSet({"ns/more": more}, frozenset(), desired))
        assert held() == before
        assert plane.status()["in_step"] is False
        # Whatever comes next is told whole.
        await plane.apply(ChangeSet({}, frozenset(), desired))
        assert held()[at("10.96.0.9")] == Value(("0:3",), "ns/more:http")


async def test_node_ports_follow_the_nodes_addresses_and_uplinks(settings: Settings, namespace: Ip) -> None:
    patterns = Settings(interfaces=("u0", "late*"))
    async with running(patterns, WEB):
        assert at("192.0.2.1", 30080) in held()
        namespace("link add late0 type veth peer name p8")
        namespace("address add 198.51.100.7/24 dev late0")
        await until(lambda: at("198.51.100.7", 30080) in held())
        assert Element("uplinks", ("late0",)) in held()
        namespace("link delete late0")
        await until(lambda: at("198.51.100.7", 30080) not in held())
        assert Element("uplinks", ("late0",)) not in held()


async def test_unneeded_choices_go_with_a_resync(settings: Settings) -> None:
    async with running(settings, view("web", "10.96.0.1", 7)) as plane:
        assert "inside-7" in nft("list", "chains")
        await plane.apply(all_of(WEB))
        assert "inside-7" not in nft("list", "chains")
        assert "inside-2" in nft("list", "chains")


async def test_tables_of_other_layouts_go_once_this_one_is_whole(settings: Settings) -> None:
    nft("add", "table", "ip", "blixt-0")
    nft("add", "table", "ip", "somebody")
    async with running(settings, WEB):
        assert sorted(tables()) == [f"table ip {TABLE}", "table ip somebody", f"table ip6 {TABLE}"]
    await NftablesPlane(settings).cleanup()
    assert tables() == ["table ip somebody"]


async def test_a_table_of_our_name_in_another_shape_is_named(settings: Settings) -> None:
    nft("add", "table", "ip", TABLE)
    nft("add", "set", "ip", TABLE, "guarded", "{ type ifname; elements = { eth0 }; }")
    with pytest.raises(PlaneError, match=f"guarded of table ip {TABLE} is none of ours: delete the table"):
        async with running(settings, WEB):
            pass
    nft("delete", "table", "ip", TABLE)
    async with running(settings, WEB):
        assert at("10.96.0.1") in held()


async def test_one_backend_at_a_time(settings: Settings) -> None:
    async with running(settings, WEB):
        with pytest.raises(PlaneError, match="another backend"):
            await NftablesPlane(settings).start()
        with pytest.raises(PlaneError, match="another backend"):
            await NftablesPlane(settings).cleanup()
    async with running(settings, WEB):
        assert at("10.96.0.1") in held()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Settings(), r"no --interface: name the uplink \(there are: lo\), or the pods' addresses"),
        (Settings(interfaces=("eth9",)), "--interface eth9: there is no such interface. There are: lo"),
    ],
)
async def test_what_is_missing_is_said_at_start(wrong: Settings, said: str, namespace: Ip) -> None:
    with pytest.raises(PlaneError, match=said):
        await NftablesPlane(wrong).start()


async def test_a_missing_library_is_said_with_what_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libnftables, "_SONAME", "libnosuch.so.1")
    with pytest.raises(PlaneError, match=r"libnosuch.so.1 can't be loaded .*Debian: libnftables1"):
        await NftablesPlane(settings).start()


async def test_without_privilege_it_says_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Nftables, commands: bytes) -> bytes:
        raise libnftables.NftError("Operation not permitted (you must be root)")

    monkeypatch.setattr(Nftables, "_run", refuse)
    plane = NftablesPlane(settings)
    await plane.start()
    with pytest.raises(PlaneError, match="you must be root"):
        await plane.apply(all_of(WEB))
    await plane.stop()


async def test_its_words_are_in_the_tables_for_whoever_reads_them(settings: Settings) -> None:
    async with running(settings, WEB) as plane:
        listed = json.loads(nft("-j", "list", "map", "ip", TABLE, "inside_frontends"))
        assert "ns/web:http" in json.dumps(listed)
        assert plane.status() == {
            "table": TABLE,
            "uplinks": ["u0"],
            "frontends": {"ip": 2, "ip6": 0},
            "in_step": True,
        }


async def test_every_kind_of_element_is_adopted(settings: Settings) -> None:
    """Of services that have both sides, affinity, weights, source ranges and endpoints of this node."""
    balancer = packed("198.51.100.1", "2001:db8::1")
    ranges = ((packed("10.0.0.0")[0], 8), (packed("10.9.9.9")[0], 32), (packed("fd00::")[0], 9))
    fields: dict[str, Any] = {
        "load_balancer_ips": balancer,
        "external_traffic_local": True,
        "source_filters": (SourceFilter(balancer, ranges),),
    }
    everywhere, inside = Scope(7), Scope.INTERNAL | Scope.CLUSTER
    endpoints = tuple(
        Endpoint(str(n), packed(f"10.0.0.{n}", f"fd01::{n}"), local=n == 1, group=n, weight=n, scopes=scopes)
        for n, scopes in ((1, everywhere), (2, everywhere), (3, inside))
    )
    http = PortMapping("http", Protocol.TCP, 80, 30080)
    dns = PortMapping("dns", Protocol.UDP, 53, 30053)
    services = (
        Service(
            "ns", "sticky", cluster_ips=packed("10.96.0.3"), ports=(http,), affinity_seconds=60, **fields
        ),
        Service("ns", "two", cluster_ips=packed("10.96.0.4"), ports=(dns,), **fields),
    )
    views = [ServiceView(service, endpoints) for service in services]
    async with running(settings, *views):
        before = held()
    assert {element.name for element in before} == set(NAMES)
    async with running(settings, *views):
        assert held() == before
