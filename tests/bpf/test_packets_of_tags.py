"""Tagged frames written by hand, of a flow that is known without its tags. Here a tag stands in the frame."""

from __future__ import annotations

import pytest
from scapy.layers.l2 import Dot1AD, Dot1Q
from scapy.packet import Packet

from blixt_model.family import TCP, UDP
from blixt_model.scene import (
    POD,
    REMOTE,
    Scene,
    assert_next_untouched,
    datagram,
    establish,
    syn,
    unchanged_macs,
)
from blixt_model.ways import Hook, XdpVerdict

pytestmark = pytest.mark.bpf

TAGS = {
    "802.1Q": Dot1Q(vlan=100),
    "802.1ad": Dot1AD(vlan=100),
    "two": Dot1AD(vlan=7) / Dot1Q(vlan=100),
    "priority": Dot1Q(vlan=0, prio=5),
}
CASES = [pytest.param(tags, id=name) for name, tags in TAGS.items()]


@pytest.mark.parametrize("tags", CASES)
@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("hook", [Hook.UPLINK_INGRESS, Hook.POD_INGRESS, Hook.NODE_EGRESS])
def test_a_known_flows_packet_with_a_tag_goes_on(
    scene: Scene, hook: Hook, protocol: int, tags: Packet
) -> None:
    establish(scene, POD, protocol)
    packet = tags / (datagram(scene, POD) if protocol == UDP else syn(scene, POD, flags="A"))
    assert_next_untouched(scene.send(packet, hook), packet)


@pytest.mark.parametrize("tags", CASES)
def test_xdp_leaves_what_has_a_tag(scene: Scene, tags: Packet) -> None:
    establish(scene, REMOTE, UDP)
    packet = datagram(scene, REMOTE)
    outcome = scene.send(tags / packet, Hook.UPLINK_XDP)
    assert (outcome.verdict, outcome.packet) == (XdpVerdict.PASS, unchanged_macs(tags / packet))
    assert scene.send(packet, Hook.UPLINK_XDP).verdict != XdpVerdict.PASS
