"""Many simulated backends in one process: each has a connection and a stream of its own, and decodes nothing.

Run as `python -m bench.watchers API FIRST COUNT`: the nodes of these numbers. Prints a line of JSON for every
revision that all of them have got: when each of them had it, in seconds of CLOCK_MONOTONIC. A stream that
breaks is told of in a line as well, and dialled again, as a backend would.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import grpc

from bench.cluster_objects import node_name
from blixt_api import blixtv1_pb2, wire

_OPTIONS = (
    # A connection each, as nodes have.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
_SYNC = wire.frame(wire.SYNC)
_BROKEN = "a stream broke: "


@dataclass(frozen=True, slots=True)
class Arrivals:
    """One revision, and when each of the process's backends had it."""

    revision: int
    times: list[float]


def read(log: Path) -> list[Arrivals]:
    """What a process of watchers has told so far."""
    lines = log.read_text().splitlines()
    return [Arrivals(**json.loads(line)) for line in lines if line.startswith("{") and line.endswith("}")]


def broken_streams(log: Path) -> int:
    """How many streams of a process of watchers have broken so far."""
    return sum(line.startswith(_BROKEN) for line in log.read_text().splitlines())


class Crowd:
    def __init__(self, api: str, first: int, count: int) -> None:
        self._api = api
        self._nodes = [node_name(number) for number in range(first, first + count)]
        self._times: dict[int, dict[str, float]] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for node in self._nodes:
                group.create_task(self._follow(node))

    async def _follow(self, node: str) -> None:
        while True:
            try:
                await self._stream(node)
            except grpc.aio.AioRpcError as error:
                print(f"{_BROKEN}{node}: {error.code().name}: {error.details()}", flush=True)
            await asyncio.sleep(random.uniform(0.2, 0.7))

    async def _stream(self, node: str) -> None:
        async with grpc.aio.insecure_channel(self._api, options=_OPTIONS) as channel:
            watch: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(wire.BATCH_WATCH)
            call = watch(wait_for_ready=True)
            revision = 0
            while True:
                request = blixtv1_pb2.WatchRequest(node_name=node, applied_revision=revision)
                await call.write(request.SerializeToString())
                before, revision = revision, await _end_of_round(call)
                now = time.monotonic()
                for one in range(before + 1 if before else revision, revision + 1):
                    self._arrived(one, node, now)

    def _arrived(self, revision: int, node: str, now: float) -> None:
        times = self._times.setdefault(revision, {})
        times.setdefault(node, round(now, 5))
        if len(times) == len(self._nodes):
            del self._times[revision]
            print(json.dumps({"revision": revision, "times": list(times.values())}), flush=True)


async def _end_of_round(call: grpc.aio.StreamStreamCall[bytes, bytes]) -> int:
    """The revision that the round leads to."""
    while True:
        message = await call.read()
        if not isinstance(message, bytes):
            raise EOFError(f"the frontend ended a stream: {await call.details()}")
        # To decode all of a first round a thousand times over would be this process's work, not a node's.
        if _SYNC in message[-16:] and (revision := blixtv1_pb2.Batch.FromString(message).revision):
            return int(revision)


if __name__ == "__main__":
    asyncio.run(Crowd(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])).run())
