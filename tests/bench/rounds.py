"""Rounds of measurements, all candidates in turn in each, and what the rounds say together.

What else the machine does hits all candidates of a round alike, so a ratio is the median of the rounds' own
ratios.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from bench.candidates import PLAIN, Subject, Way
from bench.loads import Generator, Load, Metric
from bench.report import Row, summarise

#: Below it, a row is no result: what was lost was not measured.
LEAST_DELIVERED = 0.99


class Key(NamedTuple):
    way: Way
    candidate: str
    services: int


@dataclass(slots=True)
class Samples:
    """Values by subject and metric, one a round, and the smallest share of each that arrived."""

    values: defaultdict[tuple[Key, Metric], list[float]] = field(default_factory=lambda: defaultdict(list))
    delivered: dict[tuple[Key, Metric], float] = field(default_factory=dict)

    def add(self, key: Key, metric: Metric, value: float, delivered: float) -> None:
        self.values[key, metric].append(value)
        self.delivered[key, metric] = min(delivered, self.delivered.get((key, metric), 1.0))

    def ratio(self, metric: Metric, of: Key, to: Key) -> float | None:
        """The median of the rounds' ratios; None where either wasn't measured, or lost too much."""
        pairs = [self.values.get((key, metric), []) for key in (of, to)]
        if not all(pairs) or any(self.delivered[key, metric] < LEAST_DELIVERED for key in (of, to)):
            return None
        ours, theirs = pairs
        return median([one / base for one, base in zip(ours, theirs, strict=True)])

    def rows(self) -> Iterator[Row]:
        for (key, metric), values in self.values.items():
            if not values:
                continue
            plain = next(
                (other for other, _ in self.values if other.way is key.way and other.candidate == PLAIN), None
            )
            yield summarise(
                key.candidate,
                key.services,
                metric.name,
                metric.unit,
                values,
                ratio_to_plain=self.ratio(metric, key, plain) if plain else None,
                way=key.way.value,
                delivered=self.delivered[key, metric],
            )


def measure(
    generator: Generator,
    subjects: Sequence[Subject],
    loads: Sequence[Load],
    rounds: int,
    seconds: float,
    warm_up: float,
    say: Callable[[str], None],
) -> Samples:
    """So many rounds, after one that isn't counted, with `warm_up` for `seconds` (0: without it).

    Raises LoadError when nothing arrives somewhere.
    """
    samples = Samples()
    for subject in subjects:  # rows come in this order
        samples.values.update({(_key(subject), metric): [] for load in loads for metric in load.metrics})
    began = time.monotonic()
    for number in range(0 if warm_up else 1, rounds + 1):
        turn = number % len(subjects)
        for load in loads:
            for subject in (*subjects[turn:], *subjects[:turn]):
                if load in subject.left_out:
                    continue
                subject.forget()
                sample = generator.measure(load, subject.pair, seconds if number else warm_up)
                if number:
                    for metric, value in sample.values.items():
                        samples.add(_key(subject), metric, value, sample.delivered)
        passed = time.monotonic() - began
        say(f"round {number} of {rounds} after {passed:.0f} s" if number else f"warmed up in {passed:.0f} s")
    return samples


def _key(subject: Subject) -> Key:
    return Key(subject.way, subject.candidate, subject.services)
