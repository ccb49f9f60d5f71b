"""The print plane: what it prints, in both forms, and when its reader is gone."""

from __future__ import annotations

import io
import json

import pytest

from blixt_backend.model import (
    Algorithm,
    ChangeSet,
    Endpoint,
    Origin,
    PackedAddress,
    PortMapping,
    Protocol,
    Scope,
    Service,
    ServiceView,
    SourceFilter,
)
from blixt_backend.planes.base import PlaneError
from blixt_backend.planes.print import Form, PrintPlane

WEB = ServiceView(
    Service(
        "shop",
        "gw.web",
        type="LoadBalancer",
        origin=Origin.GATEWAY_LISTENER,
        algorithm=Algorithm.MAGLEV,
        load_balancer_ips=(PackedAddress(bytes([192, 0, 2, 1])), PackedAddress(bytes(15) + b"\x01")),
        ports=(PortMapping("http", Protocol.TCP, 80),),
        external_traffic_local=True,
        announce=True,
        source_filters=(
            SourceFilter(
                (PackedAddress(bytes([192, 0, 2, 1])),), ((PackedAddress(bytes([10, 0, 0, 0])), 8),)
            ),
        ),
    ),
    (
        Endpoint(
            "a",
            (PackedAddress(bytes([198, 51, 100, 1])),),
            port_overrides=(("http", 8080),),
            local=True,
            weight=70,
        ),
        Endpoint(
            "b", (PackedAddress(bytes([198, 51, 100, 2])),), port_overrides=(("x", 1),), scopes=Scope.NONE
        ),
        Endpoint("r", reject=True, weight=30, group=1),
    ),
)
SMALL = ServiceView(Service("a", "small"))


def change(*, resync: bool = False, removed: tuple[str, ...] = (), **views: ServiceView) -> ChangeSet:
    changed = {path.replace("_", "/"): view for path, view in views.items()}
    return ChangeSet(changed, frozenset(removed), changed, resync, revision=5)


async def printed(form: Form, *changes: ChangeSet) -> list[str]:
    out = io.StringIO()
    plane = PrintPlane(form, out)
    await plane.start()
    for each in changes:
        await plane.apply(each)
    return out.getvalue().splitlines()


async def test_one_object_a_change() -> None:
    lines = await printed(Form.JSON, change(shop_web=WEB, resync=True))
    assert [json.loads(line) for line in lines] == [
        {
            "revision": 5,
            "resync": True,
            "added": {
                "shop/web": {
                    "type": "LoadBalancer",
                    "origin": "GatewayListener",
                    "algorithm": "Maglev",
                    "loadBalancerIPs": ["192.0.2.1", "::1"],
                    "ports": [{"name": "http", "protocol": "TCP", "port": 80}],
                    "externalTrafficLocal": True,
                    "announce": True,
                    "sourceFilters": [{"targets": ["192.0.2.1"], "ranges": ["10.0.0.0/8"]}],
                    "endpoints": [
                        {
                            "key": "a",
                            "addresses": ["198.51.100.1"],
                            "ports": [8080],
                            "local": True,
                            "weight": 70,
                            "scopes": ["internal", "external", "cluster"],
                        },
                        {
                            "key": "b",
                            "addresses": ["198.51.100.2"],
                            "ports": [None],
                            "weight": 1,
                            "scopes": [],
                        },
                        {
                            "key": "r",
                            "reject": True,
                            "group": 1,
                            "weight": 30,
                            "scopes": ["internal", "external", "cluster"],
                        },
                    ],
                }
            },
            "changed": {},
            "removed": [],
        }
    ]


async def test_added_changed_and_removed_are_told_apart() -> None:
    lines = await printed(
        Form.JSON,
        change(a_1=SMALL, a_2=SMALL, resync=True),
        change(a_2=WEB, a_3=SMALL, removed=("a/1",)),
        change(a_3=SMALL, resync=True),
        change(a_3=SMALL, resync=True),
    )
    told = [json.loads(line) for line in lines]
    assert [(list(t["added"]), list(t["changed"]), t["removed"]) for t in told] == [
        (["a/1", "a/2"], [], []),
        (["a/3"], ["a/2"], ["a/1"]),
        ([], [], ["a/2"]),
        ([], [], []),
    ]


async def test_a_table() -> None:
    lines = await printed(Form.TABLE, change(shop_web=WEB, resync=True), change(removed=("shop/web",)))
    assert [line.split() for line in lines] == [
        ["#", "revision", "5,", "resync:", "1", "services"],
        ["+", "shop/web", "80/TCP", "192.0.2.1,::1", "LoadBalancer"],
        ["+", "->", "198.51.100.1", "8080", "weight", "70,", "local"],
        ["+", "->", "198.51.100.2", "no", "such", "port", "weight", "1,", "draining"],
        ["+", "->", "refused", "weight", "30,", "group", "1"],
        ["#", "revision", "5,", "change:", "0", "services"],
        ["-", "shop/web"],
    ]


async def test_a_reader_that_is_gone_is_a_failed_apply_and_is_told_all_when_back() -> None:
    class Pipe(io.StringIO):
        broken = True

        def write(self, text: str) -> int:
            if self.broken:
                raise BrokenPipeError(32, "Broken pipe")
            return super().write(text)

    out = Pipe()
    plane = PrintPlane(Form.JSON, out)
    with pytest.raises(PlaneError, match="Broken pipe"):
        await plane.apply(change(a_1=SMALL))
    out.broken = False
    await plane.apply(change(a_1=SMALL, resync=True))
    assert list(json.loads(out.getvalue())["added"]) == ["a/1"]
    assert plane.status() == {"services": 1}
