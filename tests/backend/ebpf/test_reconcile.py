"""Random changes against real maps, which an independent oracle reads back;
restarts, faults and full maps between."""

from __future__ import annotations

import contextlib
import errno
import random
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from blixt_backend.model import (
    Algorithm,
    Endpoint,
    PackedAddress,
    PortMapping,
    Protocol,
    Scope,
    Service,
    ServiceView,
    SourceFilter,
)
from blixt_backend.planes.ebpf.compile import PortKey
from blixt_backend.planes.ebpf.kernel import NAME_BYTES, ServiceMaps
from blixt_backend.planes.ebpf.layout import IPV4, IPV6, Layout
from blixt_backend.planes.ebpf.libbpf import BpfError
from blixt_backend.planes.ebpf.maglev import Recipe
from blixt_backend.planes.ebpf.maps import (
    ARRAY,
    BPF_F_NO_PREALLOC,
    HASH,
    LPM_TRIE,
    PERCPU_ARRAY,
    BpfMap,
    create_map,
)
from blixt_backend.planes.ebpf.reconcile import Reconciler
from blixt_model import family
from blixt_model.maglev import maglev_table

pytestmark = pytest.mark.bpf

NODE = (PackedAddress(b"\xc0\0\2\1"), PackedAddress(b"\x20\1\x0d\xb8" + bytes(11) + b"\1"))
SCOPES = [Scope.NONE, Scope.INTERNAL, Scope.CLUSTER, Scope.INTERNAL | Scope.EXTERNAL | Scope.CLUSTER]
MAGLEV, LEAST = 1 << 4, 1 << 5
FAMILY_OF = {4: family.IPV4, 16: family.IPV6}
Desired = dict[str, ServiceView]
#: frontend -> (flags, affinity, ranges, inside shares, outside shares)
Decoded = dict[tuple[bytes, int, int], tuple[int, int, frozenset[Any], dict[Any, float], dict[Any, float]]]


def make_maps(layout: Layout, entries: int = 4096) -> ServiceMaps:
    def made(kind: int, name: str, key: int, value: int, size: int = entries, flags: int = 0) -> BpfMap:
        return BpfMap(create_map(kind, name, key, value, size, flags))

    maps = {
        "services": made(HASH, "services", layout.frontend.size, 28),
        "slots": made(ARRAY, "slots", 4, 12, 4 * entries),
        "maglev": made(ARRAY, "maglev", 4, 64, 4 * entries),
        "endpoints": made(ARRAY, "endpoints", 4, layout.endpoint.size, entries),
        "source_ranges": made(
            LPM_TRIE, "source_ranges", layout.source_range.size, 4, entries, BPF_F_NO_PREALLOC
        ),
        "counters": made(PERCPU_ARRAY, "counters", 4, 48),
        "unfit": made(ARRAY, "unfit", 4, 4, 1),
        "arrivals": made(HASH, "arrivals", layout.arrival.size, 4, 2 * entries, BPF_F_NO_PREALLOC),
        "kernel_asked": made(ARRAY, "kernel_asked", 4, 4, 1),
        "names": made(HASH, "names", 4, NAME_BYTES, entries, BPF_F_NO_PREALLOC),
    }
    return ServiceMaps(layout, maps, ModelBuilder(layout, maps))


class ModelBuilder:
    """Builds Maglev tables as docs/packet-path.md says, with Python, out of the endpoints' rows."""

    def __init__(self, layout: Layout, maps: Mapping[str, BpfMap]) -> None:
        self._layout, self._maps = layout, maps

    def build_maglev(self, jobs: Iterable[tuple[int, Recipe]]) -> None:
        size = self._layout.size
        for first, made in jobs:
            weights: dict[bytes | None, int] = {}
            indexes: dict[bytes | None, int] = {None: 0}
            for index, weight, *_ in struct.iter_unpack("=4IQ", made.members):
                row = self._maps["endpoints"].lookup(index.to_bytes(4, "little")) or b""
                who = row[: size + 2] if index else None
                weights[who], indexes[who] = weight, index
            table = [indexes[who] for who in maglev_table(weights, made.size, FAMILY_OF[size])]
            parts = [
                struct.pack("16I", *(table[i : i + 16] + [0] * 16)[:16]) for i in range(0, len(table), 16)
            ]
            head = made.digest + made.size.to_bytes(4, "little") + bytes(44)
            keys = struct.pack(f"{len(parts) + 1}I", *range(first - 1, first + len(parts)))
            self._maps["maglev"].update_joined(keys, head + b"".join(parts))


@pytest.fixture(params=[IPV4, IPV6], ids=["ipv4", "ipv6"])
def maps(request: pytest.FixtureRequest) -> Iterator[ServiceMaps]:
    made = make_maps(request.param)
    yield made
    made.close()


# -- the oracle: reads maps, and computes what they should say, with nothing of the code under test -----


class Kernel:
    """The maps decoded by hand."""

    def __init__(self, maps: ServiceMaps) -> None:
        size = self.size = maps.layout.size
        self.endpoints: dict[int, tuple[bytes, int, int, int]] = {}
        for key, value in maps.maps["endpoints"].items():
            port, flags, generation, service = struct.unpack("=2sHII", value[size:])
            if flags:
                self.endpoints[int.from_bytes(key, "little")] = (
                    value[:size] + port,
                    flags,
                    generation,
                    service,
                )
        self.rows = {
            (key[:size], int.from_bytes(key[size : size + 2], "big"), key[size + 2]): struct.unpack(
                "7I", value
            )
            for key, value in maps.maps["services"].items()
        }
        slots = maps.maps["slots"].dump()[1]
        self.slots = list(struct.iter_unpack("3I", slots))
        self.maglev = [slot for (slot,) in struct.iter_unpack("I", maps.maps["maglev"].dump()[1])]
        self.ranges: dict[int, set[tuple[int, bytes]]] = {}
        for key, _ in maps.maps["source_ranges"].items():
            length, service = int.from_bytes(key[:4], "little"), int.from_bytes(key[4:8], "big")
            self.ranges.setdefault(service, set()).add((length - 32, key[8:]))
        self.arrivals = {
            (int.from_bytes(key[:4], "little"), key[4:]): int.from_bytes(index, "little")
            for key, index in maps.maps["arrivals"].items()
        }
        self.names = {
            int.from_bytes(key, "little"): value.rstrip(b"\0").decode()
            for key, value in maps.maps["names"].items()
        }

    def decoded(self) -> Decoded:
        return {
            frontend: (
                row[1],
                row[6],
                frozenset(self.ranges.get(row[0], ())) if row[1] & 1 else frozenset(),
                self._shares(row[2], row[3], row[1]),
                self._shares(row[4], row[5], row[1]),
            )
            for frontend, row in self.rows.items()
        }

    def _shares(self, first: int, count: int, flags: int) -> dict[Any, float]:
        found: dict[Any, float] = {}
        if flags & MAGLEV:
            for index in self.maglev[16 * first : 16 * first + count]:
                who = self.endpoints[index][0] if index else None
                found[who] = found.get(who, 0.0) + 1 / count
            return found
        step = 2 if flags & LEAST else 1
        weights: dict[int, int] = {}
        for slot in range(first, first + step * count, step):
            threshold, endpoint, alias = self.slots[slot]
            if step == 2:
                for index, weight in zip((endpoint, alias), self.slots[slot + 1][:2], strict=True):
                    assert weights.setdefault(index, weight) == weight > 0
            own = threshold / 2**32 if alias != endpoint else 1.0
            for index, part in ((endpoint, own), (alias, 1 - own)):
                if part:
                    who = (
                        self.endpoints[index][0] if index else None
                    )  # KeyError: a slot names a dead endpoint
                    found[who] = found.get(who, 0.0) + part / count
            total = sum(weights.values())
        if weights:
            by_index = {(self.endpoints[i][0] if i else None): w / total for i, w in weights.items()}
            assert by_index == pytest.approx(found, abs=1e-8), "who is drawn as often as its weight says"
        return found

    def identities(self) -> dict[tuple[str, bytes], tuple[int, int]]:
        """(port's name, address and port) -> (index, generation) of everyone alive."""
        return {
            (self.names[service], identity): (index, generation)
            for index, (identity, _, generation, service) in self.endpoints.items()
        }


def expected(desired: Mapping[str, ServiceView], size: int) -> tuple[Decoded, dict[tuple[str, bytes], int]]:
    """What every frontend should do, and every endpoint's flags."""
    claims: dict[tuple[bytes, int, int], tuple[PortKey, Any]] = {}
    flags_of: dict[tuple[str, bytes], int] = {}
    for path, view in desired.items():
        service = view.service
        for port in service.ports:
            key = PortKey(path, port.name or str(port.port), port.protocol)
            kinds = [(a, port.port, False) for a in service.cluster_ips]
            kinds += [(a, port.port, True) for a in (*service.external_ips, *service.load_balancer_ips)]
            kinds += [(a, port.node_port, True) for a in NODE if port.node_port]
            kinds = [kind for kind in kinds if len(kind[0]) == size]
            shares = {scope: shares_of(view, port, size, scope) for scope in Scope}
            for address, number, external in kinds:
                inside = shares[Scope.CLUSTER if external else Scope.INTERNAL]
                outside = shares[Scope.EXTERNAL if external else Scope.INTERNAL]
                ranges = frozenset(
                    (length, network)
                    for each in service.source_filters
                    if address in each.targets
                    for network, length in each.ranges
                    if len(network) == size
                )
                flags = 1 if ranges else 0
                somewhere = bool(shares[Scope.CLUSTER])
                if external and service.external_traffic_local and somewhere and not outside:
                    flags |= 4
                if not external and service.internal_traffic_local and somewhere and not inside:
                    flags |= 6
                flags |= {Algorithm.MAGLEV: MAGLEV, Algorithm.LEAST_CONNECTIONS: LEAST}.get(
                    service.algorithm, 0
                )
                affinity = -(-service.affinity_seconds * 10**9 // 2**30)
                row = (flags, affinity, ranges, inside, outside)
                claim = claims.get((address, number, port.protocol))
                if claim is None or key < claim[0]:
                    claims[address, number, port.protocol] = (key, row)
            for endpoint in view.endpoints if kinds else ():
                for identity in identity_of(endpoint, port, size):
                    chosen = any(identity in shares[scope] for scope in Scope)
                    flags_of[str(key), identity] = (
                        1 | (2 if endpoint.local else 0) | (0 if chosen else 4)
                    ) | (16 if service.algorithm is Algorithm.LEAST_CONNECTIONS else 0)
    return {frontend: row for frontend, (_, row) in claims.items()}, flags_of


def identity_of(endpoint: Endpoint, port: PortMapping, size: int) -> list[bytes]:
    return [
        a + (port.target_port or port.port).to_bytes(2, "big") for a in endpoint.addresses if len(a) == size
    ]


def shares_of(view: ServiceView, port: PortMapping, size: int, scope: Scope) -> dict[Any, float]:
    groups: dict[int, list[Any]] = {}
    weights: dict[int, int] = {}
    for endpoint in view.endpoints:
        who = [None] if endpoint.reject else identity_of(endpoint, port, size)
        if scope in endpoint.scopes and who:
            groups.setdefault(endpoint.group, []).extend(who)
            weights[endpoint.group] = endpoint.weight
    total = sum(weights.values())
    found: dict[Any, float] = {}
    for group, members in groups.items():
        for who in members:
            if weights[group]:
                found[who] = found.get(who, 0.0) + weights[group] / total / len(members)
    return found


def expected_arrivals(kernel: Kernel) -> dict[tuple[int, bytes], int]:
    """Endpoints of this node, under each id of their port."""
    ids: dict[str, list[int]] = {}
    for number, name in kernel.names.items():
        ids.setdefault(name.partition(" (")[0], []).append(number)
    return {
        (number, identity[: kernel.size]): index
        for index, (identity, flags, _, service) in kernel.endpoints.items()
        for number in ids[kernel.names[service]]
        if flags & 2
    }


def check(maps: ServiceMaps, desired: Mapping[str, ServiceView]) -> Kernel:
    kernel = Kernel(maps)
    rows, flags = expected(desired, kernel.size)
    decoded = kernel.decoded()
    assert decoded.keys() == rows.keys()
    for frontend, row in rows.items():
        assert decoded[frontend][:3] == row[:3], frontend
        for got, wanted in zip(decoded[frontend][3:], row[3:], strict=True):
            assert got == pytest.approx(wanted, abs=0.02 if row[0] & MAGLEV else 1e-8), frontend
    alive = {(kernel.names[service], identity): f for identity, f, _, service in kernel.endpoints.values()}
    assert alive == flags
    assert len(alive) == len(kernel.endpoints)
    assert kernel.arrivals == expected_arrivals(kernel)
    used_ids = {row[0] for row in kernel.rows.values()}
    assert kernel.ranges.keys() <= kernel.names.keys()
    assert used_ids <= kernel.names.keys()
    return kernel


# -- random services ------------------------------------------------------------------------------------


def address(kind: int, number: int, size: int) -> PackedAddress:
    return PackedAddress(bytes([10 if size == 4 else 0xFD, kind]) + number.to_bytes(size - 2, "big"))


def random_view(rng: random.Random, path: str, size: int) -> ServiceView:
    namespace, name = path.split("/")
    number = int(name[1:])
    balancers = tuple(address(3, rng.randrange(6), size) for _ in range(rng.randrange(3)))
    filters = tuple(
        SourceFilter((ip,), ((address(4, 256 * rng.randrange(3), size), size * 8 - 8),))
        for ip in balancers
        if rng.random() < 0.4
    )
    weight = {group: rng.choice([0, 1, 1, 30, 70]) for group in range(3)}
    endpoints = [
        Endpoint(
            str(k),
            (address(5, rng.randrange(16), size),),
            local=rng.random() < 0.4,
            scopes=rng.choice(SCOPES),
            group=(group := rng.choice([0, 0, 1, 2])),
            weight=weight[group],
        )
        for k in range(rng.randrange(6))
    ]
    unique = {each.addresses: each for each in endpoints}
    refused = [Endpoint("r", reject=True, group=7, weight=5)] if rng.random() < 0.2 else []
    return ServiceView(
        Service(
            namespace,
            name,
            cluster_ips=(address(1, number, size),) if rng.random() < 0.9 else (),
            external_ips=(address(2, rng.randrange(4), size),) if rng.random() < 0.5 else (),
            load_balancer_ips=tuple(dict.fromkeys(balancers)),
            ports=(
                PortMapping("http", Protocol.TCP, 80, target_port=rng.choice([8080, 8081])),
                *(
                    (PortMapping("dns", Protocol.UDP, 53, node_port=30000 + number),)
                    if rng.random() < 0.5
                    else ()
                ),
            ),
            external_traffic_local=rng.random() < 0.3,
            internal_traffic_local=rng.random() < 0.3,
            source_filters=filters,
            affinity_seconds=rng.choice([0, 0, 10800]),
            algorithm=rng.choice(list(Algorithm)),
        ),
        (*unique.values(), *refused),
    )


def apply(r: Reconciler, changed: Desired, removed: set[str], desired: Desired, resync: bool = False) -> int:
    node = [each for each in NODE if len(each) == r._layout.size]
    return r.apply(changed, removed, desired, node, resync)


@pytest.mark.parametrize("seed", [*range(5), 232])
def test_random_changes_restarts_and_faults(
    maps: ServiceMaps, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    size = maps.layout.size
    desired: Desired = {}
    reconciler = Reconciler(maps)
    before: dict[tuple[str, bytes], tuple[int, int]] = {}
    remembered: dict[tuple[int, int], tuple[str, bytes]] = {}
    for _ in range(60):
        paths = [f"ns/s{rng.randrange(12)}" for _ in range(rng.randrange(1, 5))]
        removed = {path for path in paths if rng.random() < 0.3}
        changed = {path: random_view(rng, path, size) for path in paths if path not in removed}
        desired = {path: view for path, view in {**desired, **changed}.items() if path not in removed}
        resync = rng.random() < 0.15
        if rng.random() < 0.15:
            reconciler, resync = Reconciler(maps), True
        if rng.random() < 0.25:
            with monkeypatch.context() as patch:
                fail_after(patch, rng.randrange(3))
                with contextlib.suppress(BpfError):  # a change of few batches may get through
                    apply(reconciler, desired if resync else changed, removed, desired, resync)
            resync = True
        apply(reconciler, desired if resync else changed, removed, desired, resync)
        kernel = check(maps, desired)
        now = kernel.identities()
        for who in before.keys() & now.keys():
            assert now[who] == before[who], "a living endpoint keeps its index and generation"
        for who, place in now.items():
            assert remembered.setdefault(place, who) == who, "an index and a generation are given out once"
        before = now
        assert apply(reconciler, {}, set(), desired) == 0
    assert apply(Reconciler(maps), desired, set(), desired, resync=True) == 0, "a restart writes nothing"


def fail_after(patch: pytest.MonkeyPatch, writes: int) -> None:
    """Let the kernel refuse everything after some batches."""
    left = [writes]
    for name in ("update_joined", "delete_joined"):
        original = getattr(BpfMap, name)

        def refusing(self: BpfMap, keys: bytes, *values: bytes, _original: Any = original) -> Any:
            if keys:
                if left[0] == 0:
                    raise BpfError(errno.ENOMEM, "no memory")
                left[0] -= 1
            return _original(self, keys, *values)

        patch.setattr(BpfMap, name, refusing)


# -- one thing each -------------------------------------------------------------------------------------


def plain(path: str, endpoints: range, size: int = 4, **more: Any) -> ServiceView:
    namespace, name = path.split("/")
    values: dict[str, Any] = {
        "cluster_ips": (address(1, int(name[1:]), size),),
        "ports": (PortMapping("http", Protocol.TCP, 80, target_port=8080),),
        **more,
    }
    return ServiceView(
        Service(namespace, name, **values), tuple(Endpoint(str(k), (address(5, k, size),)) for k in endpoints)
    )


def test_one_change_writes_only_its_own_rows(maps: ServiceMaps) -> None:
    size = maps.layout.size
    desired = {f"ns/s{i}": plain(f"ns/s{i}", range(3), size) for i in range(200)}
    reconciler = Reconciler(maps)
    apply(reconciler, desired, set(), desired, True)
    change = {"ns/s7": plain("ns/s7", range(4), size)}
    assert apply(reconciler, change, set(), desired | change) == 1 + 4 + 1  # endpoint, slots, service
    assert apply(reconciler, change, set(), desired | change) == 0


def test_a_reused_index_has_another_generation() -> None:
    maps = make_maps(IPV4, 4)  # three endpoints
    reconciler = Reconciler(maps)
    first = {"ns/s1": plain("ns/s1", range(3))}
    apply(reconciler, first, set(), first, True)
    before = Kernel(maps).endpoints
    apply(reconciler, {}, {"ns/s1"}, {})
    second = {"ns/s2": plain("ns/s2", range(3))}
    apply(reconciler, second, set(), second)
    after = Kernel(maps).endpoints
    assert before.keys() == after.keys() == {1, 2, 3}
    assert all(after[index][2] == before[index][2] + 1 for index in after)
    maps.close()


def test_an_endpoint_that_drains_keeps_its_index(maps: ServiceMaps) -> None:
    size = maps.layout.size
    view = plain("ns/s1", range(3), size)
    reconciler = Reconciler(maps)
    apply(reconciler, {"ns/s1": view}, set(), {"ns/s1": view}, True)
    before = Kernel(maps).identities()
    last = view.endpoints[2]
    drained = ServiceView(
        view.service, (*view.endpoints[:2], Endpoint(last.key, last.addresses, scopes=Scope.NONE))
    )
    apply(reconciler, {"ns/s1": drained}, set(), {"ns/s1": drained})
    check(maps, {"ns/s1": drained})
    assert Kernel(maps).identities() == before


def test_a_maglev_table_is_built_anew_only_for_who_changed(maps: ServiceMaps) -> None:
    size = maps.layout.size

    def made(first: int, second: int, algorithm: Algorithm = Algorithm.MAGLEV) -> Desired:
        return {
            f"ns/s{i}": plain(f"ns/s{i}", range(count), size, algorithm=algorithm)
            for i, count in ((1, first), (2, second))
        }

    reconciler = Reconciler(maps)
    apply(reconciler, made(3, 3), set(), made(3, 3), True)
    assert apply(reconciler, made(3, 4), set(), made(3, 4)) == 1 + 509 + 1  # endpoint, table, service
    assert apply(Reconciler(maps), made(3, 4), set(), made(3, 4), True) == 0, "a restart knows them again"
    (row,) = [row for (address_, *_), row in Kernel(maps).rows.items() if address_ == address(1, 2, size)]
    maps.maps["maglev"].update((row[2] - 1).to_bytes(4, "little"), bytes(64))
    assert apply(Reconciler(maps), made(3, 4), set(), made(3, 4), True) == 509 + 1, (
        "one that was not finished"
    )
    check(maps, made(3, 4))
    random_ = made(3, 4, Algorithm.WEIGHTED_RANDOM)
    assert apply(reconciler, random_, set(), random_, True) == 3 + 4 + 2
    check(maps, random_)


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
def test_a_port_under_another_name_keeps_its_id_and_endpoints(maps: ServiceMaps, restart: bool) -> None:
    size = maps.layout.size

    def named(first: str, second: str) -> Desired:
        ports = (
            PortMapping(first, Protocol.TCP, 80, target_port=8080),
            PortMapping(second, Protocol.TCP, 81, target_port=8081),
        )
        return {"ns/s1": plain("ns/s1", range(3), size, ports=ports), "ns/s2": plain("ns/s2", range(1), size)}

    reconciler = Reconciler(maps)
    apply(reconciler, named("", "b"), set(), named("", "b"), True)
    before = Kernel(maps)
    # Also where one port gets the name that another one had.
    for names in (("web", "b"), ("b", "a")):
        renamed = named(*names)
        apply(Reconciler(maps) if restart else reconciler, renamed, set(), renamed, restart)
        after = check(maps, renamed)
        assert set(after.names.values()) == {f"ns/s1:{name}/TCP" for name in names} | {"ns/s2:http/TCP"}
        if names[0] == "web":
            assert after.endpoints == before.endpoints
            assert after.rows == before.rows


def test_what_does_not_fit_leaves_the_rest_in_force() -> None:
    maps = make_maps(IPV4, 16)  # 15 endpoints
    reconciler = Reconciler(maps)
    first = {"ns/s1": plain("ns/s1", range(6)), "ns/s2": plain("ns/s2", range(6))}
    apply(reconciler, first, set(), first, True)
    wanted = {
        "ns/s1": plain("ns/s1", range(12)),
        "ns/s2": plain("ns/s2", range(6)),
        "ns/s3": plain("ns/s3", range(2)),
    }
    apply(reconciler, wanted, set(), wanted, True)
    (unfit,) = reconciler.unfit.values()
    assert (unfit.key.path, unfit.map_name, unfit.limit) == ("ns/s1", "endpoints", 15)
    check(maps, wanted | {"ns/s1": first["ns/s1"]})
    fewer = {"ns/s1": plain("ns/s1", range(12)), "ns/s3": plain("ns/s3", range(2))}
    apply(reconciler, fewer, {"ns/s2"}, fewer)
    apply(reconciler, fewer, set(), fewer, True)
    assert not reconciler.unfit
    check(maps, fewer)
    maps.close()


@pytest.mark.parametrize("name", ["services", "counters", "slots", "maglev", "source_ranges"])
def test_each_map_can_be_the_full_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = make_maps(IPV4, 64)
    limits = {"services": 3, "counters": 3, "slots": 5, "maglev": 70, "source_ranges": 1}
    monkeypatch.setattr(ServiceMaps, "limit", lambda _, asked: limits[asked] if asked == name else 640)
    algorithm = Algorithm.MAGLEV if name == "maglev" else Algorithm.WEIGHTED_RANDOM
    guard = {
        f"ns/s{i}": plain(
            f"ns/s{i}",
            range(2),
            source_filters=(SourceFilter((address(1, i, 4),), ((address(4, 0, 4), 16),)),),
            external_ips=(address(2, i, 4),),
            algorithm=algorithm,
        )
        for i in range(3)
    }
    reconciler = Reconciler(maps)
    apply(reconciler, guard, set(), guard, True)
    assert {unfit.map_name for unfit in reconciler.unfit.values()} == {name}
    left_out = {key.path for key in reconciler.unfit}
    assert 0 < len(left_out) < 3
    check(maps, {path: view for path, view in guard.items() if path not in left_out})
    maps.close()


def test_a_counter_of_an_id_that_is_given_out_again_starts_at_zero() -> None:
    maps = make_maps(IPV4, 2)  # one service
    reconciler = Reconciler(maps)
    counters = maps.maps["counters"]
    first, second = {"ns/s1": plain("ns/s1", range(1))}, {"ns/s2": plain("ns/s2", range(1))}
    apply(reconciler, first, set(), first, True)
    counters.update(struct.pack("I", 1), b"\1" * counters.stride)
    apply(reconciler, first, set(), first, True)
    assert [index for index, _ in counters.summed()] == [1], "a resync leaves them alone"
    apply(reconciler, {}, {"ns/s1"}, {})
    apply(reconciler, second, set(), second)
    assert Kernel(maps).names == {1: "ns/s2:http/TCP"}
    assert not list(counters.summed())
    maps.close()


def test_the_programs_ask_the_kernel_before_a_frontend_comes(maps: ServiceMaps) -> None:
    """And only then: what others changed is nothing that the kernel could have had until now."""
    size = maps.layout.size
    reconciler = Reconciler(maps)
    first = {"ns/s1": plain("ns/s1", range(3), size)}
    apply(reconciler, first, set(), first, True)
    assert (reconciler.frontends_came, asks(maps)) == (True, True)
    maps.ask_kernel(False)
    fewer = {"ns/s1": plain("ns/s1", range(2), size)}
    apply(reconciler, fewer, set(), fewer)
    assert (reconciler.frontends_came, asks(maps)) == (False, False)
    more = {"ns/s2": plain("ns/s2", range(1), size)}
    apply(reconciler, more, set(), fewer | more)
    assert (reconciler.frontends_came, asks(maps)) == (True, True)


def asks(maps: ServiceMaps) -> bool:
    return maps.maps["kernel_asked"].lookup(bytes(4)) != bytes(4)
