"""What is answered to whom. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus

from blixt_backend.health.checks import Check
from blixt_backend.health.http import Request, Response, plain
from blixt_backend.health.judgement import Verdict

_READ = ("GET", "HEAD")


def of_service(request: Request, check: Check | None, version: int, verdict: Verdict) -> Response:
    """A health check node port's answer, as kube-proxy gives it, whatever the path.

    `check` is None for a port that nobody has any more, `version` that of the address that was asked (4, 6).
    """
    if request.method not in _READ:
        return _not_allowed()
    if check is None:
        return plain(HTTPStatus.NOT_FOUND)
    count = check.local[version]
    body = {
        "service": {"namespace": check.namespace, "name": check.name},
        "localEndpoints": count,
        "serviceProxyHealthy": verdict.healthy,
    }
    return _json(count > 0 and verdict.healthy, body, ("X-Load-Balancing-Endpoint-Weight", str(count)))


def of_node(request: Request, verdict: Verdict, now: datetime) -> Response:
    """The node's own: /healthz for load balancers, /readyz and /livez for who keeps the daemon running."""
    if request.method not in _READ:
        return _not_allowed()
    good = {
        "/healthz": verdict.healthy and not verdict.leaving,
        "/readyz": verdict.healthy,
        "/livez": verdict.alive,
    }.get(request.path)
    if good is None:
        return plain(HTTPStatus.NOT_FOUND)
    applied = None if verdict.applied_ago is None else now - timedelta(seconds=verdict.applied_ago)
    body = {
        "lastUpdated": applied and applied.isoformat(timespec="milliseconds"),
        "currentTime": now.isoformat(timespec="milliseconds"),
        "reason": verdict.why,
    }
    return _json(good, body)


def metrics(request: Request, lines: Iterable[str]) -> Response:
    """As Prometheus reads them."""
    if request.method not in _READ:
        return _not_allowed()
    body = "".join(f"{line}\n" for line in lines).encode()
    return Response(HTTPStatus.OK, body, "text/plain; version=0.0.4; charset=utf-8")


def _json(good: bool, body: Mapping[str, object], *headers: tuple[str, str]) -> Response:
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return Response(status, json.dumps(body, separators=(",", ":")).encode(), headers=headers)


def _not_allowed() -> Response:
    return plain(HTTPStatus.METHOD_NOT_ALLOWED, ("Allow", ", ".join(_READ)))
