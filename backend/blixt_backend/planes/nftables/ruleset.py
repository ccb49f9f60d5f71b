"""The tables in nft's own language: everything but the elements, which change. Pure.

    prerouting ──┬─ from an uplink ─▶ outside ─▶ outside_frontends ─▶ outside-N: a slot, dnat
                 └─ from here ─────▶ inside ──▶ inside_frontends ──▶ inside-N: a slot, dnat
    output ────────────────────────▶ inside
    postrouting: masquerade what is marked as from outside, but to this node's endpoints; and hairpins

All of these are nat chains: connection tracking brings them the first packet of a flow only.

Text and not JSON, since libnftables before 1.0.7 knows no maps of concatenated values and no statements that
write to maps in its JSON. An IPv6 key that a statement writes may not be longer than 16 bytes there (more
ends the process): so affinity's key is two hashes of client and frontend.

A frontend's choice, then the slot that was drawn, or an endpoint's number, are handed on from one rule to the
next in the packet's priority, which nothing asks for before a queueing discipline, and which is none then.
Maps' types are named where they can be: by `typeof`, a port would be one of TCP's only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from blixt_backend.planes.nftables.choice import Choice
from blixt_backend.planes.nftables.elements import (
    CLUSTER_IPS,
    GUARDED,
    HAIRPINS,
    LOCAL_ENDPOINTS,
    SIDES,
    SOURCE_RANGES,
    UPLINKS,
    frontends,
    members,
    numbered,
    slots,
)
from blixt_backend.planes.nftables.family import TABLE, Family
from blixt_backend.planes.nftables.priority import text
from blixt_backend.planes.nftables.slots import FIRST_SLOT, PREFIX_MASK

Range = IPv4Network | IPv6Network

AFFINITY: Final = "affinity"
#: Clients that are remembered at a time; who comes beyond that is served, and not remembered.
_MOST_CLIENTS = 262144
_SEEDS = (0x626C6978, 0x7431)
_CHOICE = "meta priority"
#: Before kube-proxy's chains of type nat (-100 and 100): a flow is who translates it first's.
_DESTINATION_PRIORITY, _SOURCE_PRIORITY = -101, 99
#: Not the ports that the eBPF plane masquerades by: while it is drained, both talk to the same endpoints.
_MASQUERADE_PORTS = "30000-65535"


@dataclass(frozen=True, slots=True)
class Rules:
    """What the rules of all services depend on.

    With `by_uplink`, clients that come in by the interfaces of the set `uplinks` are outside; without, all
    that come in. Those in `cluster_cidrs` are inside, wherever they come in. `mark` is the bit of a packet's
    mark that asks for masquerading.
    """

    by_uplink: bool = True
    cluster_cidrs: tuple[Range, ...] = ()
    service_cidrs: tuple[Range, ...] = ()
    mark: int = 1 << 14


def choices(side: str) -> str:
    """The map from a choice's code to its chain."""
    return f"{side}_choices"


def chain(side: str, choice: Choice) -> str:
    return f"{side}-{choice.name}"


def lay(family: Family, rules: Rules, needed: Iterable[tuple[str, Choice]]) -> str:
    """The whole table, and in it these choices of the sides. Elements that are there stay."""
    listed = sorted(set(needed))
    own = "\n".join(_choice_chain(family, side, choice) for side, choice in listed if choice.slots)
    laid = f"""\
table {family.name} {TABLE} {{
}}
flush table {family.name} {TABLE}
table {family.name} {TABLE} {{
{_declarations(family)}
{_fixed_chains(family, rules)}
{own}
}}
"""
    emptied = "".join(f"flush map {family.name} {TABLE} {choices(side)}\n" for side in SIDES)
    return laid + emptied + "".join(_choice_element(family, side, choice) for side, choice in listed)


def add_choices(family: Family, needed: Iterable[tuple[str, Choice]]) -> str:
    """Choices that aren't there yet."""
    listed = sorted(set(needed))
    if not listed:
        return ""
    own = "\n".join(_choice_chain(family, side, choice) for side, choice in listed if choice.slots)
    table = f"table {family.name} {TABLE} {{\n{own}\n}}\n"
    return table + "".join(_choice_element(family, side, choice) for side, choice in listed)


def remove_choices(family: Family, unneeded: Collection[tuple[str, Choice]]) -> str:
    """Choices that no frontend has any more."""
    place = f"{family.name} {TABLE}"
    lines = [f"delete element {place} {choices(side)} {{ {choice.code} }}" for side, choice in unneeded]
    for side, choice in unneeded:
        if choice.slots:
            lines.append(f"flush chain {place} {chain(side, choice)}")
            lines.append(f"delete chain {place} {chain(side, choice)}")
    return "".join(f"{line}\n" for line in lines)


def _frontend(family: Family) -> str:
    return f"{family.name} daddr . meta l4proto . th dport"


def _client(family: Family) -> str:
    """A client of a frontend, in 64 bits."""
    return " . ".join(
        f"jhash {family.name} saddr . {_frontend(family)} mod 4294967295 seed {seed:#x}" for seed in _SEEDS
    )


def _declarations(family: Family) -> str:
    address = f"ipv{family.version}_addr"
    frontend, endpoint = f"{address} . inet_proto . inet_service", f"{address} . inet_service"
    number = "numgen inc mod 2"
    lines = []
    for side in SIDES:
        lines += [
            f"map {frontends(side)} {{ type {frontend} : classid; }}",
            f"map {choices(side)} {{ type classid : verdict; }}",
            f"map {slots(side)} {{ type {frontend} . classid : {endpoint}; }}",
            f"map {numbered(side)} {{ type {frontend} . classid : classid; }}",
            f"map {members(side)} {{ type {frontend} . classid : {endpoint}; }}",
        ]
    return "\n".join(
        [
            *lines,
            f"map {AFFINITY} {{",
            f"typeof {number} . {number} : {_CHOICE}; flags timeout; size {_MOST_CLIENTS};",
            "}",
            f"set {GUARDED} {{ type {frontend}; }}",
            f"set {SOURCE_RANGES} {{ type {frontend} . {address}; flags interval; }}",
            f"set {CLUSTER_IPS} {{ type {address}; }}",
            f"set {LOCAL_ENDPOINTS} {{ type {address}; }}",
            f"set {HAIRPINS} {{ type {address} . {address}; }}",
            f"set {UPLINKS} {{ type ifname; }}",
        ]
    )


def _fixed_chains(family: Family, rules: Rules) -> str:
    ip, frontend = family.name, _frontend(family)
    mark, others = f"{rules.mark:#x}", f"{0xFFFFFFFF & ~rules.mark:#x}"
    number_mask, number_prefix = text(PREFIX_MASK), text(FIRST_SLOT)
    return f"""\
chain refuse {{
	meta l4proto tcp reject with tcp reset
	reject
}}
chain miss {{
	meta l4proto != {{ tcp, udp, sctp }} return
	{ip} daddr @{CLUSTER_IPS} goto refuse
{_dropped(family, rules)}
}}
chain inside_choose {{
	{_CHOICE} vmap @{choices("inside")}
}}
chain outside_choose {{
	{_CHOICE} vmap @{choices("outside")}
}}
chain inside {{
	{_CHOICE} set {frontend} map @{frontends("inside")} goto inside_choose
	goto miss
}}
chain outside {{
	{frontend} @{GUARDED} {frontend} . {ip} saddr != @{SOURCE_RANGES} drop
	meta mark set meta mark | {mark}
	{_CHOICE} set {frontend} map @{frontends("outside")} goto outside_choose
	jump inside
	meta mark set meta mark & {others}
}}
chain outsiders {{
	meta mark set meta mark & {others}
	{ip} daddr @{LOCAL_ENDPOINTS} return
	goto own_address
}}
chain own_address {{
	meta l4proto {{ tcp, udp, sctp }} masquerade to :{_MASQUERADE_PORTS} fully-random
	masquerade fully-random
}}
chain prerouting {{
	type nat hook prerouting priority {_DESTINATION_PRIORITY};
{_where_from(family, rules)}
}}
chain output {{
	type nat hook output priority {_DESTINATION_PRIORITY};
	goto inside
}}
chain postrouting {{
	type nat hook postrouting priority {_SOURCE_PRIORITY};
	{_CHOICE} & {number_mask} == {number_prefix} {_CHOICE} set none
	meta mark & {mark} == {mark} goto outsiders
	ct status dnat {ip} saddr . {ip} daddr @{HAIRPINS} goto own_address
}}"""


def _where_from(family: Family, rules: Rules) -> str:
    lines = []
    if inside := _listed(rules.cluster_cidrs, family):
        lines.append(f"\t{family.name} saddr {inside} goto inside")
    if rules.by_uplink:
        lines += [f"\tiifname @{UPLINKS} goto outside", "\tgoto inside"]
    else:
        lines += ["\tiifname lo goto inside", "\tgoto outside"]
    return "\n".join(lines)


def _dropped(family: Family, rules: Rules) -> str:
    ranges = _listed(rules.service_cidrs, family)
    return f"\t{family.name} daddr {ranges} drop" if ranges else ""


def _listed(ranges: Iterable[Range], family: Family) -> str:
    own = [str(network) for network in ranges if network.version == family.version]
    return f"{{ {', '.join(own)} }}" if own else ""


def _choice_chain(family: Family, side: str, choice: Choice) -> str:
    frontend = _frontend(family)
    last = "drop" if choice.drops else "goto refuse"
    draw = f"{_CHOICE} set numgen random mod {choice.slots} offset {FIRST_SLOT}"
    if not choice.seconds:
        return f"""\
chain {chain(side, choice)} {{
	{draw}
	dnat {family.name} to {frontend} . {_CHOICE} map @{slots(side)}
	{last}
}}"""
    # Writing to an element that is there only makes it last longer: one with a stale value goes first.
    client = _client(family)
    remember = f"update @{AFFINITY} {{ {client} timeout {choice.seconds}s : {_CHOICE} }}"
    chosen = f"dnat {family.name} to {frontend} . {_CHOICE} map @{members(side)}"
    return f"""\
chain {chain(side, choice)} {{
	{_CHOICE} set {client} map @{AFFINITY} {remember} {chosen}
	delete @{AFFINITY} {{ {client} : {_CHOICE} }}
	{draw}
	{_CHOICE} set {frontend} . {_CHOICE} map @{numbered(side)} {remember} {chosen}
	{chosen}
	{last}
}}"""


def _choice_element(family: Family, side: str, choice: Choice) -> str:
    turned_away = "drop" if choice.drops else "goto refuse"
    verdict = f"goto {chain(side, choice)}" if choice.slots else turned_away
    return f"add element {family.name} {TABLE} {choices(side)} {{ {choice.code} : {verdict} }}\n"
