"""Classic BPF for raw sockets (linux/filter.h): which frames wake the daemon at all. Pure.

A program reads the frame from its Ethernet header on, in network byte order; what the kernel knows besides
(the packet's type, its VLAN) is read at offsets from -0x1000 on.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

#: struct sock_filter, in the machine's byte order: code, jump if true, jump if false, k.
INSTRUCTION: Final = struct.Struct("=HBBI")

_KERNEL = 0xFFFFF000  # SKF_AD_OFF
_PACKET_TYPE, _VLAN_TAG = _KERNEL + 4, _KERNEL + 44
_OTHER_HOST, _OUTGOING = 3, 4
#: Frames of VLAN 0 carry a priority and are the interface's own; those of other VLANs are another's.
_VLAN_ID = 0xFFF
_NEXT_HEADER, _HOP_LIMIT, _ICMPV6_TYPE = 14 + 6, 14 + 7, 14 + 40
_RETURN, _WHOLE_FRAME = 0x06, 0xFFFF


class Do(Enum):
    """What a step does, with its code."""

    LOAD_WORD = 0x20
    LOAD_BYTE = 0x30
    MASK = 0x54
    #: Go on with what is equal, and drop the rest.
    NEED = 0x15
    #: Drop what is equal.
    REFUSE = 0x1015
    #: Skip the next step with what is equal.
    EITHER = 0x2015


class Step(NamedTuple):
    do: Do
    value: int


_OURS = (
    Step(Do.LOAD_WORD, _PACKET_TYPE),
    Step(Do.REFUSE, _OTHER_HOST),
    Step(Do.REFUSE, _OUTGOING),
    Step(Do.LOAD_WORD, _VLAN_TAG),
    Step(Do.MASK, _VLAN_ID),
    Step(Do.NEED, 0),
)
_NEIGHBOUR_DISCOVERY = (
    Step(Do.LOAD_BYTE, _NEXT_HEADER),
    Step(Do.NEED, 58),
    Step(Do.LOAD_BYTE, _HOP_LIMIT),
    Step(Do.NEED, 255),
    Step(Do.LOAD_BYTE, _ICMPV6_TYPE),
    Step(Do.EITHER, 135),
    Step(Do.NEED, 136),
)


def assemble(steps: Sequence[Step]) -> bytes:
    """Instructions that let a frame through that passes all steps."""
    made = []
    for position, (do, value) in enumerate(steps):
        to_drop = len(steps) - position  # over the instruction that accepts
        jumps = {Do.NEED: (0, to_drop), Do.REFUSE: (to_drop, 0), Do.EITHER: (1, 0)}.get(do, (0, 0))
        made.append(INSTRUCTION.pack(do.value & 0xFFF, *jumps, value))
    made.append(INSTRUCTION.pack(_RETURN, 0, 0, _WHOLE_FRAME))
    made.append(INSTRUCTION.pack(_RETURN, 0, 0, 0))
    return b"".join(made)


#: For sockets that are bound to one EtherType: all that is for this host, or of it neighbour discovery.
FOR_US: Final = assemble(_OURS)
NEIGHBOUR_DISCOVERY: Final = assemble(_OURS + _NEIGHBOUR_DISCOVERY)
