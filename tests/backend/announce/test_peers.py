"""Which nodes may have addresses, as time passes. Seconds from 0."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blixt_backend.announce.frames import Mac
from blixt_backend.announce.heartbeat import Heartbeat, State
from blixt_backend.announce.peers import MOST_PEERS, News, Peers
from blixt_backend.announce.timing import Timing
from blixt_fakes.segment import ip

MAC = Mac(bytes.fromhex("020000000002"))
OWN, LINK_LOCAL, GLOBAL = ip("203.0.113.2"), ip("fe80::2"), ip("2001:db8::2")
READY = Heartbeat("n2", bytes(8), b"boot---1", State.READY, addresses=(OWN, LINK_LOCAL, GLOBAL))
LISTENING = replace(READY, state=State.LISTENING, boot=b"boot---2")
RESTARTING = replace(READY, state=State.RESTARTING, keep_seconds=30)


class Told(Peers):
    """Peers that were told things, each at its time."""

    def __init__(self, *heard: tuple[float, Heartbeat]) -> None:
        super().__init__("n1", Timing())
        self.news = [self.hear(beat, MAC, at) for at, beat in heard]

    def at(self, now: float) -> set[str]:
        self.expire(now)
        return set(self.candidates(now))

    def asked(self, now: float) -> list[object]:
        return [address for _, address in self.to_ask(now)]


@pytest.mark.parametrize(
    ("heard", "alive_until"),
    [
        ([(0, READY)], 4),
        ([(0, READY), (3, READY)], 7),
        ([(0, replace(READY, interval_ms=500))], 2),
        ([(0, LISTENING)], 0),
        ([(0, RESTARTING)], 0),  # it never had any
        ([(0, READY), (1, RESTARTING)], 5),  # its kernel doesn't answer
        ([(0, READY), (1, replace(RESTARTING, addresses=()))], 31),  # nobody can ask its kernel
        ([(0, READY), (1, replace(RESTARTING, addresses=(), keep_seconds=9999))], 301),
        ([(0, READY), (1, LISTENING)], 5),
        ([(0, READY), (1, replace(READY, state=State.LEAVING))], 1),
    ],
)
def test_how_long_it_has_addresses(heard: list[tuple[float, Heartbeat]], alive_until: float) -> None:
    assert Told(*heard).at(alive_until) == set()
    if alive_until > 1:
        assert Told(*heard).at(alive_until - 0.01) == {"n2"}


def test_an_answer_of_its_kernel_keeps_it_for_a_while() -> None:
    peers = Told((0, READY))
    for second in range(1, 34):
        if second < 30:
            assert peers.at(second) == {"n2"}
        else:
            assert peers.at(second) == set()
        peers.note_answer(MAC, OWN if second % 2 else LINK_LOCAL, second)
    # An answer doesn't bring back who was given up.
    assert peers.known() == set()


def test_only_its_own_answer_counts() -> None:
    peers = Told((0, READY))
    peers.note_answer(Mac(bytes(6)), OWN, 3)
    peers.note_answer(MAC, ip("203.0.113.9"), 3)
    assert peers.at(4) == set()


def test_a_kernel_that_dies_in_the_meantime_ends_it() -> None:
    peers = Told((0, READY))
    peers.note_answer(MAC, OWN, 3)
    peers.note_answer(MAC, OWN, 10)  # in time or not, as long as nobody gave it up
    assert peers.at(13.9) == {"n2"}
    assert peers.at(14) == set()


def test_its_next_process_keeps_them_and_has_no_longer_for_that() -> None:
    peers = Told((0, READY), *((second, LISTENING) for second in range(3, 40)))
    assert peers.news[0] is peers.news[1] is News.FRESH
    assert set(peers.news[2:]) == {News.NOTHING}
    assert peers.candidates(29.9) == {"n2"}
    assert peers.candidates(30) == set()
    assert peers.hear(replace(LISTENING, state=State.READY), MAC, 40) is News.CHANGE
    assert peers.candidates(40) == {"n2"}


def test_kernels_are_asked_once_a_second_while_a_node_is_silent() -> None:
    peers = Told((0, READY))
    assert [now for now in (0.5, 1.9, 2.0, 2.1, 2.9, 3.0, 3.5) if peers.asked(now)] == [2.0, 3.0]
    assert Told((0, READY)).asked(2) == [OWN, LINK_LOCAL]
    assert Told((0, READY), (0.1, RESTARTING)).asked(0.1) == [OWN, LINK_LOCAL]
    assert Told((0, LISTENING)).asked(3) == []


def test_the_next_event_is_when_something_happens() -> None:
    peers = Told((0, READY))
    assert peers.next_event(0) == 2
    assert peers.asked(2)
    assert peers.next_event(2) == 3
    assert peers.asked(3)
    assert peers.next_event(3) == 4
    assert peers.at(4) == set()
    assert peers.next_event(4) == float("inf")


def test_who_is_kept_is_told_to_newcomers_and_they_believe_it() -> None:
    peers = Told((0, READY))
    assert peers.kept(1) == ()
    peers.note_answer(MAC, OWN, 3)
    assert peers.kept(3) == ("n2",)
    assert Told((0, READY), (1, LISTENING)).kept(1) == ("n2",)
    assert Told((0, READY), (1, RESTARTING)).kept(1) == ("n2",)

    teller = replace(READY, name="n3", kept=("n2", "n1"))
    newcomer = Told((0, teller))
    assert newcomer.at(0) == {"n2", "n3"}
    assert newcomer.at(4) == set()
    # Who knows better believes nothing.
    grave = Told((0, READY))
    assert grave.at(5) == set()
    grave.hear(teller, MAC, 5)
    assert grave.at(5) == {"n3"}
    # And whom somebody kept may leave.
    newcomer = Told((0, teller), (1, replace(READY, state=State.LEAVING)))
    assert newcomer.at(1) == {"n3"}


def test_settled_is_when_all_know_the_same() -> None:
    same, other = replace(READY, digest=b"same----"), replace(READY, name="n3", digest=b"other---")
    assert not Told().settled(b"same----", 0)
    assert Told((0, same)).settled(b"same----", 0)
    assert not Told((0, same), (0, other)).settled(b"same----", 0)
    assert not Told((0, replace(same, state=State.LISTENING))).settled(b"same----", 0)


def test_newcomers_have_a_hold_time() -> None:
    peers = Told((0, LISTENING), (3, LISTENING))
    assert peers.newcomers(3.9)
    assert not peers.newcomers(4)
    assert not Told((0, READY)).newcomers(0)


def test_a_pause_is_nobody_s_fault() -> None:
    peers = Told((0, READY))
    peers.excuse(100, 101)
    assert peers.at(101) == {"n2"}
    assert peers.at(103.9) == {"n2"}
    peers.hear(READY, MAC, 104)
    peers.excuse(100, 104)
    assert peers.at(108) == set(), "a heartbeat can't have come in the future"


def test_addresses_stay_a_node_s_own_when_it_is_dead() -> None:
    peers = Told((0, READY))
    assert peers.addresses == {OWN, LINK_LOCAL, GLOBAL}
    assert peers.at(9) == set()
    assert peers.addresses == {OWN, LINK_LOCAL, GLOBAL}
    peers.hear(replace(READY, addresses=(OWN,)), MAC, 10)
    assert peers.addresses >= {OWN}
    assert peers.knows(MAC)
    assert not peers.knows(Mac(bytes(6)))


def test_there_is_an_end_to_how_many_are_remembered() -> None:
    peers = Peers("n1", Timing())
    for number in range(MOST_PEERS + 5):
        peers.hear(replace(READY, name=f"x{number}"), MAC, 0)
    assert len(peers.known()) == MOST_PEERS
    peers.expire(10)
    assert peers.known() == set()
