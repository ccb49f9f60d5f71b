"""Rule 3's first question: whether a flow is the kernel's, which translated it before we came."""

from __future__ import annotations

from blixt_model.family import SCTP, TCP
from blixt_model.parse import Packet
from blixt_model.tables import Flow, KernelFlow, Tables, partner_of


def kernel_has(packet: Packet, tables: Tables) -> bool:
    """Whether a packet that is to a service, and of no connection, is the kernel's to translate."""
    if packet.protocol == SCTP:  # whose flows we can't look up there
        return tables.kernel_asked and not packet.opens
    opens_nothing = packet.protocol == TCP and not packet.opens
    if not (opens_nothing or tables.kernel_asked):
        return False
    found, is_answer = _look_up(packet.flow, tables)
    if found is None or (packet.opens and found.is_over):
        return False
    return found.translates_source if is_answer else found.translates_destination


def kernel_answers_with(key: Flow, tables: Tables) -> bool:
    """Whether packets with this key are answers that the kernel translates."""
    if not tables.kernel_asked or key.protocol == SCTP:
        return False
    found, is_answer = _look_up(key, tables)
    return found is not None and is_answer and found.translates_destination and not found.is_over


def _look_up(flow: Flow, tables: Tables) -> tuple[KernelFlow | None, bool]:
    """What is tracked under these addresses and ports, and whether they are its answers'."""
    for tracked in tables.kernel_flows:
        if flow == tracked.original:
            return tracked, False
        if flow == partner_of(tracked.becomes):
            return tracked, True
    return None, False
