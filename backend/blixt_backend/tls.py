"""Where the frontend is and how to speak to it: addresses, certificates, channels."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

#: The largest message taken, in bytes; a frontend's batches are far smaller.
MAX_MESSAGE = 64 << 20


class ApiAddressError(ValueError):
    """The text is no address of a frontend."""


class CertificateError(Exception):
    """A certificate or key can't be used: which, and why."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of a TLS connection. Read anew for every connection: certificates are renewed in place."""

    #: Who may have signed the frontend's certificate; None: the certificate authorities that gRPC ships.
    authority: Path | None = None
    #: Our own certificate (with its chain) and its key, for mutual TLS: both or neither.
    certificate: Path | None = None
    key: Path | None = None
    #: The name that the frontend's certificate must have; empty: the one in the address.
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """Raises CertificateError."""
        authority, certificate, key = (_read(path) for path in (self.authority, self.certificate, self.key))
        self._check_pair()
        return grpc.ssl_channel_credentials(authority, key, certificate)

    def _check_pair(self) -> None:
        """gRPC would only ever report a failed handshake, without the reason."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.authority:
                context.load_verify_locations(self.authority)
        except ssl.SSLError as error:
            raise CertificateError(f"{self.authority} holds no PEM certificates: {error}") from None
        try:
            if self.certificate:
                # Without a password given, one would be asked for on the terminal.
                context.load_cert_chain(self.certificate, self.key, password="")
        except (ssl.SSLError, OSError, ValueError) as error:
            raise CertificateError(
                f"{self.certificate} and {self.key} are no PEM certificate and its key: {error}"
            ) from None


@dataclass(frozen=True, slots=True)
class Api:
    """A frontend's address, in gRPC's form, and TLS if it is to be used."""

    target: str
    tls: TlsFiles | None = None

    def channel(self, keepalive_seconds: int) -> grpc.aio.Channel:
        """A fresh channel, connected by its first use. Raises CertificateError."""
        options: list[tuple[str, int | str]] = [
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.keepalive_time_ms", keepalive_seconds * 1000),
            ("grpc.keepalive_timeout_ms", 10_000),
            # A stream is silent for as long as nothing changes: pings must go on without data.
            ("grpc.http2.max_pings_without_data", 0),
            # Each channel connects for itself: another's waiting after a failure must not delay it.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ]
        if self.tls is None:
            return grpc.aio.insecure_channel(self.target, options=options)
        if self.tls.server_name:
            options.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return grpc.aio.secure_channel(self.target, self.tls.credentials(), options=options)


def target(address: str) -> str:
    """HOST:PORT, [IPV6]:PORT or unix:PATH as gRPC takes it. Raises ApiAddressError."""
    if address.startswith("unix:"):
        if address in ("unix:", "unix://"):
            raise ApiAddressError(f"{address!r} lacks a path: unix:/run/blixt/api.sock")
        return address
    host, _, port = address.removeprefix("dns:///").rpartition(":")
    if not host or (":" in host) != (host.startswith("[") and host.endswith("]")):
        raise ApiAddressError(f"{address!r} is not HOST:PORT, [IPV6]:PORT or unix:PATH")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ApiAddressError(f"{address!r} has no port from 1 to 65535 at its end")
    return address


def _read(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{path} can't be read: {error.strerror}") from None
