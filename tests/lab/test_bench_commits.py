"""What the benchmark beside kube-proxy sees of nftables' transactions."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from bench.nft_commits import Commits, MissedError
from blixt_lab import Host, Lab, open_lab

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with open_lab() as opened:
        yield opened


@pytest.fixture
def node(lab: Lab) -> Host:
    if "commits" not in lab.hosts:
        lab.add(Host("commits", lab.namespace("commits")))
    lab["commits"].run("nft", "flush", "ruleset")
    return lab["commits"]


@pytest.fixture
def commits(node: Host) -> Iterator[Commits]:
    listening = Commits(node)
    yield listening
    listening.close()


def nft(node: Host, *commands: str) -> None:
    node.run("nft", "-f", "-", stdin="\n".join(commands) + "\n")


TABLE = (
    "add table ip t",
    "add map ip t m { type inet_service : ipv4_addr . inet_service; }",
    "add chain ip t c",
)


def test_addresses_are_seen_whatever_brings_them(node: Host, commits: Commits) -> None:
    """An element of a map, as ours; a rule, as kube-proxy's: times of the transactions that brought them."""
    before = time.monotonic()
    nft(node, *TABLE, "add element ip t m { 80 : 10.1.2.3 . 8080 }")
    first = commits.wait(["10.1.2.3"], 10)
    between = time.monotonic()
    nft(
        node,
        "add rule ip t c ip daddr 10.9.9.9 counter",
        "add rule ip t c meta l4proto tcp dnat to 10.1.2.4:8080",
    )
    second = commits.wait(["10.1.2.4"], 10)
    assert before < first < between < second < time.monotonic()
    # All of them are there since the later one.
    assert commits.wait(["10.1.2.4", "10.1.2.3"], 10) == second


def test_what_is_not_there_or_was_forgotten_is_missed(node: Host, commits: Commits) -> None:
    nft(node, *TABLE, "add element ip t m { 80 : 10.1.2.3 . 8080 }")
    commits.wait(["10.1.2.3"], 10)
    with pytest.raises(MissedError, match="1 of 2 addresses are not there after 0 s"):
        commits.wait(["10.1.2.3", "10.1.2.5"], 0.3)
    commits.forget()
    with pytest.raises(MissedError, match="1 of 1 addresses are not there"):
        commits.wait(["10.1.2.3"], 0.3)


def test_a_transaction_that_fails_brings_nothing(node: Host, commits: Commits) -> None:
    with pytest.raises(RuntimeError):
        nft(node, *TABLE, "add element ip t m { 80 : 10.1.2.3 . 8080 }", "delete table ip nosuch")
    with pytest.raises(MissedError):
        commits.wait(["10.1.2.3"], 0.3)
