"""Server certificates that are read again when their files change."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

import grpc

from blixt_frontend.errors import FrontendError

log = logging.getLogger(__name__)

#: Tells whether a file was written again, or a link now leads elsewhere.
Signature: TypeAlias = tuple[tuple[int, int, int], ...]


class TlsError(FrontendError):
    """A certificate, key or authority can't be used."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. With `client_ca`, clients must show a certificate which that authority has signed."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def paths(self) -> tuple[Path, ...]:
        return (
            (self.certificate, self.key)
            if self.client_ca is None
            else (self.certificate, self.key, self.client_ca)
        )


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials that look at the files at every handshake. Raises TlsError if they can't be used now."""
    certificates = Certificates(files)
    # grpc takes None for "as before" from the fetcher; its type stubs don't know.
    fetcher = cast("Callable[[], grpc.ServerCertificateConfiguration]", certificates.renewed)
    return grpc.dynamic_ssl_server_credentials(
        certificates.current, fetcher, require_client_authentication=files.client_ca is not None
    )


class Certificates:
    """The certificates in force. Files that can't be used are reported, and change nothing."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._signature = signature(files)
        self.current = load(files)

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """What the files now hold, or None where nothing new can be used. Called on grpc's own threads."""
        try:
            now = signature(self._files)
            if now == self._signature:
                return None
            self._signature = now
            self.current = load(self._files)
        except TlsError as error:
            log.error("%s; the certificates in force stay", error)
            return None
        log.info("certificates read again from %s", self._files.certificate)
        return self.current


def signature(files: TlsFiles) -> Signature:
    """Raises TlsError where a file is missing or out of reach."""
    try:
        stats = [path.stat() for path in files.paths()]
    except OSError as error:
        raise TlsError(f"{error.filename}: {error.strerror}") from error
    return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)


def load(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    """Read the files and check that they fit together, which grpc would tell only at a handshake, and badly.

    Raises TlsError, also if they were written meanwhile: the next look will find them whole.
    """
    before = signature(files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        certificate, key = files.certificate.read_bytes(), files.key.read_bytes()
        authority = files.client_ca.read_bytes() if files.client_ca else None
    except OSError as error:
        raise TlsError(f"{error.filename}: {error.strerror}") from error
    try:
        # A password is asked for on the terminal unless one is given; an encrypted key is refused instead.
        context.load_cert_chain(files.certificate, files.key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise TlsError(f"{files.certificate}, {files.key}: not a certificate and its key: {error}") from error
    if authority is not None:
        try:
            context.load_verify_locations(cadata=authority.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise TlsError(f"{files.client_ca}: not a certificate authority in PEM: {error}") from error
    if signature(files) != before:
        raise TlsError(f"{files.certificate}: changed while it was read")
    return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=authority)
