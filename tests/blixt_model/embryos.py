"""Rules 3.9 to 3.11: flows that are no connections yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from blixt_model.family import UDP
from blixt_model.hashing import MASK_32, hash_of
from blixt_model.parse import SYN, Packet
from blixt_model.ports import UDP_IDLE_TICKS, is_over
from blixt_model.tables import (
    Connection,
    ConnectionFlag,
    DeviceFlag,
    Embryo,
    Endpoint,
    Flow,
    Hint,
    Tables,
    partner_of,
)
from blixt_model.ways import Circumstances

EMBRYO_TICKS = 2
EMBRYO_PACKETS = 32
_MOST_COUNTED = 255

#: In `embryos`, as they are by now.
EmbryoLookUp = Callable[[Flow], Embryo | None]


def find(flow: Flow, now: Circumstances, tables: Tables) -> tuple[Flow, Embryo] | None:
    """A client's flow's embryo, and its key, if a hint leads there."""
    index, tag = place_of_hint(flow, now)
    hint = tables.hints.get(index)
    if hint is None or hint.tag != tag:
        return None
    endpoint = tables.endpoints.get(hint.endpoint)
    if endpoint is None or not endpoint.live:
        return None
    source = flow.source
    if hint.device:
        device = tables.devices.get(hint.device)
        if device is None or not device.flags & DeviceFlag.MASQUERADE:
            return None
        source = device.address
    key = Flow(endpoint.address, source, endpoint.port, hint.source_port, flow.protocol)
    embryo = tables.embryos.get(key)
    if embryo is None or embryo.flow != flow:
        return None
    is_same = (embryo.endpoint, embryo.generation) == (hint.endpoint, endpoint.generation)
    return (key, embryo) if is_same else None


def place_of_hint(flow: Flow, now: Circumstances) -> tuple[int, int]:
    """The index in `hints`, and the tag."""
    flow_hash = hash_of(flow, now.settings.hash_seed)
    return (flow_hash & MASK_32) * now.settings.hint_count >> 32, flow_hash >> 32 & 0xFFFF


def hint_to(key: Flow, embryo: Embryo, device: int, tag: int) -> Hint:
    return Hint(embryo.endpoint, device, key.destination_port, tag)


def begins_anew(embryo: Embryo, packet: Packet, endpoint: Endpoint, tick: int) -> bool:
    if packet.protocol == UDP:
        return endpoint.silent or tick - embryo.seen_tick > UDP_IDLE_TICKS
    return packet.opens and (is_over(embryo.flags) or endpoint.draining)


def shows_life(embryo: Embryo, packet: Packet, tick: int) -> bool:
    """Whether the client's packet, counted in `embryo`, makes a connection of it."""
    if has_grown(embryo):
        return True
    answered = bool(embryo.flags & ConnectionFlag.ANSWERED)
    if packet.protocol == UDP:
        return answered or tick - embryo.born_tick > EMBRYO_TICKS
    goes_on = bool(embryo.flags & ConnectionFlag.TUNNELLED) and embryo.packets > 1
    return (answered or goes_on) and not is_over(embryo.flags) and not packet.tcp_flags & SYN


def has_grown(embryo: Embryo) -> bool:
    return max(embryo.packets, embryo.answers) >= EMBRYO_PACKETS


def gives_way(embryo: Embryo, tick: int) -> bool:
    return tick - embryo.seen_tick > EMBRYO_TICKS


def with_packet(embryo: Embryo, length: int, flags: int) -> Embryo:
    """One more of the client's."""
    packets = min(embryo.packets + 1, _MOST_COUNTED)
    return replace(embryo, packets=packets, bytes=embryo.bytes + length, flags=embryo.flags | flags)


def with_answer(embryo: Embryo, length: int, flags: int) -> Embryo:
    answers = min(embryo.answers + 1, _MOST_COUNTED)
    return replace(
        embryo,
        answers=answers,
        answer_bytes=embryo.answer_bytes + length,
        flags=embryo.flags | flags | ConnectionFlag.ANSWERED,
    )


def taken_up(begun: Embryo, before: Embryo) -> Embryo:
    """`before` goes on with the packet that `begun` was made of."""
    return replace(
        begun,
        born_tick=before.born_tick,
        flags=begun.flags | before.flags & ~ConnectionFlag.TUNNELLED,
        packets=min(before.packets + 1, _MOST_COUNTED),
        answers=before.answers,
        bytes=before.bytes + begun.bytes,
        answer_bytes=before.answer_bytes,
    )


def client_s_entry(key: Flow, embryo: Embryo, tunnel_source: bytes = b"") -> Connection:
    becomes = partner_of(key)
    return Connection(
        becomes=replace(becomes, source=tunnel_source) if tunnel_source else becomes,
        endpoint=embryo.endpoint,
        generation=embryo.generation,
        service=embryo.service,
        flags=embryo.flags & ~ConnectionFlag.ANSWERED,
        seen_tick=embryo.seen_tick,
        way=embryo.way,
        packets=embryo.packets,
        bytes=embryo.bytes,
    )


def endpoint_s_entry(embryo: Embryo) -> Connection:
    return Connection(
        becomes=partner_of(embryo.flow),
        endpoint=embryo.endpoint,
        generation=embryo.generation,
        service=embryo.service,
        flags=embryo.flags & ~ConnectionFlag.ANSWERED | ConnectionFlag.REPLY,
        seen_tick=embryo.seen_tick - 1 if embryo.flags & ConnectionFlag.ANSWERED else 0,
        packets=embryo.answers,
        bytes=embryo.answer_bytes,
    )


def entry_of(flow: Flow, now: Circumstances, tables: Tables) -> Connection | None:
    """What an entry of `connections` for the flow would be, by its embryo, for those who only look. Not of
    what goes by a tunnel."""
    embryo = tables.embryos.get(flow)
    if embryo is not None and not embryo.flags & ConnectionFlag.TUNNELLED:
        return endpoint_s_entry(embryo)
    found = find(flow, now, tables)
    if found is None or found[1].flags & ConnectionFlag.TUNNELLED:
        return None
    return client_s_entry(*found)
