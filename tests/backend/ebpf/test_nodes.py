"""Whose tunnels are taken out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blixt_backend.planes.ebpf.layout import FAMILIES, IPV4, Layout
from blixt_backend.planes.ebpf.maps import BPF_F_NO_PREALLOC, LPM_TRIE, BpfMap, create_map
from blixt_backend.planes.ebpf.nodes import MOST_RANGES, Nodes, Range, parse


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["192.0.2.0/24"], ["192.0.2.0/24"]),
        (["192.0.2.1, fd00::/64", "192.0.2.1"], ["192.0.2.1/32", "fd00::/64"]),
    ],
)
def test_ranges(texts: list[str], expected: list[str]) -> None:
    assert list(map(str, parse(texts))) == expected


@pytest.mark.parametrize("text", ["", "node1", "192.0.2.1/24", "192.0.2.0/33", "fd00::/64,"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError, match="is no range such as"):
        parse([text])


def test_more_than_there_is_room_for() -> None:
    with pytest.raises(ValueError, match="16385 ranges are more than"):
        parse([",".join(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(MOST_RANGES + 1))])


@pytest.fixture(params=FAMILIES, ids=lambda layout: layout.name)
def opened(request: pytest.FixtureRequest) -> Iterator[tuple[Layout, BpfMap]]:
    layout: Layout = request.param
    made = create_map(LPM_TRIE, "nodes", layout.node_range.size, 4, 64, BPF_F_NO_PREALLOC)
    with BpfMap(made) as trie:
        yield layout, trie


@pytest.mark.bpf
def test_the_map_follows(opened: tuple[Layout, BpfMap]) -> None:
    layout, trie = opened
    nodes = Nodes(layout, trie)
    both = parse(["192.0.2.0/24", "fd00::/64"])
    mine = both[0 if layout is IPV4 else 1]
    (more,) = parse(["10.0.0.0/8" if layout is IPV4 else "fd01::/16"])

    def held() -> set[tuple[int, bytes]]:
        return {layout.node_range.unpack(key) for key, _ in trie.items()}

    def expected(*networks: Range) -> set[tuple[int, bytes]]:
        return {(network.prefixlen, network.network_address.packed) for network in networks}

    for wanted in ((*both, more), (more,), (*both, more), ()):
        nodes.follow(wanted)
        assert held() == expected(*(n for n in wanted if n in (mine, more)))
