"""Annotations that mean something to us, and those that travel with an item."""

from __future__ import annotations

from collections.abc import Mapping

from blixt_api import localv1_pb2 as wire

ALGORITHM_ANNOTATION = "blixt.dev/algorithm"
ALGORITHMS = {
    "weighted-random": wire.WeightedRandom,
    "maglev": wire.Maglev,
    "least-connections": wire.LeastConnections,
}

#: kubectl's copy of the whole object: large, and of no use to a node.
_NOT_CARRIED = "kubectl.kubernetes.io/last-applied-configuration"


def algorithm(annotations: Mapping[str, str], problems: list[str]) -> wire.Algorithm:
    """The balancing algorithm asked for; an unknown one is told of, and the default taken."""
    wanted = annotations.get(ALGORITHM_ANNOTATION)
    if wanted is None:
        return wire.WeightedRandom
    if wanted not in ALGORITHMS:
        problems.append(
            f"annotation {ALGORITHM_ANNOTATION}: {wanted!r} is none of {', '.join(ALGORITHMS)}; "
            "weighted-random is used"
        )
        return wire.WeightedRandom
    return ALGORITHMS[wanted]


def carried(annotations: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in annotations.items() if key != _NOT_CARRIED}
