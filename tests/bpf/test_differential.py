"""Random worlds and packets: the programs in this kernel do what the model of docs/packet-path.md does.

A world is one row of bytes, and so is every step in it (see `blixt_model.choices`). BLIXT_PACKETS=1000000 in
the environment compares more of them. A difference is reported with as few steps as lead to it.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scapy.layers.inet6 import IPv6ExtHdrFragment
from scapy.layers.l2 import Ether

from blixt_model.comparison import Comparison
from blixt_model.exploration import play
from blixt_model.family import ETHERNET_SIZE, IPV4, SCTP, TCP, UDP
from blixt_model.scapy_check import wrong_checksums
from blixt_model.steps import STEP_BYTES, Sent
from blixt_model.tables import Changes, DropReason, KeyState, KeyTried
from blixt_model.tunnels import is_tunnelled
from blixt_model.ways import Hook, Outcome, Verdict, XdpVerdict
from blixt_model.worlds import WORLD_BYTES

pytestmark = [pytest.mark.bpf, pytest.mark.timeout(0)]

FEWEST_STEPS, MOST_STEPS = 20, 100
#: Scapy takes a hundred times longer than all the rest; one in so many packets is enough.
SCAPY_ONE_IN = 12
#: From so many packets on, every way that a packet can end must have been seen.
ENOUGH_FOR_ALL = 5_000
#: Two connections that want one source port must meet in every way, too: that takes more packets.
ENOUGH_FOR_ALL_KEYS = 60_000
#: Some worlds lead there soon, some never: what is missing is looked for in so many times the packets.
MOST_TIMES_MORE = 15

worlds = st.binary(min_size=WORLD_BYTES, max_size=WORLD_BYTES)
step = st.binary(min_size=STEP_BYTES, max_size=STEP_BYTES)
steps = st.integers(FEWEST_STEPS, MOST_STEPS).flatmap(
    lambda count: st.lists(step, min_size=count, max_size=count)
)

#: An LRU map is never full. A fragment whose connection lost its endpoint is left to packets written by hand.
HARDLY_EVER = {DropReason.CONNECTIONS_FULL, DropReason.FRAGMENT}
#: 802.1Q's ethertype, and 802.1ad's.
TAGGED = (b"\x81\x00", b"\x88\xa8")
EVERY_END = {
    *((hook, verdict) for hook in Hook if hook is not Hook.UPLINK_XDP for verdict in Verdict),
    *((Hook.UPLINK_XDP, verdict) for verdict in XdpVerdict),
    *(set(DropReason) - HARDLY_EVER),
    *(("the kernel's", protocol) for protocol in (TCP, UDP)),
    *(("tagged", hook) for hook in Hook),
    *(("tunnel", what) for what in ("in", "out", "error", "connection")),
    *(("SCTP", verdict) for verdict in Verdict),
}
EVERY_KEY = {
    KeyTried(protocol, masquerading, state)
    for protocol in (TCP, UDP)
    for masquerading in (False, True)
    for state in KeyState
    # No service has a port to which is masqueraded: no client's packets have such a key.
    if not (masquerading and state is KeyState.CLIENT)
    if not (protocol == TCP and state is KeyState.UNANSWERED)
    if not (protocol == UDP and state is KeyState.EMBRYO_OVER)
}


def test_kernel_and_model_agree(
    comparison: Comparison, packets_wanted: int, compared: dict[str, int]
) -> None:
    wanted = packets_wanted // 2
    seen: Counter[object] = Counter()

    def on_outcome(sent: Sent, outcome: Outcome) -> None:
        seen.update([(sent.hook, outcome.verdict), *outcome.changes.drops, *outcome.changes.keys])
        seen.update(ends_of_tunnels(sent, outcome))
        if outcome.changes.left_to_kernel:
            seen["the kernel's", outcome.changes.left_to_kernel.protocol] += 1
        if sent.frame[ETHERNET_SIZE - 2 : ETHERNET_SIZE] in TAGGED:
            seen["tagged", sent.hook] += 1
        if outcome.changes != Changes() and is_sctp(sent.frame):
            seen["SCTP", outcome.verdict] += 1
        check_with_scapy(sent, outcome, seen)

    @settings(
        max_examples=max(wanted // MOST_STEPS, 1),
        deadline=None,
        derandomize=False,  # as hypothesis does under CI: each turn would play the same worlds
        phases=[Phase.reuse, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(worlds, steps)
    def explore(world: bytes, all_steps: list[bytes]) -> None:
        play(comparison, world, all_steps, on_outcome)

    expected = expected_of(wanted)
    most = wanted * MOST_TIMES_MORE
    while comparison.packets < wanted or (expected - seen.keys() and comparison.packets < most):
        explore()

    version = comparison.kernel.family.version
    compared[f"IPv{version} packets compared (verdict, bytes, tables)"] = comparison.packets
    compared[f"IPv{version} packets verified by scapy"] = seen["scapy"]
    assert seen.keys() >= expected, expected - seen.keys()


def ends_of_tunnels(sent: Sent, outcome: Outcome) -> list[tuple[str, str]]:
    """What has been put into one, taken out, or told of one's way; and connections by one."""
    found = []
    header = 20 if sent.frame[12:14] == b"\x08\x00" else 40
    protocol = sent.frame[23 if header == 20 else 20] if len(sent.frame) > 23 else 0
    longer = len(outcome.packet) - len(sent.frame)
    if longer == header and outcome.verdict is Verdict.REDIRECT:
        found.append(("tunnel", "in"))
    if longer == -header and outcome.verdict is Verdict.REDIRECT:
        found.append(("tunnel", "out" if protocol in (4, 41) else "error"))
    if any(entry and is_tunnelled(entry.flags) for entry in outcome.changes.connections.values()):
        found.append(("tunnel", "connection"))
    return found


def is_sctp(frame: bytes) -> bool:
    """Without options or extension headers."""
    header = frame[ETHERNET_SIZE:]
    return header[9 if header[0] >> 4 == IPV4.version else 6] == SCTP


def expected_of(packets: int) -> set[object]:
    expected = set[object]()
    if packets >= ENOUGH_FOR_ALL:
        expected |= EVERY_END
    if packets >= ENOUGH_FOR_ALL_KEYS:
        expected |= EVERY_KEY
    return expected


def check_with_scapy(sent: Sent, outcome: Outcome, seen: Counter[object]) -> None:
    """What came in with right checksums goes out with right ones."""
    if outcome.packet == sent.frame:
        return
    seen["changed"] += 1
    if seen["changed"] % SCAPY_ONE_IN or is_odd(sent.frame) or wrong_checksums(sent.frame):
        return
    assert not wrong_checksums(outcome.packet), outcome.packet.hex()
    seen["scapy"] += 1


def is_odd(frame: bytes) -> bool:
    """Longer or shorter than its network header says, which scapy and the kernel take differently.

    So do they a later fragment of IPv6: scapy sees a transport header in it.
    """
    header = frame[ETHERNET_SIZE:]
    if header[0] >> 4 == IPV4.version:
        return int.from_bytes(header[2:4], "big") != len(header)
    packet = Ether(frame)
    is_later = IPv6ExtHdrFragment in packet and packet[IPv6ExtHdrFragment].offset != 0
    return is_later or int.from_bytes(header[4:6], "big") + 40 != len(header)
