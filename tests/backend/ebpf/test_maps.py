"""Batches against real maps: what fits is written, what isn't there is no
error, what fails says how far it came."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from blixt_backend.planes.ebpf.libbpf import BpfError
from blixt_backend.planes.ebpf.maps import (
    ARRAY,
    BPF_F_NO_PREALLOC,
    HASH,
    LPM_TRIE,
    PERCPU_ARRAY,
    BpfMap,
    create_map,
)

pytestmark = pytest.mark.bpf


def key(number: int) -> bytes:
    return number.to_bytes(4, "little")


def keys(*numbers: int) -> bytes:
    return b"".join(key(number) for number in numbers)


@pytest.fixture
def table() -> Iterator[BpfMap]:
    with BpfMap(create_map(HASH, "table", 4, 4, 1000)) as opened:
        yield opened


def test_what_is_written_in_a_batch_is_read_in_chunks(table: BpfMap) -> None:
    table.update_joined(keys(*range(1000)), keys(*range(1000, 2000)))
    assert {k: v for k, v in table.items()} == {key(n): key(n + 1000) for n in range(1000)}  # noqa: C416
    assert table.count() == 1000


def test_a_full_map_takes_what_fits_and_says_how_much(table: BpfMap) -> None:
    with pytest.raises(BpfError) as failure:
        table.update_joined(keys(*range(1200)), bytes(4800))
    assert failure.value.errno == errno.E2BIG
    assert failure.value.done == table.count() == 1000
    assert "1200 entries to map table" in str(failure.value)


def test_deleting_skips_what_is_not_there(table: BpfMap) -> None:
    table.update_joined(keys(1, 2, 3, 4), bytes(16))
    assert table.delete_joined(keys(9, 1, 8, 7, 3, 9)) == 2
    assert sorted(k for k, _ in table.items()) == [key(2), key(4)]
    assert table.delete_joined(b"") == 0


def test_values_must_match_keys(table: BpfMap) -> None:
    with pytest.raises(ValueError, match="5 bytes of values for 1 keys"):
        table.update_joined(key(1), bytes(5))


def test_single_entries(table: BpfMap) -> None:
    assert table.lookup(key(5)) is None
    table.update(key(5), key(6))
    assert table.lookup(key(5)) == key(6)
    assert table.delete(key(5))
    assert not table.delete(key(5))


def test_an_array_is_read_up_to_a_limit() -> None:
    with BpfMap(create_map(ARRAY, "array", 4, 4, 20000)) as array:
        array.update_joined(keys(*range(20000)), keys(*range(20000)))
        assert array.dump()[1] == keys(*range(20000))
        assert array.dump(10001)[1] == keys(*range(10001))


def test_prefixes_in_batches() -> None:
    with BpfMap(create_map(LPM_TRIE, "trie", 12, 4, 100, BPF_F_NO_PREALLOC)) as trie:
        rows = [key(64 - n) + bytes(3) + bytes([n]) + bytes(4) for n in range(20)]
        trie.update_joined(b"".join(rows), bytes(80))
        assert {k for k, _ in trie.items()} == set(rows)
        assert trie.delete_joined(b"".join(rows[:5])) == 5
        assert {k for k, _ in trie.items()} == set(rows[5:])


def test_sums_over_cpus() -> None:
    with BpfMap(create_map(PERCPU_ARRAY, "counts", 4, 16, 10)) as counts:
        cpus = counts.stride // 16
        one_cpu = (3).to_bytes(8, "little") + (5).to_bytes(8, "little")
        counts.update_joined(key(7), one_cpu * cpus)
        assert list(counts.summed()) == [(7, (3 * cpus, 5 * cpus))]
