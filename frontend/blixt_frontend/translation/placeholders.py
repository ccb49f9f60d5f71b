"""Cluster IPs for Services that are really Gateways' listeners, which have none.

KPNG's backends pass over a Service without a cluster IP of a family. Nobody sends to these addresses;
Blixt's own backends don't look at them.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final

import xxhash

from blixt_frontend.translation.addresses import Addresses

#: 240.0.0.0/4, reserved since RFC 1112, and 100::/64, whose packets routers discard (RFC 6666).
_RESERVED4: Final = int(IPv4Address("240.0.0.0"))
_DISCARDED6: Final = int(IPv6Address("100::"))


def placeholders(path: str, of: Addresses) -> Addresses:
    """One for each family that the listener has addresses of, by the item's path: the same on every frontend.

    Two listeners' may be equal, once in 2^28 pairs, which makes rules that are never reached.
    """
    digest = xxhash.xxh64_intdigest(path.encode())
    v4, v6 = IPv4Address(_RESERVED4 + digest % 2**28), IPv6Address(_DISCARDED6 + digest)
    return Addresses((str(v4),) if of.v4 else (), (str(v6),) if of.v6 else ())
