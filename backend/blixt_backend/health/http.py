"""Requests and answers of HTTP/1.1 (RFC 9112) as bytes, as much of it as probes need. Pure.

A connection has one request; what it may weigh is bounded, and a body is not read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

#: Bytes of a request line and of all of a request's head, and its header fields.
MOST_LINE, MOST_HEAD, MOST_FIELDS = 2048, 8192, 64

_END = re.compile(rb"\r?\n\r?\n")
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/(\d)\.(\d)")
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\0\r]*")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: a method, and a path without its query."""

    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered; the connection ends with it. Bodies are JSON, or a line of text."""

    status: HTTPStatus
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    def encode(self, *, with_body: bool = True) -> bytes:
        """As bytes; to a HEAD the body's length is told without it."""
        fields = [
            ("Content-Type", self.content_type),
            ("X-Content-Type-Options", "nosniff"),
            *self.headers,
            ("Content-Length", str(len(self.body))),
            ("Connection", "close"),
        ]
        lines = [
            f"HTTP/1.1 {self.status} {self.status.phrase}",
            *(f"{name}: {value}" for name, value in fields),
        ]
        head = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
        return head + self.body if with_body else head


class UnfitError(Exception):
    """What was sent is no request that is taken; it is answered by `response`."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.response = plain(status)


def plain(status: HTTPStatus, *headers: tuple[str, str]) -> Response:
    """An answer that says no more than its status."""
    return Response(status, f"{status.phrase}\n".encode(), "text/plain; charset=utf-8", headers)


def is_whole(received: bytearray, begin: int = 0) -> bool:
    """Whether what was received has a head's end, which was looked for up to `begin` before."""
    return _END.search(received, max(begin - 3, 0)) is not None


def parse(received: bytearray) -> Request:
    """The request of a head that is whole, or longer than is taken. Raises UnfitError."""
    end = _END.search(received)
    if end is None or end.start() > MOST_HEAD:
        raise UnfitError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    line, *fields = bytes(received[: end.start()]).split(b"\n")
    if len(line) > MOST_LINE:
        raise UnfitError(HTTPStatus.REQUEST_URI_TOO_LONG)
    if len(fields) > MOST_FIELDS:
        raise UnfitError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    found = _LINE.fullmatch(line.removesuffix(b"\r"))
    if found is None or not all(_FIELD.fullmatch(field.removesuffix(b"\r")) for field in fields):
        raise UnfitError(HTTPStatus.BAD_REQUEST)
    method, target, major, _ = (part.decode("ascii") for part in found.groups())
    if major != "1":
        raise UnfitError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    return Request(method, target.partition("?")[0])
