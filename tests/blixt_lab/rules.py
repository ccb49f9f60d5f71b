"""nftables on a lab's hosts: what connection tracking makes of packets, and kube-proxy's kind of rules."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from blixt_lab.blixt import API_PORT
from blixt_lab.host import Host

_WATCH = "blixt_lab_watch"
_PROXY = "blixt_lab_proxy"
_PACKET = "{0} saddr . {0} daddr . meta l4proto . th sport . th dport"
_PACKET_TYPE = "{}_addr . {}_addr . inet_proto . inet_service . inet_service"


@dataclass(frozen=True, slots=True)
class Watch:
    """Connection tracking on a host, as strict as can be: what it calls INVALID is dropped, and noted."""

    host: Host

    def invalid(self) -> list[str]:
        """Addresses, protocol and ports of packets that were."""
        found = []
        for name in ("invalid4", "invalid6"):
            content = objects(self.host, "list", "set", "inet", _WATCH, name)
            found += [
                " ".join(str(part) for part in element["concat"])
                for entry in content
                if "set" in entry
                for element in entry["set"].get("elem", [])
            ]
        return found

    def forget(self) -> None:
        """What was INVALID until now."""
        self.host.run("nft", f"flush set inet {_WATCH} invalid4; flush set inet {_WATCH} invalid6")

    def tracked(self) -> int:
        """Packets that were of a connection, or begun one."""
        return _count(self.host, _WATCH, "tracked")


@contextlib.contextmanager
def watching(*hosts: Host) -> Iterator[list[Watch]]:
    """Track connections on these hosts until the end; none is taken for one that was not seen to begin."""
    for host in hosts:
        host.sysctl({"netfilter/nf_conntrack_tcp_loose": 0})
        host.run("nft", "-f", "-", stdin=_watch_rules())
    try:
        yield [Watch(host) for host in hosts]
    finally:
        for host in hosts:
            host.run("nft", "delete", "table", "inet", _WATCH)


def _watch_rules() -> str:
    """Daemons' own streams may be older than these rules."""
    sets = "".join(
        f"""
        set invalid{version} {{
            type {_PACKET_TYPE.format(kind, kind)}
            flags dynamic
            size 1024
        }}"""
        for version, kind in ((4, "ipv4"), (6, "ipv6"))
    )
    rules = f"""
            tcp sport {API_PORT} accept
            tcp dport {API_PORT} accept
            ct state invalid meta nfproto ipv4 update @invalid4 {{ {_PACKET.format("ip")} }} drop
            ct state invalid meta nfproto ipv6 update @invalid6 {{ {_PACKET.format("ip6")} }} drop
            ct state {{ new, established, related }} counter name tracked"""
    return f"""
    table inet {_WATCH} {{
        counter tracked {{ }}{sets}
        chain incoming {{
            type filter hook prerouting priority -150
            {rules}
        }}
        chain outgoing {{
            type filter hook output priority -150
            {rules}
        }}
    }}
    """


def objects(host: Host, *command: str) -> list[dict[str, Any]]:
    """What `nft -j` answers."""
    found: list[dict[str, Any]] = json.loads(host.run("nft", "-j", *command).stdout)["nftables"]
    return found


def _count(host: Host, table: str, name: str) -> int:
    found = objects(host, "list", "counter", "inet", table, name)
    (packets,) = (entry["counter"]["packets"] for entry in found if "counter" in entry)
    return int(packets)


@dataclass(frozen=True, slots=True)
class Translation:
    """A service's address and port, and its endpoints'; TCP to the first port, UDP to the second."""

    address: str
    ports: tuple[int, int]
    endpoints: Sequence[str]
    endpoint_ports: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Proxy:
    """The rules on a host."""

    host: Host

    def flows(self) -> int:
        """Flows that they have translated so far: only the first packet of a flow comes to them."""
        return _count(self.host, _PROXY, "flows")


@contextlib.contextmanager
def proxying(host: Host, translations: Sequence[Translation], local: Sequence[str]) -> Iterator[Proxy]:
    """Rules as kube-proxy's nftables mode has them: destinations translated, one endpoint at random, and
    clients masqueraded towards endpoints that aren't `local`. What they translated stays tracked after them.
    """
    host.run("nft", "-f", "-", stdin=_proxy_rules(translations, local))
    try:
        yield Proxy(host)
    finally:
        host.run("nft", "delete", "table", "inet", _PROXY)


def _proxy_rules(translations: Sequence[Translation], local: Sequence[str]) -> str:
    rules = []
    for service in translations:
        family = "ip6" if ":" in service.address else "ip"
        for protocol, port, target in zip(("tcp", "udp"), service.ports, service.endpoint_ports, strict=True):
            choices = ", ".join(
                f"{number} : {endpoint} . {target}" for number, endpoint in enumerate(service.endpoints)
            )
            rules.append(
                f"{family} daddr {service.address} {protocol} dport {port} counter name flows "
                f"dnat {family} to numgen random mod {len(service.endpoints)} map {{ {choices} }}"
            )
    listed = "\n            ".join(rules)
    away = []
    for family, mark in (("ip", "."), ("ip6", ":")):
        here = ", ".join(address for address in local if mark in address)
        away.append(f"ct status dnat {family} daddr != {{ {here} }} masquerade")
    elsewhere = "\n            ".join(away)
    return f"""
    table inet {_PROXY} {{
        counter flows {{ }}
        chain incoming {{
            type nat hook prerouting priority dstnat
            {listed}
        }}
        chain own {{
            type nat hook output priority -100
            {listed}
        }}
        chain leaving {{
            type nat hook postrouting priority srcnat
            {elsewhere}
        }}
    }}
    """
