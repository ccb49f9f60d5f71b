"""The whole plane on real interfaces: start, apply, restart, kill, follow
interfaces, clean up; and what it refuses."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blixt_backend.model import (
    ChangeSet,
    Endpoint,
    PackedAddress,
    PortMapping,
    Protocol,
    Service,
    ServiceView,
)
from blixt_backend.planes.base import PlaneError
from blixt_backend.planes.ebpf import inspect
from blixt_backend.planes.ebpf.layout import IPV4
from blixt_backend.planes.ebpf.maps import BpfMap
from blixt_backend.planes.ebpf.options import Settings, SocketMode, XdpMode
from blixt_backend.planes.ebpf.pins import Pins
from blixt_backend.planes.ebpf.plane import EbpfPlane
from blixt_backend.planes.ebpf.sizes import Sizes

pytestmark = pytest.mark.bpf
Ip = Callable[[str], None]


def ip(text: str) -> PackedAddress:
    return PackedAddress(ipaddress.ip_address(text).packed)


def view(name: str, address: str, endpoints: int, node_port: int = 0) -> ServiceView:
    return ServiceView(
        Service(
            "ns",
            name,
            cluster_ips=(ip(address),),
            ports=(PortMapping("http", Protocol.TCP, 80, node_port=node_port, target_port=8080),),
        ),
        tuple(Endpoint(str(k), (ip(f"10.0.0.{k + 1}"),)) for k in range(endpoints)),
    )


def all_of(*views: ServiceView) -> ChangeSet:
    desired = {each.service.path: each for each in views}
    return ChangeSet(desired, frozenset(), desired, resync=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 -- the kernel's state is what is waited for: it sets no Event
            await asyncio.sleep(0.02)


@pytest.fixture
def settings(bpffs: Path, namespace: Ip) -> Settings:
    namespace("link add u0 type veth peer name u1")
    namespace("address add 192.0.2.1/24 dev u0")
    namespace("link set u0 up")
    root, sizes = bpffs / "root", Sizes(64, 64, 256)
    return Settings(interfaces=("u0",), pin_root=root, sizes=sizes, socket_lb=SocketMode.OFF)


def inspected(settings: Settings) -> Mapping[str, Any]:
    """What `blixt-backend status` would, from another thread: it talks netlink in a loop of its own."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(inspect.status, Pins(settings.pin_root)).result()


def hooks(settings: Settings) -> set[tuple[str, str, str]]:
    status = inspected(settings)
    return {(row["interface"], row["hook"], row["family"]) for row in status["hooks"]}


def program_ids(settings: Settings) -> list[int]:
    return [row["program_id"] for row in inspected(settings)["hooks"]]


@pytest.mark.parametrize("tcx", [None, False], ids=["links", "clsact"])
async def test_a_life(settings: Settings, tcx: bool | None) -> None:
    first = EbpfPlane(settings, tcx=tcx)
    await first.start()
    await first.apply(all_of(view("web", "10.96.0.1", 3), view("api", "10.96.0.2", 2)))
    await first.stop()
    on_uplink = {("u0", hook, f) for hook in ("uplink_ingress", "node_egress") for f in ("ipv4", "ipv6")}
    assert hooks(settings) == on_uplink
    before, ids = list(inspect.services(Pins(settings.pin_root))), program_ids(settings)
    assert {row["name"] for row in before} == {"ns/web:http/TCP", "ns/api:http/TCP"}

    second = EbpfPlane(settings, tcx=tcx)
    await second.start()
    assert list(inspect.services(Pins(settings.pin_root))) == before
    assert hooks(settings) == on_uplink
    assert not set(ids) & set(program_ids(settings)), "the programs are the new process's"
    await second.apply(all_of(view("web", "10.96.0.1", 3)))
    assert [row for row in before if row["name"] == "ns/web:http/TCP"] == list(
        inspect.services(Pins(settings.pin_root))
    )
    await second.stop()

    await EbpfPlane(settings, tcx=tcx).cleanup()
    with pytest.raises(inspect.NothingPinnedError):
        hooks(settings)
    await EbpfPlane(settings, tcx=tcx).cleanup()


_DAEMON = """
import asyncio, sys
from pathlib import Path
from blixt_backend.planes.ebpf.options import Settings, SocketMode
from blixt_backend.planes.ebpf.plane import EbpfPlane
from blixt_backend.planes.ebpf.sizes import Sizes

async def main():
    root, sizes = Path(sys.argv[1]), Sizes(64, 64, 256)
    settings = Settings(interfaces=("u0",), pin_root=root, sizes=sizes, socket_lb=SocketMode.OFF)
    await EbpfPlane(settings).start()
    print("started", flush=True)
    await asyncio.sleep(100)

asyncio.run(main())
"""


async def test_links_outlive_a_killed_process(settings: Settings) -> None:
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _DAEMON, str(settings.pin_root), stdout=asyncio.subprocess.PIPE
    )
    assert daemon.stdout is not None
    assert await asyncio.wait_for(daemon.stdout.readline(), 60) == b"started\n"
    with pytest.raises(PlaneError, match="another blixt-backend uses"):
        await EbpfPlane(settings).start()
    with pytest.raises(PlaneError, match="another blixt-backend uses"):
        await EbpfPlane(settings).cleanup()
    daemon.send_signal(signal.SIGKILL)
    await daemon.wait()
    left = hooks(settings)
    assert len(left) == 4
    after = EbpfPlane(settings)
    await after.start()
    assert hooks(settings) == left
    await after.stop()


async def test_interfaces_come_and_go(settings: Settings, namespace: Ip) -> None:
    running = EbpfPlane(replace(settings, interfaces=("u0", "late*")))
    await running.start()
    await running.apply(all_of(view("web", "10.96.0.1", 1, node_port=30080)))
    namespace("link add veth7 type veth peer name p7")
    namespace("link add late0 type veth peer name p8")
    namespace("address add 198.51.100.7/24 dev late0")
    await until(lambda: ("veth7", "pod_ingress", "ipv6") in hooks(settings))
    await until(lambda: ("late0", "uplink_ingress", "ipv4") in hooks(settings))
    addresses = {"10.96.0.1", "192.0.2.1", "198.51.100.7"}
    await until(
        lambda: {f["address"] for f in next(inspect.services(running._pins))["frontends"]} == addresses
    )
    namespace("link delete veth7")
    namespace("link delete late0")
    await until(lambda: {name for name, _, _ in hooks(settings)} == {"u0"})
    with BpfMap.open(running._pins.maps(IPV4) / "devices") as devices:
        await until(lambda: devices.count() == 1)
    await until(lambda: len(next(inspect.services(running._pins))["frontends"]) == 2)
    await running.stop()


async def test_xdp_is_off_on_a_veth_unless_asked_for(settings: Settings) -> None:
    for mode, wanted in (
        (XdpMode.AUTO, set()),
        (XdpMode.NATIVE, {"xdp_native"}),
        (XdpMode.GENERIC, {"xdp_generic"}),
    ):
        running = EbpfPlane(replace(settings, xdp=mode))
        await running.start()
        assert {hook for _, hook, _ in hooks(settings) if hook.startswith("xdp")} == wanted
        devices: Any = running.status()["devices"]
        assert [device["xdp"] for device in devices] == [(mode.value if wanted else "off")]
        await running.stop()


async def test_someone_else_s_xdp_is_an_error_that_says_what_to_do(settings: Settings, bpffs: Path) -> None:
    other = EbpfPlane(replace(settings, xdp=XdpMode.GENERIC, pin_root=bpffs / "other"))
    await other.start()
    with pytest.raises(PlaneError, match=r"u0: u0 already carries someone else's XDP program: .*--xdp off"):
        await EbpfPlane(replace(settings, xdp=XdpMode.NATIVE)).start()
    await other.stop()


@pytest.mark.parametrize(
    ("interfaces", "message"),
    [
        ((), "no --interface: name the uplink. There are: lo"),
        (("eth7",), "--interface eth7: there is no such interface. There are: lo"),
    ],
)
async def test_a_wrong_interface_is_refused_with_a_list(
    settings: Settings, interfaces: tuple[str, ...], message: str
) -> None:
    with pytest.raises(PlaneError) as failure:
        await EbpfPlane(replace(settings, interfaces=interfaces)).start()
    assert str(failure.value).startswith(message)
    assert not settings.pin_root.exists()


async def test_a_full_map_is_told_and_what_fits_is_in_force(settings: Settings) -> None:
    running = EbpfPlane(replace(settings, sizes=Sizes(64, 8, 256)))
    await running.start()
    await running.apply(all_of(view("a", "10.96.0.1", 5)))
    with pytest.raises(
        PlaneError, match=r"map endpoints is full \(5 of 8 entries\): 1 service ports stay .*--max-endpoints"
    ):
        await running.apply(all_of(view("a", "10.96.0.1", 9), view("b", "10.96.0.2", 1)))
    assert running.status()["not_fitting"] == [{"port": "ns/a:http/TCP", "map": "endpoints"}]
    shown = {row["name"]: len(row["endpoints"]) for row in inspect.services(running._pins)}
    assert shown == {"ns/a:http/TCP": 5, "ns/b:http/TCP": 1}
    assert inspected(settings)["not_fitting"] == {"ipv4": 1, "ipv6": 0}
    await running.apply(all_of(view("a", "10.96.0.1", 7), view("b", "10.96.0.2", 1)))
    assert running.status()["not_fitting"] == []
    assert inspected(settings)["not_fitting"] == {"ipv4": 0, "ipv6": 0}
    await running.stop()


async def test_a_cancelled_apply_is_written_to_its_end(settings: Settings) -> None:
    running = EbpfPlane(settings)
    await running.start()
    applying = asyncio.create_task(running.apply(all_of(view("a", "10.96.0.1", 5))))
    await asyncio.sleep(0)
    applying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await applying
    await running.stop()
    assert all(len(row["endpoints"]) == 5 for row in inspect.services(running._pins))
    again = EbpfPlane(settings)
    await again.start()
    await again.apply(all_of(view("a", "10.96.0.1", 5)))
    assert [row["name"] for row in inspect.services(running._pins)] == ["ns/a:http/TCP"]
    await again.stop()


async def test_pinned_maps_keep_their_size(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    first = EbpfPlane(settings)
    await first.start()
    await first.stop()
    larger = EbpfPlane(replace(settings, sizes=Sizes(64, 64, 512)))
    await larger.start()
    assert "connections keeps its 256 entries, not 512" in caplog.text
    await larger.stop()


@pytest.mark.parametrize("mode", [SocketMode.NODE, SocketMode.ON])
async def test_sockets_that_cannot_be_served_are_an_error_only_where_asked_for(
    settings: Settings, mode: SocketMode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("blixt_backend.planes.ebpf.cgroups.mounts", list)
    plane = EbpfPlane(replace(settings, socket_lb=mode))
    if mode is SocketMode.ON:
        with pytest.raises(PlaneError, match="no cgroup2 file system is mounted"):
            await plane.start()
        return
    await plane.start()
    assert "own programs don't reach its node ports" in caplog.text
    assert plane.status()["sockets_of"] == ""
    await plane.stop()


async def test_an_old_kernel_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.release", lambda: "5.4.0-42-generic")
    with pytest.raises(PlaneError, match=r"kernel 5\.4\.0-42-generic is too old: Linux 5\.15 or newer"):
        await EbpfPlane(settings).start()


def test_a_user_without_privilege_is_told_so(settings: Settings) -> None:
    code = (
        "import asyncio\n"
        "from blixt_backend.planes.ebpf.options import Settings\n"
        "from blixt_backend.planes.ebpf.plane import EbpfPlane\n"
        "asyncio.run(EbpfPlane(Settings(interfaces=('u0',))).start())\n"
    )
    done = subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 1
    assert "not allowed to load BPF programs: run as root" in done.stderr.splitlines()[-1]
