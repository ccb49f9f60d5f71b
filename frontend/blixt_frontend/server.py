"""The gRPC server: both Watch streams, health and reflection, on TCP and unix sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from blixt_api import wire
from blixt_frontend.listeners import Address, ListenError, TcpAddress, UnixAddress, owner_only
from blixt_frontend.store import Store
from blixt_frontend.streams import BatchDialect, Dialect, LocalDialect, Stream, Watchers
from blixt_frontend.tls import TlsFiles, server_credentials

if TYPE_CHECKING:
    from blixt_frontend.streams import Context

log = logging.getLogger(__name__)

_SERVICES = ("", wire.LOCAL_SERVICE, wire.BATCH_SERVICE)

_OPTIONS = (
    # Two frontends on one port would each get a part of the nodes.
    ("grpc.so_reuseport", 0),
    # A node that vanished is noticed within 50 s, as silence says nothing. Our backends ask us every 30 s, so
    # they need not be asked: with a thousand of them, this is most of what an idle frontend does.
    ("grpc.keepalive_time_ms", 40_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Nodes may look for us as often.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    # When a frontend starts, all nodes want a full set at once: the last one of a thousand waits for a while
    # until its call is taken up, and must not be sent away after gRPC's own 30 s.
    ("grpc.server_max_unrequested_time_in_server", 600),
    # Requests are a node name and a number.
    ("grpc.max_receive_message_length", 64 * 1024),
)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """TLS is for TCP only: a unix socket is open to its owner alone."""

    listen: tuple[Address, ...]
    tls: TlsFiles | None = None
    #: Seconds that streams in the middle of a round have to finish it at shutdown.
    grace: float = 3.0


class Server:
    """Serves a store from `start` to `stop`. Not SERVING (health) before the store is ready."""

    def __init__(self, store: Store, config: ServerConfig) -> None:
        self._store = store
        self._config = config
        self._watchers = Watchers()
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self._readiness: asyncio.Task[None] | None = None
        #: Where it listens, with the ports that the kernel chose.
        self.addresses: tuple[str, ...] = ()

    @property
    def acknowledged(self) -> Mapping[str, int]:
        """The revision that each watching node said it has applied."""
        return self._watchers.acknowledged

    @property
    def streams(self) -> Mapping[str, int]:
        """How many streams each watching node has."""
        return self._watchers.streams

    async def start(self) -> None:
        """Listen. Raises ListenError, TlsError."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        server = grpc.aio.server(options=_OPTIONS)
        dialects = (LocalDialect(), LocalDialect(wire.OLDER_LOCAL_SERVICE), BatchDialect())
        server.add_generic_rpc_handlers([self._handler(dialect) for dialect in dialects])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection(
            (*_SERVICES[1:], health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )
        for address in self._config.listen:
            address.probe()  # all of them, before the first one is bound
        self.addresses = tuple(_bind(server, address, self._config.tls) for address in self._config.listen)
        await server.start()
        self._server = server
        self._readiness = asyncio.create_task(self._announce_ready())
        log.info("listening on %s", ", ".join(self.addresses))
        self._warn_of_open_ports()

    async def stop(self) -> None:
        """Take no new streams, end those that wait, give those in a round the grace time to finish it."""
        if self._server is None or self._readiness is None:
            return
        self._readiness.cancel()
        await self._health.enter_graceful_shutdown()
        self._watchers.closing = True
        self._store.wake()
        await self._server.stop(self._config.grace)

    def _warn_of_open_ports(self) -> None:
        if self._config.tls and self._config.tls.client_ca:
            return
        reachable = [a for a in self._config.listen if isinstance(a, TcpAddress) and not a.is_loopback]
        if reachable:
            names = ", ".join(map(str, reachable))
            log.warning("whoever reaches %s may watch any node's services: no client CA is set", names)

    async def _announce_ready(self) -> None:
        while not self._store.ready:
            await self._store.changed()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def _set_health(self, status: int) -> None:
        for service in _SERVICES:
            await self._health.set(service, status)

    def _handler(self, dialect: Dialect) -> grpc.GenericRpcHandler:
        """A Watch method without serializers: rounds are bytes already."""

        async def watch(requests: AsyncIterator[bytes], context: Context) -> None:
            await Stream(self._store, self._watchers, dialect, context).serve(requests)

        method: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(watch)
        return grpc.method_handlers_generic_handler(dialect.service, {wire.WATCH: method})


def _bind(server: grpc.aio.Server, address: Address, tls: TlsFiles | None) -> str:
    """Where it listens now. Raises ListenError, TlsError."""
    address.probe()  # it may be there twice
    try:
        if isinstance(address, UnixAddress):
            with owner_only():
                server.add_insecure_port(str(address))
            return str(address)
        if tls:
            # Each port has credentials of its own: each must be told of new certificates.
            port = server.add_secure_port(str(address), server_credentials(tls))
        else:
            port = server.add_insecure_port(str(address))
    except RuntimeError as error:
        raise ListenError(f"cannot listen on {address}: {error}") from error
    return str(TcpAddress(address.host, port))
