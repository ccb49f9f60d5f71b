"""Where the API server is and how to speak to it: kubeconfig files and service accounts.

What is in them is read by the `kubernetes` package, which knows every form they take (embedded certificates,
token files, exec plugins, OIDC ...). It blocks: call `load` in a thread.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from blixt_frontend.errors import FrontendError


class AccessError(FrontendError):
    """There is no usable way to an API server; the text says what is wrong with which file."""


@dataclass(frozen=True, slots=True)
class Access:
    """Everything that a request needs beside itself."""

    #: Base URL, without a slash at its end.
    server: str
    #: None over plain HTTP.
    tls: ssl.SSLContext | None = None
    #: The same for contexts that were made of the same files' contents, which contexts don't tell.
    tls_digest: bytes = b""
    #: The value of the header Authorization, or empty: a client certificate, or nobody.
    authorization: str = field(default="", repr=False)
    #: Expected in the server's certificate instead of the URL's host.
    server_name: str | None = None
    proxy: str | None = None


class Way(Protocol):
    """How to come to an API server."""

    @property
    def renewal(self) -> float | None:
        """Seconds after which to read credentials again unasked; None: only when they are refused."""

    def load(self) -> Access:
        """Blocking. Raises AccessError."""


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """A kubeconfig file, such as kubectl's; its current context, or the one named."""

    #: An exec plugin may be slow, or ask a person; it is asked when its last answer has expired.
    renewal: ClassVar[float | None] = None

    path: Path
    context: str | None = None

    def load(self) -> Access:
        """Reads the file, and runs the exec plugin that it may name."""
        try:
            self.path.open("rb").close()
        except OSError as error:
            raise AccessError(f"cannot read the kubeconfig {self.path}: {error.strerror}") from error
        return _load(f"the kubeconfig {self.path}", self._fill)

    def _fill(self, configuration: Any) -> None:
        from kubernetes import config

        load: Callable[..., None] = config.load_kube_config
        load(str(self.path), context=self.context, client_configuration=configuration, persist_config=False)


@dataclass(frozen=True, slots=True)
class InCluster:
    """The service account of the pod that this runs in."""

    #: Kubelets renew the token's file well before it expires; expired ones are only noticed in audit logs.
    renewal: ClassVar[float | None] = 60.0

    def load(self) -> Access:
        """Reads the account's files."""
        return _load("the pod's service account", self._fill)

    def _fill(self, configuration: Any) -> None:
        from kubernetes import config

        load: Callable[..., None] = config.load_incluster_config
        load(client_configuration=configuration)


def _load(what: str, fill: Callable[[Any], None]) -> Access:
    # Imported only here: 35 MB that a frontend of manifests does without.
    from kubernetes.client import Configuration
    from kubernetes.client.rest import should_bypass_proxies

    configuration: Any = Configuration()
    try:
        fill(configuration)
        server = configuration.host.rstrip("/")
        direct = configuration.no_proxy and should_bypass_proxies(server, configuration.no_proxy)
        return Access(
            server,
            _tls(configuration),
            _tls_digest(configuration),
            configuration.api_key.get("BearerToken", "").strip(),
            configuration.tls_server_name,
            None if direct else configuration.proxy,
        )
    # The package passes on whatever its parsers raise at a malformed file.
    except Exception as error:
        raise AccessError(f"{what} can't be used: {_one_line(error)}") from error


def _tls(configuration: Any) -> ssl.SSLContext | None:
    if not configuration.host.startswith("https:"):
        return None
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    # Python 3.13 made this the default; authorities of many clusters lack an extension that it asks for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return context


def _tls_digest(configuration: Any) -> bytes:
    digest = hashlib.sha256(bytes([configuration.verify_ssl]))
    for name in (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file):
        digest.update(hashlib.sha256(Path(name).read_bytes() if name else b"").digest())
    return digest.digest()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
