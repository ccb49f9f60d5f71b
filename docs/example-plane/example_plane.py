"""A plane for blixt-backend in a package of its own: `nft` writes all rules anew at every change."""

import asyncio
from collections.abc import Mapping, Sequence

from blixt_backend.model import ChangeSet
from blixt_backend.planes.base import Plane, PlaneError
from blixt_backend.planes.capabilities import Capability as Can
from blixt_backend.planes.frontends import Destination, Frontend, frontends

VERSIONS = {"ip": 4, "ip6": 6}  # of IP, by nft's names of the families
NO_TABLE = "table {family} example\ndelete table {family} example\n"  # only what is there can be deleted
TABLE = """table {family} example {{
  map services {{ typeof {family} daddr . meta l4proto . th dport : verdict; }}
  chain refuse {{ meta l4proto tcp reject with tcp reset; reject; }}
  chain choose {{ {family} daddr . meta l4proto . th dport vmap @services; }}
  chain arriving {{ type nat hook prerouting priority -100; jump choose; }}
  chain own {{ type nat hook output priority -100; jump choose; }}
  chain leaving {{ type nat hook postrouting priority 100; ct status dnat masquerade fully-random; }}
}}
"""


class ExamplePlane(Plane):
    """An example: rules of nft, all written anew at every change"""

    capabilities = frozenset({Can.TCP, Can.UDP, Can.IPV4, Can.IPV6, Can.CLUSTER_IPS, Can.NODE_CLIENTS}) | {
        *(Can.EXTERNAL_IPS, Can.LOAD_BALANCER_IPS, Can.EXTERNAL_LOCAL, Can.INTERNAL_LOCAL, Can.REFUSES),
        *(Can.KEEPS_CONNECTIONS, Can.DRAINING, Can.TERMINATING_FALLBACK, Can.OUTLIVES_PROCESS),
        *(Can.MASQUERADE, Can.HAIRPIN),
    }

    async def start(self) -> None:
        await nft("list tables")

    async def apply(self, change: ChangeSet) -> None:
        desired = frontends(change.desired.values())
        await nft("".join(table(family, desired) for family in VERSIONS))

    async def stop(self) -> None:
        """The kernel goes on by its rules."""

    async def cleanup(self) -> None:
        await nft("".join(NO_TABLE.format(family=family) for family in VERSIONS))


def table(family: str, desired: Mapping[Frontend, Sequence[Destination]]) -> str:
    script = (NO_TABLE + TABLE).format(family=family)
    own = [(key, value) for key, value in desired.items() if key.address.version == VERSIONS[family]]
    for number, (frontend, destinations) in enumerate(own):
        protocol, chain = frontend.protocol.name.lower(), f"to-{number}" if destinations else "refuse"
        if destinations:
            slots = ", ".join(f"{slot} : {to.address} . {to.port}" for slot, to in enumerate(destinations))
            choice = f"dnat {family} to numgen random mod {len(destinations)} map {{ {slots} }}"
            script += f"table {family} example {{ chain {chain} {{ meta l4proto {protocol} {choice}; }}; }}\n"
        key = f"{frontend.address} . {protocol} . {frontend.port}"
        script += f"add element {family} example services {{ {key} : goto {chain} }}\n"
    return script


async def nft(script: str) -> None:
    """Run it as one transaction: all of it comes into force at once, or nothing."""
    pipe = asyncio.subprocess.PIPE
    try:
        run = await asyncio.create_subprocess_exec("nft", "-f", "-", stdin=pipe, stdout=pipe, stderr=pipe)
    except OSError as error:
        raise PlaneError(f"nft can't be run ({error.strerror}): install nftables") from error
    _, complaint = await run.communicate(script.encode())
    if run.returncode:
        raise PlaneError("nft refused the rules: " + complaint.decode().partition("\n")[0])
