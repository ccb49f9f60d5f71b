"""The addresses that one node answers for on one segment. No I/O but the wire that it is given."""

from __future__ import annotations

from typing import Protocol

from blixt_backend.announce import frames, ndp
from blixt_backend.announce.frames import Arp, Mac, Operation
from blixt_backend.announce.interface import Interface
from blixt_backend.announce.ndp import Solicitation
from blixt_backend.announce.report import Report
from blixt_backend.announce.schedule import Schedule, Step
from blixt_backend.announce.timing import Timing
from blixt_backend.model import PackedAddress


class Wire(Protocol):
    """What is said on a segment goes here."""

    def send(self, frame: bytes) -> None:
        """Put a frame on the segment. What can't be sent is lost, as frames are."""

    def join(self, group: PackedAddress) -> None:
        """Hear an IPv6 multicast group from now on, and tell switches so. Each is joined and left once."""

    def leave(self, group: PackedAddress) -> None:
        """Hear it no more."""


class Holdings:
    """Addresses, each asked about first, then ours until it is given up."""

    def __init__(self, wire: Wire, interface: Interface, timing: Timing, report: Report) -> None:
        self.interface = interface
        self._wire = wire
        self._timing = timing
        self._report = report
        self._schedule = Schedule(timing)
        #: Whether it is ours already.
        self._held: dict[PackedAddress, bool] = {}
        #: How many addresses are heard of by each group.
        self._groups: dict[PackedAddress, int] = {}

    @property
    def held(self) -> list[PackedAddress]:
        """Those that are answered for."""
        return [address for address, ours in self._held.items() if ours]

    def __contains__(self, address: PackedAddress) -> bool:
        return address in self._held

    def take(self, address: PackedAddress, now: float) -> None:
        """Make it ours, if nobody says that it is theirs."""
        if address not in self._held:
            self._held[address] = False
            self._schedule.begin(address, now)
            self._listen(address)

    def give_up(self, address: PackedAddress, why: str) -> None:
        ours = self._held.pop(address, None)
        if ours is None:
            return
        self._schedule.cancel(address)
        self._listen(address, no_more=True)
        if ours:
            self._report.released(address, why)

    def announce_again(self, now: float) -> None:
        """Others may have heard otherwise, or our MAC is another one."""
        for address in self.held:
            self._schedule.announce(address, now)

    def answer_arp(self, request: Arp) -> None:
        """Answer a request or a probe; who only tells what it has needs no answer."""
        asked = request.operation is Operation.REQUEST and request.sender != request.target
        if asked and self._held.get(request.target):
            self._wire.send(frames.arp_answer(request, self.interface.mac))

    def answer_solicitation(self, asked: Solicitation) -> None:
        if self._held.get(asked.target):
            self._wire.send(ndp.neighbour_answer(asked, self.interface.mac, self.interface.link_local))

    def contest(self, address: PackedAddress, mac: Mac, now: float) -> None:
        """Somebody who is no node of ours says that an address is theirs.

        What we have we keep, since a move would break its connections; what we have not we leave to them.
        """
        ours = self._held[address]
        self._report.conflict(address, mac, ours)
        if not ours:
            self._schedule.begin(address, now + self._timing.conflict)

    def speak(self, now: float) -> None:
        """Say what is due."""
        for step, address in self._schedule.due(now):
            if step is Step.PROBE:
                self._probe(address)
                continue
            if step is Step.CLAIM:
                self._held[address] = True
                self._report.claimed(address)
            self._announce(address)

    def next_event(self) -> float:
        return self._schedule.next_event()

    def _probe(self, address: PackedAddress) -> None:
        probe = frames.arp_probe if len(address) == 4 else ndp.neighbour_probe
        self._wire.send(probe(address, self.interface.mac))

    def _announce(self, address: PackedAddress) -> None:
        mac = self.interface.mac
        if len(address) == 4:
            for frame in frames.arp_announcements(address, mac):
                self._wire.send(frame)
        else:
            self._wire.send(ndp.neighbour_announcement(address, mac, self.interface.link_local))

    def _listen(self, address: PackedAddress, no_more: bool = False) -> None:
        """Solicitations for an address come by a group that it may share with others."""
        if len(address) == 4:
            return
        group = ndp.solicited_node(address)
        before = self._groups.get(group, 0)
        if no_more:
            self._groups[group] = before - 1
            if before == 1:
                del self._groups[group]
                self._wire.leave(group)
        else:
            self._groups[group] = before + 1
            if not before:
                self._wire.join(group)
