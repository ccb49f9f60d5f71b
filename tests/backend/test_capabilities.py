"""What services ask of planes, what the operator is told of it, and `blixt-backend planes`."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest
from click.testing import CliRunner

from blixt_backend import cli
from blixt_backend.model import (
    Algorithm,
    ChangeSet,
    Endpoint,
    PackedAddress,
    PortMapping,
    Protocol,
    Scope,
    Service,
    ServiceView,
    SourceFilter,
)
from blixt_backend.planes import registry
from blixt_backend.planes.capabilities import ALWAYS_ASKED, Capability, asked, lacking
from blixt_backend.shortcomings import Shortcomings

V4, V6 = PackedAddress(bytes(4)), PackedAddress(bytes(16))
TCP, UDP = PortMapping("http", Protocol.TCP, 80), PortMapping("dns", Protocol.UDP, 53)
PLAIN = Service("shop", "web", cluster_ips=(V4,), ports=(TCP,))
POD = Endpoint("a", (V4,))
BASE = {Capability.TCP, Capability.IPV4, Capability.CLUSTER_IPS}
EVERYTHING = frozenset(Capability)


def view(*endpoints: Endpoint, **fields: Any) -> ServiceView:
    return ServiceView(replace(PLAIN, **fields), endpoints or (POD,))


@pytest.mark.parametrize(
    ("asking", "more"),
    [
        (view(), set()),
        (view(ports=(TCP, UDP)), {Capability.UDP, Capability.UDP_MOVES}),
        (view(ports=(TCP, PortMapping("s", Protocol.SCTP, 9))), {Capability.SCTP}),
        (view(ports=(replace(TCP, node_port=30080),)), {Capability.NODE_PORTS}),
        (view(cluster_ips=(V4, V6)), {Capability.IPV6}),
        (view(external_ips=(V4,)), {Capability.EXTERNAL_IPS}),
        (view(load_balancer_ips=(V6,)), {Capability.LOAD_BALANCER_IPS, Capability.IPV6}),
        (view(source_filters=(SourceFilter((V4,), ()),)), {Capability.SOURCE_RANGES}),
        (view(affinity_seconds=1), {Capability.AFFINITY}),
        (view(algorithm=Algorithm.MAGLEV), {Capability.MAGLEV}),
        (view(algorithm=Algorithm.LEAST_CONNECTIONS), {Capability.LEAST_CONNECTIONS}),
        (
            view(external_traffic_local=True),
            {Capability.EXTERNAL_LOCAL, Capability.LOCAL_DROPS, Capability.SHORT_CIRCUIT},
        ),
        (view(internal_traffic_local=True), {Capability.INTERNAL_LOCAL, Capability.LOCAL_DROPS}),
        (view(POD, Endpoint("b", (V4,))), set()),
        (view(POD, Endpoint("b", (V4,), group=1)), {Capability.WEIGHTS}),
        (view(POD, Endpoint("b", (V4,), weight=2)), {Capability.WEIGHTS}),
        (view(POD, Endpoint("b", (V4,), weight=2, scopes=Scope.NONE)), set()),
        (view(POD, Endpoint("b", reject=True)), {Capability.REJECT_SHARES}),
        (view(POD, Endpoint("b", (V4,), terminating=True, scopes=Scope.NONE)), {Capability.DRAINING}),
        (view(replace(POD, terminating=True)), {Capability.TERMINATING_FALLBACK}),
    ],
)
def test_what_a_service_asks_for(asking: ServiceView, more: set[Capability]) -> None:
    assert asked(asking) == BASE | more
    assert set(lacking(asking, frozenset())) == BASE | more
    assert lacking(asking, EVERYTHING) == []
    assert lacking(asking, EVERYTHING - more) == [each for each in Capability if each in more]


def change(*views: ServiceView, removed: str = "", resync: bool = False) -> ChangeSet:
    told = {each.service.path: each for each in views}
    return ChangeSet(told, frozenset({removed} - {""}), told, resync)


def test_a_shortcoming_is_told_once_for_each_service(caplog: pytest.LogCaptureFixture) -> None:
    shortcomings = Shortcomings("mine", EVERYTHING - {Capability.AFFINITY, Capability.MAGLEV})
    sticky = view(affinity_seconds=1)
    shortcomings.applied(change(view()))
    assert caplog.messages == []
    shortcomings.applied(change(sticky))
    assert caplog.messages == [
        "shop/web asks for what plane 'mine' can't do: session affinity by the client's address"
    ]
    caplog.clear()
    shortcomings.applied(change(sticky, resync=True))
    shortcomings.applied(change(view(affinity_seconds=2)))
    assert caplog.messages == []
    shortcomings.applied(change(view(affinity_seconds=1, algorithm=Algorithm.MAGLEV)))
    assert caplog.messages == [f"shop/web asks for what plane 'mine' can't do: {Capability.MAGLEV.text}"]


@pytest.mark.parametrize("gone", [change(removed="shop/web"), change(resync=True)])
def test_a_service_that_comes_back_is_told_of_again(
    caplog: pytest.LogCaptureFixture, gone: ChangeSet
) -> None:
    shortcomings = Shortcomings("mine", EVERYTHING - {Capability.AFFINITY})
    shortcomings.applied(change(view(affinity_seconds=1)))
    shortcomings.applied(gone)
    shortcomings.applied(change(view(affinity_seconds=1)))
    assert len(caplog.messages) == 2


def test_a_thousand_shortcomings_are_no_thousand_lines(caplog: pytest.LogCaptureFixture) -> None:
    many = [view(name=f"web-{number}", affinity_seconds=1) for number in range(1000)]
    Shortcomings("mine", frozenset(BASE)).applied(change(*many))
    assert len(caplog.messages) == 21
    assert caplog.messages[-1] == "and 980 more services ask for what it can't do"


def test_what_no_service_gets_is_told_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    Shortcomings("mine", EVERYTHING).start()
    assert caplog.messages == []
    Shortcomings("mine", EVERYTHING - {Capability.SOURCE_KEPT, Capability.AFFINITY}).start()
    assert caplog.messages == [f"plane 'mine' can't do for any service: {Capability.SOURCE_KEPT.text}"]
    assert Capability.AFFINITY not in ALWAYS_ASKED


def test_planes_shows_what_each_claims() -> None:
    result = CliRunner().invoke(cli.main, ["planes"])
    assert result.exit_code == 0
    rows = {fields[0]: fields for fields in map(str.split, result.output.splitlines()) if fields}
    heading = rows["CAPABILITY"]
    assert rows["cluster-ips"][heading.index("ebpf")] == "yes"
    assert rows["cluster-ips"][heading.index("print")] == "no"
    assert {each.key for each in Capability} <= rows.keys()


def test_planes_as_json() -> None:
    told = json.loads(CliRunner().invoke(cli.main, ["planes", "-o", "json"]).output)
    assert told["planes"]["print"]["only_shows"] is True
    claimed = registry.load("ebpf").capabilities
    assert {key: row["planes"]["ebpf"] for key, row in told["capabilities"].items()} == {
        each.key: each in claimed for each in Capability
    }


def test_planes_tells_of_one_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if that is the default one."""
    broken = EntryPoints([EntryPoint("ebpf", "no_such_package:Plane", registry.GROUP)])
    monkeypatch.setattr(registry, "entry_points", lambda **query: broken.select(**query))
    result = CliRunner().invoke(cli.main, ["planes"])
    assert result.exit_code == 0
    assert "No module named 'no_such_package'" in result.output
