"""What was written to the API, and by whom: the API server's own audit log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Write:
    """One request that creates, changes or deletes, whatever came of it."""

    user: str
    user_agent: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    #: HTTP
    status: int


class Audit:
    def __init__(self, log: Path) -> None:
        self._log = log

    def mark(self) -> int:
        """Now, as an argument for `writes`."""
        return self._log.stat().st_size if self._log.exists() else 0

    def writes(self, since: int = 0, user: str | None = None) -> list[Write]:
        """The writes after a mark; of one user if given (`user_name` of a ServiceAccount).

        A request is in it a moment after it was answered.
        """
        if not self._log.exists():
            return []
        with self._log.open("rb") as log:
            log.seek(since)
            complete, _, _ = log.read().rpartition(b"\n")
        found = [_write(json.loads(line)) for line in complete.splitlines()]
        return [write for write in found if user is None or write.user == user]


def user_name(namespace: str, service_account: str) -> str:
    """What the API server calls a ServiceAccount."""
    return f"system:serviceaccount:{namespace}:{service_account}"


def _write(event: dict[str, object]) -> Write:
    def part(name: str, key: str) -> object:
        inner = event.get(name)
        return inner.get(key, "") if isinstance(inner, dict) else ""

    return Write(
        user=str(part("user", "username")),
        user_agent=str(event.get("userAgent", "")),
        verb=str(event["verb"]),
        group=str(part("objectRef", "apiGroup")),
        resource=str(part("objectRef", "resource")),
        subresource=str(part("objectRef", "subresource")),
        namespace=str(part("objectRef", "namespace")),
        name=str(part("objectRef", "name")),
        status=int(str(part("responseStatus", "code") or 0)),
    )
