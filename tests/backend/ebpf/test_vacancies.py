"""The addresses where flows to no service end, against a real map and a plain count of who has them."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator

import pytest

from blixt_backend.model import PackedAddress, PortMapping, Protocol, Service, ServiceView
from blixt_backend.planes.ebpf.layout import IPV4, IPV6, Layout, VacancyAnswer
from blixt_backend.planes.ebpf.libbpf import BpfError
from blixt_backend.planes.ebpf.maps import BPF_F_NO_PREALLOC, LPM_TRIE, BpfMap, create_map
from blixt_backend.planes.ebpf.vacancies import Vacancies
from blixt_backend.planes.servicecidrs import parse

pytestmark = pytest.mark.bpf

RANGES = parse(["10.96.0.0/12, fd00:10:96::/112"])
PORTS = (PortMapping("http", Protocol.TCP, 80),)


def ip(text: str) -> PackedAddress:
    return PackedAddress(ipaddress.ip_address(text).packed)


def view(*addresses: str) -> ServiceView:
    """It has others, too, which are none of cluster IPs' business."""
    own = tuple(map(ip, addresses))
    return ServiceView(Service("ns", "web", cluster_ips=own, external_ips=(ip("192.0.2.1"),), ports=PORTS))


@pytest.fixture(params=[IPV4, IPV6], ids=["ipv4", "ipv6"])
def opened(request: pytest.FixtureRequest) -> Iterator[tuple[Layout, BpfMap]]:
    layout: Layout = request.param
    made = create_map(LPM_TRIE, "vacancies", layout.vacancy.size, 4, 64, BPF_F_NO_PREALLOC)
    with BpfMap(made) as trie:
        yield layout, trie


def held(layout: Layout, trie: BpfMap) -> dict[str, VacancyAnswer]:
    found = {}
    for key, value in trie.items():
        length, address = layout.vacancy.unpack(key)
        found[f"{ipaddress.ip_address(address)}/{length}"] = VacancyAnswer(int.from_bytes(value, "little"))
    return found


def test_random_services_that_share_addresses(opened: tuple[Layout, BpfMap]) -> None:
    layout, trie = opened
    rng = random.Random(1)
    family = "10.96.0.{}" if layout is IPV4 else "fd00:10:96::{}"
    other = "fd00::{}" if layout is IPV4 else "10.0.0.{}"
    vacancies, desired = Vacancies(layout, trie, RANGES), dict[str, ServiceView]()
    for turn in range(300):
        paths = {f"ns/s{rng.randrange(8)}" for _ in range(3)}
        removed = {path for path in paths if rng.random() < 0.4}
        changed = {
            path: view(
                *{family.format(1 + rng.randrange(6)) for _ in range(rng.randrange(2))}, other.format(9)
            )
            for path in paths - removed
        }
        desired = {path: each for path, each in {**desired, **changed}.items() if path not in removed}
        if rng.random() < 0.1:  # a restart
            vacancies = Vacancies(layout, trie, RANGES)
        resync = turn == 0 or not vacancies.in_step or rng.random() < 0.1
        vacancies.apply(desired if resync else changed, removed, resync)
        own = {a for each in desired.values() for a in each.service.cluster_ips if len(a) == layout.size}
        expected = {f"{ipaddress.ip_address(a)}/{layout.bits}": VacancyAnswer.REFUSED for a in own}
        expected["10.96.0.0/12" if layout is IPV4 else "fd00:10:96::/112"] = VacancyAnswer.DROPPED
        assert held(layout, trie) == expected


def test_without_ranges_nothing_is_dropped_and_what_was_is_let_go(opened: tuple[Layout, BpfMap]) -> None:
    layout, trie = opened
    Vacancies(layout, trie, RANGES).apply({}, frozenset(), True)
    assert set(held(layout, trie).values()) == {VacancyAnswer.DROPPED}
    Vacancies(layout, trie, ()).apply({}, frozenset(), True)
    assert held(layout, trie) == {}


def test_a_write_that_fails_is_made_up_for(
    opened: tuple[Layout, BpfMap], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, trie = opened
    vacancies = Vacancies(layout, trie, ())
    desired = {"ns/web": view("10.96.0.1", "fd00:10:96::1")}
    vacancies.apply({}, frozenset(), True)

    def failing(*_: object) -> None:
        raise BpfError(12, "no memory")

    with monkeypatch.context() as patch:
        patch.setattr(BpfMap, "update_joined", failing)
        with pytest.raises(BpfError):
            vacancies.apply(desired, frozenset(), False)
    assert not vacancies.in_step
    vacancies.apply(desired, frozenset(), True)
    assert vacancies.in_step
    assert set(held(layout, trie).values()) == {VacancyAnswer.REFUSED}


def test_more_addresses_than_there_is_room_for_fail_no_change(
    opened: tuple[Layout, BpfMap], caplog: pytest.LogCaptureFixture
) -> None:
    layout, trie = opened
    vacancies = Vacancies(layout, trie, ())
    many = {f"ns/s{n}": view(f"10.96.1.{n}", f"fd00:10:96::1:{n}") for n in range(1, 100)}
    vacancies.apply(many, frozenset(), True)
    vacancies.apply({"ns/more": view("10.96.2.1", "fd00:10:96::2:1")}, frozenset(), False)
    assert vacancies.in_step
    assert len(held(layout, trie)) == trie.info.max_entries
    assert [record.message for record in caplog.records if "vacancies is full" in record.message][1:] == []
    assert "vacancies is full" in caplog.text
    few = dict(list(many.items())[:5])
    vacancies.apply(few, frozenset(), True)
    assert len(held(layout, trie)) == 5


@pytest.mark.parametrize("text", ["", "10.96.0.1", "10.96.0.1/12", "10.0.0.0/4", "10.96.0.1/32", "services"])
def test_what_is_no_range_of_cluster_ips(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no range such as|can't be the range"):
        parse([text])
