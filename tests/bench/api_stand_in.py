"""What kube-proxy asks of an API server, answered out of a file: lists, and watches in which nothing happens.

Run as `python -m bench.api_stand_in PORT OBJECTS`, where OBJECTS is a file of JSON: {collection's path:
[objects]}. A real API server with 10,000 Services takes a minute to fill; what kube-proxy makes of them is
the same.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

Object = dict[str, Any]

_REVISION = "1000000"
_END_OF_LIST = "k8s.io/initial-events-end"


class StandIn:
    def __init__(self, collections: dict[str, list[Object]]) -> None:
        self._collections = {
            path: [_as_served(one, number) for number, one in enumerate(objects)]
            for path, objects in collections.items()
        }

    async def serve(self, port: int) -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        app.router.add_post("/{path:.*}", self._take)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()

    async def _take(self, request: web.Request) -> web.Response:
        """Events about itself."""
        return web.json_response(await request.json(), status=201)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        parent, _, name = request.path.rpartition("/")
        objects = self._collections.get(request.path)
        if objects is None:
            named = [one for one in self._collections.get(parent, ()) if one["metadata"]["name"] == name]
            return web.json_response(named[0]) if named else _not_found()
        if "watch" in request.query:
            return await self._watch(request, objects)
        metadata = {"resourceVersion": _REVISION}
        kind = {"kind": "List", "apiVersion": "v1"}
        if objects:
            kind = {"kind": f"{objects[0]['kind']}List", "apiVersion": objects[0]["apiVersion"]}
        return web.json_response({**kind, "metadata": metadata, "items": objects})

    async def _watch(self, request: web.Request, objects: list[Object]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if request.query.get("sendInitialEvents") == "true":
            for part in _initial_events(objects):
                await response.write(part)
        await asyncio.Event().wait()
        return response


def _initial_events(objects: list[Object]) -> Iterator[bytes]:
    for one in objects:
        yield json.dumps({"type": "ADDED", "object": one}).encode() + b"\n"
    like = objects[0] if objects else {"kind": "Service", "apiVersion": "v1"}
    end = {"resourceVersion": _REVISION, "annotations": {_END_OF_LIST: "true"}}
    bookmark = {"kind": like["kind"], "apiVersion": like["apiVersion"], "metadata": end}
    yield json.dumps({"type": "BOOKMARK", "object": bookmark}).encode() + b"\n"


def _as_served(one: Object, number: int) -> Object:
    identity = {"uid": f"00000000-0000-0000-0000-{number:012}", "resourceVersion": str(number + 1)}
    return {**one, "metadata": {**one["metadata"], **identity}}


def _not_found() -> web.Response:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
    return web.json_response(status, status=404)


if __name__ == "__main__":
    stand_in = StandIn(json.loads(Path(sys.argv[2]).read_text()))
    asyncio.run(stand_in.serve(int(sys.argv[1])))
