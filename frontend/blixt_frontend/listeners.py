"""Addresses that the server listens on."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blixt_frontend.errors import FrontendError

_UNIX = "unix:"


class ListenError(FrontendError):
    """An address can't be listened on."""


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host name or address and a port; port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def probe(self) -> None:
        """Raises ListenError with the kernel's reason, where grpc would only say that it failed."""
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in found:
                with socket.socket(family, kind, protocol) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(address)
                    probe.listen(1)
        except OSError as error:
            raise ListenError(f"cannot listen on {self}: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A unix socket's path."""

    path: Path

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}"

    def probe(self) -> None:
        """Raises ListenError. A socket that nobody listens on any more is removed, as bind needs it."""
        try:
            if not self.path.parent.is_dir():
                raise FileNotFoundError(errno.ENOENT, "its folder doesn't exist")
            if not self.path.exists():
                return
            if not stat.S_ISSOCK(self.path.stat().st_mode):
                raise FileExistsError(errno.EEXIST, "a file that is no socket is there")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                try:
                    probe.connect(str(self.path))
                except ConnectionRefusedError:
                    self.path.unlink(missing_ok=True)
                else:
                    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        except OSError as error:
            raise ListenError(f"cannot listen on {self}: {error.strerror or error}") from error


Address = TcpAddress | UnixAddress


def parse_address(text: str) -> Address:
    """`HOST:PORT`, `[IPv6]:PORT`, `:PORT` (every address) or `unix:PATH`. Raises ValueError."""
    if text.startswith(_UNIX):
        path = text.removeprefix(_UNIX)
        if not path:
            raise ValueError(f"{text!r}: a path must follow")
        return UnixAddress(Path(path).absolute())
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r}: not HOST:PORT, [IPv6]:PORT or unix:PATH")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address needs brackets: [ADDRESS]:PORT")
    return TcpAddress(host or "::", int(port))


@contextmanager
def owner_only() -> Iterator[None]:
    """Sockets made inside are open to this user only, from their first moment on."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)
