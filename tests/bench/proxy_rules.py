"""Rules of the shape that kube-proxy 1.36 writes, for machines where it isn't built.

What a packet passes is the same: the hooks, the maps and chains on its way, and connection tracking. What
is left out are comments and the rules of what the measured cluster doesn't have (node ports, source
ranges).
"""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from blixt_lab import Host
from blixt_lab.scale import Manifest

_PATIENCE = 600.0
_MASQUERADE = "0x4000"


@dataclass(frozen=True, slots=True)
class Port:
    """One port of a service, and the endpoints (address, port) behind it."""

    name: str
    address: str
    protocol: str
    port: int
    endpoints: tuple[tuple[str, int], ...]


def load(node: Host, mode: str, manifests: Sequence[Manifest]) -> None:
    """Bring the rules of both families into the node's kernel. Raises RuntimeError."""
    for family in (4, 6):
        listed = list(ports(manifests, family))
        if mode == "nftables":
            node.run("nft", "-f", "-", stdin="\n".join(nftables(listed, family)) + "\n", timeout=_PATIENCE)
        else:
            program = "iptables" if family == 4 else "ip6tables"
            restore = next(
                name for name in (f"{program}-legacy-restore", f"{program}-restore") if shutil.which(name)
            )
            node.run(restore, stdin="\n".join(iptables(listed)) + "\n", timeout=_PATIENCE)


def ports(manifests: Sequence[Manifest], family: int) -> Iterator[Port]:
    """The ports of all Services that have an address of that family."""
    slices = {
        _path(one, one["metadata"]["labels"]["kubernetes.io/service-name"]): one
        for one in manifests
        if one["kind"] == "EndpointSlice" and one["addressType"] == f"IPv{family}"
    }
    for one in manifests:
        if one["kind"] != "Service":
            continue
        path = _path(one, one["metadata"]["name"])
        listed = slices.get(path, {"ports": [], "endpoints": []})
        numbers = {port["name"]: port["port"] for port in listed["ports"]}
        for address in one["spec"]["clusterIPs"]:
            if ipaddress.ip_address(address).version != family:
                continue
            for port in one["spec"]["ports"]:
                yield Port(
                    f"{path}/{port['protocol'].lower()}/{port['name']}",
                    address,
                    port["protocol"].lower(),
                    port["port"],
                    tuple((each["addresses"][0], numbers[port["name"]]) for each in listed["endpoints"]),
                )


def nftables(listed: Sequence[Port], family: int) -> Iterator[str]:
    """Lines of `nft -f`."""
    ip, kind = ("ip", "ipv4_addr") if family == 4 else ("ip6", "ipv6_addr")
    cluster = "10.96.0.0/12" if family == 4 else "fd00:10:96::/108"
    addresses = ", ".join(sorted({port.address for port in listed}))
    hairpins = (f"{ip_} . {ip_} . {port.protocol} . {n}" for port in listed for ip_, n in port.endpoints)
    services = (
        f"{port.address} . {port.protocol} . {port.port} : goto service-{_digest(port.name)}"
        for port in listed
    )
    yield f"table {ip} kube-proxy {{"
    yield f"set hairpin-connections {{ type {kind} . {kind} . inet_proto . inet_service;"
    yield f"elements = {{ {', '.join(sorted(set(hairpins)))} }} }}"
    yield f"set cluster-ips {{ type {kind}; elements = {{ {addresses} }} }}"
    for name in ("no-endpoint-services", "firewall-ips"):
        yield f"map {name} {{ type {kind} . inet_proto . inet_service : verdict; }}"
    for port in listed:
        to = ", ".join(f"{n} : {ip_} . {number}" for n, (ip_, number) in enumerate(port.endpoints))
        chosen = f"numgen random mod {len(port.endpoints)} map {{ {to} }}"
        yield f"chain service-{_digest(port.name)} {{ meta l4proto {port.protocol} dnat {ip} to {chosen}; }}"
    yield f"map service-ips {{ type {kind} . inet_proto . inet_service : verdict;"
    yield f"elements = {{ {', '.join(services)} }} }}"
    key = f"{ip} daddr . meta l4proto . th dport"
    yield f"chain firewall-check {{ {key} vmap @firewall-ips; }}"
    yield f"chain service-endpoints-check {{ {key} vmap @no-endpoint-services; }}"
    yield f"chain cluster-ips-check {{ {ip} daddr @cluster-ips reject; {ip} daddr {cluster} drop; }}"
    yield f"chain services {{ {key} vmap @service-ips; }}"
    yield (
        f"chain masquerading {{ meta mark & {_MASQUERADE} != 0 meta mark set meta mark ^ {_MASQUERADE} "
        f"masquerade fully-random; ct status dnat {ip} saddr . {ip} daddr . meta l4proto . th dport "
        "@hairpin-connections masquerade fully-random; }"
    )
    for hook, priority in (("prerouting", -110), ("output", -110)):
        yield from _base(f"filter-{hook}-pre-dnat", "filter", hook, priority, "firewall-check")
    yield from _base("filter-input", "filter", "input", 0, "service-endpoints-check")
    for hook in ("forward", "output"):
        yield from _base(f"filter-{hook}", "filter", hook, 0, "service-endpoints-check", "cluster-ips-check")
    for hook in ("prerouting", "output"):
        yield f"chain nat-{hook} {{ type nat hook {hook} priority -100; jump services; }}"
    yield "chain nat-postrouting { type nat hook postrouting priority 100; jump masquerading; }"
    yield "}"


def _base(name: str, kind: str, hook: str, priority: int, *jumps: str) -> Iterator[str]:
    rules = " ".join(f"ct state new jump {jump};" for jump in jumps)
    yield f"chain {name} {{ type {kind} hook {hook} priority {priority}; {rules} }}"


def iptables(listed: Sequence[Port]) -> Iterator[str]:
    """Lines of `iptables-restore` and `ip6tables-restore`."""
    yield "*filter"
    yield ":KUBE-FORWARD - [0:0]"
    yield ":KUBE-SERVICES - [0:0]"
    yield "-A FORWARD -j KUBE-FORWARD"
    for hook in ("FORWARD", "OUTPUT"):
        yield f"-A {hook} -m conntrack --ctstate NEW -j KUBE-SERVICES"
    yield "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP"
    yield f"-A KUBE-FORWARD -m mark --mark {_MASQUERADE}/{_MASQUERADE} -j ACCEPT"
    yield "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    yield "COMMIT"
    yield "*nat"
    yield from (f":{name} - [0:0]" for name in ("KUBE-MARK-MASQ", "KUBE-POSTROUTING", "KUBE-SERVICES"))
    for port in listed:
        yield f":KUBE-SVC-{_digest(port.name)} - [0:0]"
        yield from (f":KUBE-SEP-{_digest(port.name, *each)} - [0:0]" for each in port.endpoints)
    yield "-A PREROUTING -j KUBE-SERVICES"
    yield "-A OUTPUT -j KUBE-SERVICES"
    yield "-A POSTROUTING -j KUBE-POSTROUTING"
    yield f"-A KUBE-MARK-MASQ -j MARK --set-xmark {_MASQUERADE}/{_MASQUERADE}"
    yield f"-A KUBE-POSTROUTING -m mark ! --mark {_MASQUERADE}/{_MASQUERADE} -j RETURN"
    yield f"-A KUBE-POSTROUTING -j MARK --set-xmark {_MASQUERADE}/0x0"
    yield "-A KUBE-POSTROUTING -j MASQUERADE --random-fully"
    for port in listed:
        match, service = f"-p {port.protocol} -m {port.protocol}", f"KUBE-SVC-{_digest(port.name)}"
        yield f"-A KUBE-SERVICES -d {port.address} {match} --dport {port.port} -j {service}"
        for left, (address, number) in zip(range(len(port.endpoints), 0, -1), port.endpoints, strict=True):
            endpoint = f"KUBE-SEP-{_digest(port.name, address, number)}"
            share = f"-m statistic --mode random --probability {1 / left:.11f} " if left > 1 else ""
            yield f"-A {service} {share}-j {endpoint}"
            yield f"-A {endpoint} -s {address} -j KUBE-MARK-MASQ"
            written = f"[{address}]" if ":" in address else address
            yield f"-A {endpoint} {match} -j DNAT --to-destination {written}:{number}"
    yield "COMMIT"


def _digest(*parts: str | int) -> str:
    return sha256("/".join(map(str, parts)).encode()).hexdigest()[:16].upper()


def _path(one: Manifest, name: str) -> str:
    return f"{one['metadata']['namespace']}/{name}"
