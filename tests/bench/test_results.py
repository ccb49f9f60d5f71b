"""What is made of a benchmark's samples: ratios, verdicts, rows, tables, plots."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import goals, loads, plots, report
from bench.__main__ import Options, is_whole, parts
from bench.candidates import NFTABLES, PLAIN, TC, Way
from bench.goals import MANY
from bench.rounds import Key, Samples

_PLAIN, _ONE = Key(Way.IN, PLAIN, 0), Key(Way.IN, TC, 1)
_MANY, _PROXY = Key(Way.IN, TC, MANY), Key(Way.IN, NFTABLES, MANY)
_LOAD = loads.CONNECTIONS


def samples(delivered: float = 1.0) -> Samples:
    """Three rounds, on a machine that was twice as fast in the last one."""
    found = Samples()
    by_key = {_PLAIN: (100, 100, 200), _ONE: (110, 112, 220), _MANY: (110, 109, 218), _PROXY: (80, 82, 160)}
    for key, values in by_key.items():
        for value in values:
            found.add(key, _LOAD, value, delivered if key == _MANY else 1.0)
    return found


def test_a_ratio_is_the_median_of_the_rounds_own() -> None:
    assert samples().ratio(_LOAD, _MANY, _PLAIN) == pytest.approx(1.09)


def test_who_loses_packets_has_no_ratio() -> None:
    found = samples(delivered=0.98)
    assert found.ratio(_LOAD, _MANY, _PLAIN) is None
    rows = {(row.candidate, row.services): row for row in found.rows()}
    assert rows[TC, MANY].ratio_to_plain is None
    assert rows[TC, MANY].delivered == 0.98
    assert rows[TC, 1].ratio_to_plain == pytest.approx(1.1)
    assert "98% arrived" in report.ways_table(rows.values())


def test_verdicts() -> None:
    limits = [
        report.summarise("blixt", MANY, "TC, new flow", "ns", [700, 900, 800]),
        report.summarise("blixt", MANY, "TC, known flow, 1,024 flows", "ns", [141]),
    ]
    by_what = {one.what: one.met for one in goals.verdicts(samples(), limits)}
    name = _LOAD.name
    assert by_what[f"{name}: of plain routing"] is True
    assert by_what[f"{name}: of kube-proxy nftables, 10,000 services"] is True
    assert by_what[f"{name}: of itself at 1 service"] is True
    assert by_what["TC, new flow"] is True
    assert by_what["TC, known flow, 1,024 flows"] is False
    assert by_what[f"{loads.BULK.name}: of plain routing"] is None


def options(**changed: object) -> Options:
    default = {"rounds": 5, "seconds": 0.5, "warm_up": 0.2, "services": (1, 1000, MANY), "only": ()}
    rest = {"candidates": (), "family": 4, "flood": 1000, "quick": False}
    return Options(**{**default, **rest, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "listed", "whole"),
    [
        ({}, ["loads", "programs", "apply", "flood"], True),
        ({"quick": True}, ["loads", "programs", "apply"], False),
        ({"only": ("crr", "stream")}, ["loads"], False),
        ({"only": ("flood", "crr"), "quick": True}, ["loads", "flood"], False),
        ({"candidates": (TC,)}, ["loads", "programs", "apply", "flood"], False),
        ({"services": (1, 1000)}, ["loads", "programs", "apply", "flood"], False),
    ],
)
def test_what_is_run(changed: dict[str, object], listed: list[str], whole: bool) -> None:
    assert parts(options(**changed)) == listed
    assert is_whole(options(**changed)) is whole


def test_plots_and_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        *samples().rows(),
        report.summarise("blixt", MANY, "TC, new flow", "ns", [700, 900, 800]),
        report.summarise("blixt", MANY, "100 changed: Sync to map", "ms", [7, 9, 8]),
    ]
    how = {"rounds": 3, "seconds": 0.5, "family": 4, "kube_proxy": {NFTABLES: "the real kube-proxy v1"}}
    report.write(rows, goals.verdicts(samples(), rows), how)
    folder = tmp_path / "drawn"
    folder.mkdir()
    page = plots.draw(folder).read_text()
    drawn = {path.name: path.read_bytes() for path in folder.glob("*.svg")}
    assert drawn.keys() == {f"{name}.svg" for name in plots.PLOTS}
    assert all(f"({name})" in page for name in drawn)
    assert "the real kube-proxy v1" in page
    assert "TC, new flow" in page
    plots.draw(folder)
    assert {path.name: path.read_bytes() for path in folder.glob("*.svg")} == drawn
