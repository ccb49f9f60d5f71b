"""Asking by HTTP from a host, with the standard library's client."""

from __future__ import annotations

import http.client
from dataclasses import dataclass, field
from typing import Any

from blixt_lab.host import Host


@dataclass(frozen=True, slots=True)
class Told:
    """What was answered; status 0: there was no connection to be had."""

    status: int
    body: str = ""
    headers: Any = field(default_factory=dict)


def get(client: Host, address: str, port: int, path: str = "/") -> Told:
    """One request by a connection of its own."""

    def talk() -> Told:
        connection = http.client.HTTPConnection(address, port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return Told(response.status, response.read().decode(), response.headers)
        except (ConnectionRefusedError, ConnectionResetError):
            return Told(0)
        finally:
            connection.close()

    return client.call(talk)
