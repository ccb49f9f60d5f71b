"""The small parts: kinds, frames, gathering, pauses."""

from __future__ import annotations

from typing import Any

import pytest

from blixt_frontend.decode import CLUSTER_SCOPED, READ, DecodeError
from blixt_frontend.kubernetes.frames import FrameError, ObjectDecoder, decode_event
from blixt_frontend.kubernetes.gathering import Gathering
from blixt_frontend.kubernetes.kinds import CORE, GATEWAY
from blixt_frontend.kubernetes.pace import Backoff, Pace
from blixt_frontend.objects import Node
from blixt_frontend.source import Batch
from blixt_objects import node


class TestKinds:
    def test_every_kind_that_can_be_decoded_is_followed(self) -> None:
        followed = {(kind.group, kind.name): (kind.type, frozenset(kind.versions)) for kind in CORE + GATEWAY}
        assert followed == READ

    def test_paths(self) -> None:
        by_name = {kind.name: kind for kind in CORE + GATEWAY}
        assert by_name["Service"].path("v1") == "/api/v1/services"
        path = "/apis/gateway.networking.k8s.io/v1alpha2/tcproutes"
        assert by_name["TCPRoute"].path("v1alpha2") == path
        assert by_name["Node"].resource == "nodes"
        assert by_name["EndpointSlice"].resource == "endpointslices.discovery.k8s.io"
        assert by_name.keys() >= CLUSTER_SCOPED


class TestFrames:
    def test_an_event(self) -> None:
        line = b'{"type":"ADDED","object":{"kind":"Node","metadata":{"name":"n","resourceVersion":"7"}}}'
        event = decode_event(line)
        assert (event.type, event.object.metadata.name, event.object.metadata.resource_version) == (
            "ADDED",
            "n",
            "7",
        )
        assert ObjectDecoder(Node).decode(line) == node("n")

    def test_objects_with_nulls_and_malformed_ones(self) -> None:
        decoder = ObjectDecoder(Node)
        line = b'{"type":"ADDED","object":{"metadata":{"name":"n"},"spec":%s}}'
        assert decoder.decode(line % b'{"taints":null}') == node("n")
        with pytest.raises(DecodeError, match=r"spec\.taints: 7: expected array"):
            decoder.decode(line % b'{"taints":7}')

    def test_an_error(self) -> None:
        line = b'{"type":"ERROR","object":{"kind":"Status","metadata":{},"code":410,"reason":"Expired"}}'
        assert (decode_event(line).object.code, decode_event(line).object.reason) == (410, "Expired")

    @pytest.mark.parametrize("line", [b"", b"{", b"7", b"{}", b'{"type":"ADDED"}', b"\xff\xfe"])
    def test_what_is_no_event(self, line: bytes) -> None:
        with pytest.raises(FrameError):
            decode_event(line)


class TestGathering:
    """A, B: two versions of one object; None: it is not there."""

    A, B = node("n", zone="a"), node("n", zone="b")

    @pytest.mark.parametrize(
        ("changes", "batch"),
        [
            ([], Batch()),
            ([(None, A)], Batch(upserts=(A,))),
            ([(A, B)], Batch(upserts=(B,))),
            ([(A, None)], Batch(deletions=(A.key,))),
            ([(None, A), (A, B)], Batch(upserts=(B,))),
            ([(None, A), (A, None)], Batch()),
            ([(A, B), (B, A)], Batch()),
            ([(A, None), (None, A)], Batch()),
            ([(A, None), (None, B)], Batch(upserts=(B,))),
            ([(A, B), (B, None)], Batch(deletions=(A.key,))),
        ],
    )
    def test_net_differences(self, changes: list[tuple[Any, Any]], batch: Batch) -> None:
        gathering = Gathering()
        for before, after in changes:
            gathering.add(self.A.key, before, after)
        assert gathering.take(complete=False) == batch
        assert gathering.take(complete=True) == Batch(complete=True)


class TestBackoff:
    def test_pauses_grow_to_a_limit(self) -> None:
        backoff = Backoff(Pace(first=1, most=8))
        for ceiling in (1, 2, 4, 8, 8, 8):
            assert 0 <= backoff.next() <= ceiling

    def test_time_that_went_well_makes_them_short_again(self) -> None:
        backoff = Backoff(Pace(first=1, most=8))
        for _ in range(50):
            backoff.next(lasted=1)
        assert backoff.next(lasted=9) <= 1

    def test_what_the_server_asks_for_is_the_least(self) -> None:
        backoff = Backoff(Pace(first=1, most=8))
        assert 30 <= backoff.next(at_least=30) <= 31
