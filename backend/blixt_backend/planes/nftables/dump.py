"""What nftables holds, asked of the kernel itself: the names of tables, and the elements of sets and maps.

libnftables could list them, but reads all elements of all tables only to name the tables, and takes longer to
list an element than to write it: a restart would take longer than a cold start. Whoever changes a set
meanwhile may be half seen; a later change that this makes fail is followed by another look. All calls block.
Sources: linux/netfilter/nf_tables.h; for what is in an element's user data, libnftnl/udata.h.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import NamedTuple

from blixt_backend.planes import ctnetlink
from blixt_backend.planes.ctnetlink import attribute, attributes
from blixt_backend.planes.nftables.family import Family

_NFTABLES = 10 << 8  # NFNL_SUBSYS_NFTABLES
_GET_TABLE, _GET_ELEMENTS = _NFTABLES | 1, _NFTABLES | 13
_TABLE_NAME = 1
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_KEY, _DATA, _USER_DATA, _KEY_END = 1, 2, 6, 10
#: A key, or data, is nested in an attribute of its own: its header is left out.
_VALUE = slice(4, None)
_COMMENT = 0  # NFTNL_UDATA_SET_ELEM_COMMENT


class Raw(NamedTuple):
    """An element: parts of a concatenation begin at multiples of four bytes, each in its own byte order."""

    key: bytes
    #: Of a range, its last; empty: the key is one value.
    last: bytes
    #: What a map has for the key; of no use where that is a verdict.
    value: bytes
    comment: str


def tables(family: Family) -> list[str]:
    """The names of the family's tables. Raises OSError."""
    with ctnetlink.opened() as netlink:
        netlink.send(ctnetlink.message(family.number, _GET_TABLE, ctnetlink.DUMP, b""))
        return [_text(told[_TABLE_NAME]) for told in ctnetlink.answers(netlink)]


def elements(netlink: socket.socket, family: Family, table: str, name: str) -> Iterator[Raw]:
    """The elements of a set or map; of one that isn't there, none. Raises OSError."""
    asked = attribute(_LIST_TABLE, _string(table)) + attribute(_LIST_SET, _string(name))
    netlink.send(ctnetlink.message(family.number, _GET_ELEMENTS, ctnetlink.DUMP, asked))
    try:
        for told in ctnetlink.answers(netlink):
            for _, element in attributes(told.get(_LIST_ELEMENTS, b"")):
                parts = dict(attributes(element))
                yield Raw(
                    parts.get(_KEY, b"")[_VALUE],
                    parts.get(_KEY_END, b"")[_VALUE],
                    parts.get(_DATA, b"")[_VALUE],
                    _comment(parts[_USER_DATA]) if _USER_DATA in parts else "",
                )
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def _comment(data: bytes) -> str:
    position = 0
    while position + 2 <= len(data):
        kind, length = data[position], data[position + 1]
        if kind == _COMMENT:
            return _text(data[position + 2 : position + 2 + length])
        position += 2 + length
    return ""


def _string(text: str) -> bytes:
    return text.encode() + b"\0"


def _text(content: bytes) -> str:
    return content.rstrip(b"\0").decode(errors="replace")
