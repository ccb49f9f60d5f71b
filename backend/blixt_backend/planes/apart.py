"""Keeps another proxy's masquerading off the source ports of the eBPF plane, while that one is drained.

Both translate clients to this node's address, and may talk to one endpoint at a time. Connection tracking
doesn't know the ports that the eBPF plane has in use: by one of them a new connection would not get through.
So a chain before the other proxy's does what that would do, by other ports. Calls block.
"""

from __future__ import annotations

import logging
from typing import Final

from blixt_backend.planes.nftables import dump
from blixt_backend.planes.nftables.family import FAMILIES
from blixt_backend.planes.nftables.libnftables import LibraryMissingError, Nftables

log = logging.getLogger(__name__)

_TABLE: Final = "blixt_apart"
#: kube-proxy's bit of a packet's mark, in each of its modes: it asks for masquerading.
_MARK: Final = 0x4000
#: None that the eBPF plane uses, unless it was told to.
PORTS: Final = "30000-65535"


def keep() -> None:
    """No error if that is so already. Raises NftError."""
    try:
        _run("".join(_rules(family.name) for family in FAMILIES))
    except LibraryMissingError as error:
        log.warning("new connections may meet ports that drained ones have: %s", error)


def end() -> None:
    """No error if nothing is kept apart. Raises NftError."""
    try:
        there = [family.name for family in FAMILIES if _TABLE in dump.tables(family)]
    except OSError:  # a kernel without nftables has no table
        return
    if there:
        _run("".join(f"delete table {name} {_TABLE}\n" for name in there))


def _rules(family: str) -> str:
    """In nft's own words. Who comes first with a masquerade has the flow."""
    return f"""\
table {family} {_TABLE} {{
}}
delete table {family} {_TABLE}
table {family} {_TABLE} {{
chain postrouting {{
	type nat hook postrouting priority 98;
	meta mark & {_MARK:#x} == 0 return
	meta l4proto {{ tcp, udp, sctp }} meta mark set meta mark ^ {_MARK:#x} masquerade to :{PORTS} fully-random
}}
}}
"""


def _run(text: str) -> None:
    nft = Nftables()
    try:
        nft.run_text(text)
    finally:
        nft.close()
