"""How many entries the maps have."""

from __future__ import annotations

from dataclasses import dataclass

from blixt_backend.planes.ebpf.layout import MAGLEV_PART


@dataclass(frozen=True, slots=True)
class Sizes:
    """Entries of the maps, for each family."""

    services: int = 65536
    endpoints: int = 262144
    connections: int = 524288
    embryos: int = 65536
    maglev_slots: int = 1 << 20

    @property
    def closings(self) -> int:
        """Closed connections that are kept for a while, each with two entries: up to half of the table.

        They are kept for three ticks: by default, more than 40,000 a second may close before one is lost
        sight of, and left to the LRU.
        """
        return max(self.connections // 4, 1)

    def by_map(self) -> dict[str, int]:
        return {
            "services": self.services,
            "counters": self.services,
            "source_ranges": self.services,
            "vacancies": 2 * self.services,
            "slots": 2 * self.endpoints,
            "maglev": -(-self.maglev_slots // MAGLEV_PART),
            "endpoints": self.endpoints + 1,  # index 0 is taken
            "loads": self.endpoints + 1,
            "arrivals": 2 * self.endpoints,  # those of a port with two ids are there twice
            "recounted": self.endpoints + 1,
            "connections": self.connections,
            "embryos": self.embryos,
            "hints": self.embryos,
            "closings": self.closings,
            "affinities": max(self.connections // 8, 1),
            "fragments": max(self.connections // 32, 1),
            "sockets": max(self.connections // 4, 1),
        }


#: Which option sizes a map whose size may differ from what is pinned.
OPTION_OF = {
    "services": "--max-services",
    "counters": "--max-services",
    "source_ranges": "--max-services",
    "vacancies": "--max-services",
    "slots": "--max-endpoints",
    "maglev": "--max-maglev-slots",
    "endpoints": "--max-endpoints",
    "loads": "--max-endpoints",
    "arrivals": "--max-endpoints",
    "connections": "--max-connections",
    "embryos": "--max-embryos",
    "affinities": "--max-connections",
    "fragments": "--max-connections",
    "sockets": "--max-connections",
}
