"""A small HTTPS client for the servers of the control plane: one kept connection, JSON in and out.

For what tests do in bulk or must see exactly (status codes); `ControlPlane.kubectl` is for the rest.
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import ssl
from pathlib import Path
from typing import Any

from blixt_control_plane.certificates import KeyPair
from blixt_control_plane.place import LOOPBACK, Place

MERGE_PATCH = "application/merge-patch+json"


class ApiError(Exception):
    """The server refused. `status`: the HTTP code; `reason`: Kubernetes' word for it, if it has one."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason


class Api:
    """One connection, made when it is needed. For one thread; make another object for another thread."""

    def __init__(
        self, place: Place, port: int, authority: Path, user: KeyPair | str | None, timeout: float = 30
    ) -> None:
        """`user`: a certificate, a token, or nobody."""
        context = ssl.create_default_context(cafile=str(authority))
        if isinstance(user, KeyPair):
            context.load_cert_chain(user.cert, user.key)
        self._headers = {"Authorization": f"Bearer {user}"} if isinstance(user, str) else {}
        self._connection = _Connection(place, port, timeout, context)

    def get(self, path: str) -> Any:
        """Raises ApiError, and OSError where nobody answers, as all of these do."""
        return self.request("GET", path)

    def post(self, path: str, body: Any) -> Any:
        return self.request("POST", path, body)

    def put(self, path: str, body: Any) -> Any:
        return self.request("PUT", path, body)

    def patch(self, path: str, body: Any, content_type: str = MERGE_PATCH) -> Any:
        return self.request("PATCH", path, body, content_type)

    def delete(self, path: str, body: Any = None) -> Any:
        return self.request("DELETE", path, body)

    def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> Any:
        """The answer's JSON, or its text where it is none."""
        if self._closed_by_peer():
            self._connection.close()
        headers = {**self._headers, "Content-Type": content_type, "Accept": "application/json"}
        try:
            sent = None if body is None else json.dumps(body)
            self._connection.request(method, path, sent, headers)
            response = self._connection.getresponse()
            text = response.read()
        except http.client.HTTPException as error:
            self._connection.close()
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        except OSError:
            self._connection.close()
            raise
        if response.status >= 400:
            raise _error(response.status, response.reason, text)
        is_json = "json" in (response.getheader("Content-Type") or "")
        return json.loads(text) if is_json else text.decode()

    def watch(self, path: str, events: int) -> list[dict[str, Any]]:
        """The first events of a watch; fewer if the server ends it.

        A resource version that has expired is an event of type ERROR, or an ApiError.
        """
        self._connection.close()
        self._connection.request("GET", path, headers=self._headers)
        response = self._connection.getresponse()
        try:
            if response.status >= 400:
                raise _error(response.status, response.reason, response.read())
            return [json.loads(line) for _, line in zip(range(events), response, strict=False)]
        finally:
            self._connection.close()

    def close(self) -> None:
        self._connection.close()

    def _closed_by_peer(self) -> bool:
        """Whether a kept connection has ended: nothing else makes it readable between two requests."""
        sock = self._connection.sock
        return sock is not None and bool(select.select([sock], [], [], 0)[0])


class _Connection(http.client.HTTPConnection):
    """HTTPS to a port on loopback of some place."""

    def __init__(self, place: Place, port: int, timeout: float, context: ssl.SSLContext) -> None:
        super().__init__(LOOPBACK, port, timeout=timeout)
        self._place = place
        self._context = context

    def connect(self) -> None:
        plain = self._place.connect(self.port, self.timeout or 30)
        # A request is two writes, and the second is not to wait for the first one's acknowledgement.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self._context.wrap_socket(plain, server_hostname=LOOPBACK)


def _error(status: int, reason: str, text: bytes) -> ApiError:
    try:
        told = json.loads(text)
        return ApiError(status, told.get("reason", reason), told.get("message", ""))
    except (ValueError, AttributeError):
        return ApiError(status, reason, text.decode(errors="replace")[:500])
