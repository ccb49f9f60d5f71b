"""Random steps: packets that belong to what happened before, and what happens to the tables between them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from blixt_model.checksum import checksum
from blixt_model.choices import Choices
from blixt_model.family import ETHERNET_SIZE, IPV4, SCTP, TCP, UDP, Family
from blixt_model.frames import LEFT_TO_DEVICE, RIGHT, WRONG, ZERO, Shape, frame, network_packet, tagged
from blixt_model.incidents import Incident, make_incident
from blixt_model.kernel import MOST_BYTES
from blixt_model.network import LINKS, mac
from blixt_model.parse import FRAGMENT_HEADER
from blixt_model.senders import kernel_s_flow, new_flow, rival_flow
from blixt_model.tables import Connection, ConnectionFlag, Flow, Tables, partner_of
from blixt_model.tunnelled import answer_s_flow, encapsulated, error_of_tunnel
from blixt_model.ways import Hook
from blixt_model.worlds import World

STEP_BYTES = 40

SYN, ACK, PSH_ACK, FIN_ACK, RST = 0x02, 0x10, 0x18, 0x11, 0x04
_BYTES_SHOWN = 120
_FLAGS_OF_NEW = (*[SYN] * 12, ACK, PSH_ACK, FIN_ACK, RST, RST | ACK, SYN | ACK, 0x01, 0x03, 0, 0xC2, 0x06)
_FLAGS_OF_KNOWN = (*[ACK, PSH_ACK] * 6, FIN_ACK, FIN_ACK, SYN, SYN, RST, RST | ACK, SYN | ACK, 0x01, 0)
_LENGTHS = (*[0] * 8, 1, 7, 8, 26, 100)
_NETWORK_LENGTHS = (600, 601, 1280, 1281, 1400, 1401, 1500, 1501, 2900)
_SEGMENTS = (1460, 1360, 1361, 1240, 1220, 560, 561, 532)


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame at a hook."""

    hook: Hook
    device: str
    frame: bytes
    came_in_by: str = ""
    gso_size: int = 0

    def __str__(self) -> str:
        shown = self.frame[:_BYTES_SHOWN].hex() + "..." * (len(self.frame) > _BYTES_SHOWN)
        segments = f", segments of {self.gso_size}" if self.gso_size else ""
        came = f", came in by {self.came_in_by}" if self.came_in_by else ""
        return f"{self.hook.value} of {self.device}{came}{segments}, {len(self.frame)} bytes: {shown}"


Step = Sent | Incident


def make_step(data: bytes, world: World, tables: Tables) -> Step:
    choices = Choices(data)
    step = _make(choices, world, tables)
    if isinstance(step, Sent) and step.hook is Hook.UPLINK_INGRESS and choices.below(8) == 7:
        return replace(step, frame=encapsulated(choices, step.frame, world, tables))
    return step


def _make(choices: Choices, world: World, tables: Tables) -> Step:
    kind = choices.below(32)
    if kind in (13, 14, 15, 16, 17) and tables.embryos:
        return _next_of_embryo(choices, world, tables)
    known = list(tables.known().items())
    if kind >= 29:
        return make_incident(choices, tables)
    if kind == 28:
        if known and choices.below(2):
            return _direct(choices, world.family, known)
        return _at_hook(choices, _stray(choices, world))
    if kind >= 25 and known:
        if kind == 25 and (raw := error_of_tunnel(choices, world, tables)):
            return _at_hook(choices, raw, (Hook.UPLINK_INGRESS,) * 5 + (Hook.POD_INGRESS,))
        key, entry = known[choices.below(256) % len(known)]
        becomes = answer_s_flow(choices, key, entry.becomes, entry)
        return _at_hook(choices, _error(choices, world, key, becomes))
    if kind == 24 and tables.fragments:
        return _at_hook(choices, _later_fragment(choices, world.family, tables))
    if kind >= 13 and known:
        key, entry = known[choices.below(256) % len(known)]
        preferred = _HOOKS_OF_REPLIES if entry.is_reply else _HOOKS_OF_CLIENTS
        return _at_hook(choices, _packet(choices, world.family, key, _FLAGS_OF_KNOWN), preferred)
    if kind in (5, 12) and tables.kernel_flows:
        flow = kernel_s_flow(choices, world, tables)
        return _at_hook(choices, _packet(choices, world.family, flow, _FLAGS_OF_NEW), _HOOKS_OF_NEW)
    flow = rival_flow(choices, world, tables) if kind >= 6 and known else new_flow(choices, world)
    return _at_hook(choices, _packet(choices, world.family, flow, _FLAGS_OF_NEW), _HOOKS_OF_NEW)


def _next_of_embryo(choices: Choices, world: World, tables: Tables) -> Sent:
    """What makes a connection of it: an answer, and after that a packet of the client."""
    key, embryo = choices.one_of(list(tables.embryos.items())[-4:])
    flags = _FLAGS_OF_KNOWN if choices.rarely(8) else (SYN | ACK, ACK, PSH_ACK)
    if embryo.flags & ConnectionFlag.ANSWERED:
        client = _packet(choices, world.family, embryo.flow, flags[1:])
        return _at_hook(choices, client, _HOOKS_OF_CLIENTS)
    return _at_hook(choices, _packet(choices, world.family, key, flags), _HOOKS_OF_REPLIES)


def _direct(choices: Choices, family: Family, known: list[tuple[Flow, Connection]]) -> Sent:
    """A packet the other way round than one that is known: of a client to an endpoint itself."""
    key, _ = known[choices.below(256) % len(known)]
    return _at_hook(choices, _packet(choices, family, partner_of(key), _FLAGS_OF_NEW), _HOOKS_OF_NEW)


_HOOKS_OF_NEW = (Hook.UPLINK_INGRESS,) * 4 + (Hook.POD_INGRESS,) * 2 + (Hook.NODE_EGRESS, Hook.UPLINK_XDP)
_HOOKS_OF_CLIENTS = (Hook.UPLINK_INGRESS,) * 4 + (Hook.UPLINK_XDP,) * 3 + (Hook.POD_INGRESS, Hook.NODE_EGRESS)
_HOOKS_OF_REPLIES = (Hook.POD_INGRESS,) * 3 + (Hook.UPLINK_INGRESS,) * 3 + (Hook.UPLINK_XDP, Hook.NODE_EGRESS)
_DEVICES = {
    Hook.UPLINK_INGRESS: ("uplink0", "uplink0", "uplink1"),
    Hook.UPLINK_XDP: ("uplink0", "uplink0", "uplink1"),
    Hook.POD_INGRESS: ("pod0", "pod1"),
    Hook.NODE_EGRESS: ("uplink0", "uplink1", "pod0"),
}
_MACS = {link.name: mac(link.mac) for link in LINKS}
#: A priority only, 802.1Q, 802.1ad, and one inside the other.
_TAGS = (((0x8100, 0xA000),), ((0x8100, 100),), ((0x88A8, 7),), ((0x88A8, 7), (0x8100, 0x2064)))
#: A test run refuses TC programs a frame without a whole network header, by its ethertype.
_LEAST = {b"\x08\x00": 34, b"\x86\xdd": 54}


def _at_hook(choices: Choices, raw: bytes, hooks: tuple[Hook, ...] = tuple(Hook)) -> Sent:
    hook = choices.one_of(hooks) if len(raw) >= _LEAST.get(raw[12:14], 0) else Hook.UPLINK_XDP
    device = choices.one_of(_DEVICES[hook])
    if not choices.rarely(24):  # else it is another host's, and a switch has flooded it
        raw = _MACS[device] + raw[6:]
    if choices.rarely(32):
        raw = tagged(raw, *choices.one_of(_TAGS))
    if hook is Hook.UPLINK_XDP:
        return Sent(hook, device, raw)
    came_in_by = choices.one_of(("", "stranger", "uplink0")) if hook is Hook.NODE_EGRESS else device
    gso_size = choices.one_of(_SEGMENTS) if len(raw) > 600 and choices.rarely(3) else 0
    return Sent(hook, device, raw, came_in_by, gso_size)


def _later_fragment(choices: Choices, family: Family, tables: Tables) -> bytes:
    """Mostly of a datagram whose first fragment was here."""
    remembered = list(tables.fragments.items())
    datagram, first = remembered[choices.below(256) % len(remembered)]
    protocol = UDP if choices.rarely(12) else first.protocol
    identification = b"\x42\x43" * 2 if choices.rarely(12) else datagram.identification
    shape = Shape(
        family,
        Flow(datagram.source, datagram.destination, 1, 2, protocol),
        payload=_payload(choices.one_of((0, 100, 1372, 1373, 1280, 560, 1492))),
        ttl=choices.one_of((64, 64, 64, 64, 1, 2, 0)),
        fragment=(choices.one_of((185, 1, 0x1FFF, 3)), bool(choices.below(2))),
        identification=identification,
        dont_fragment=choices.rarely(3),
    )
    if family is IPV4:
        return frame(replace(shape, options=b"\x94\x04\x00\x00" * choices.one_of((0, 0, 0, 1))))
    before = ((0, 0),) if choices.rarely(6) else ()
    after = ((60, 1),) if choices.rarely(6) else ()
    return frame(_short_enough(replace(shape, extensions=(*before, (FRAGMENT_HEADER, 0), *after))))


def _packet(choices: Choices, family: Family, flow: Flow, flags: tuple[int, ...]) -> bytes:
    shape = Shape(
        family,
        flow,
        identification=choices.one_of((b"BBBB", b"CCCC", b"BBBB")),
        payload=_payload(choices.one_of(_LENGTHS)),
        tcp_flags=choices.one_of(flags),
        dont_fragment=choices.below(3) == 0,
    )
    if flow.protocol == SCTP:
        shape = replace(shape, chunk=_chunk_like(shape.tcp_flags))
    if choices.rarely(6):
        spare = choices.one_of(_NETWORK_LENGTHS) - len(network_packet(replace(shape, payload=b"")))
        shape = replace(shape, payload=_payload(spare))
    return _quirky(choices, shape)


def _chunk_like(flags: int) -> int:
    """SCTP's for a TCP segment: INIT, INIT ACK, ABORT, SHUTDOWN ACK, SHUTDOWN COMPLETE, COOKIE ECHO, DATA."""
    if flags & RST:
        return 6
    if flags & SYN:
        return 2 if flags & ACK else 1
    if flags & FIN_ACK == FIN_ACK:
        return 8
    return {FIN_ACK & ~ACK: 14, PSH_ACK: 0}.get(flags, 10)


def _quirky(choices: Choices, shape: Shape) -> bytes:
    """Mostly as it is; else with something that not every packet has."""
    kind = choices.below(40)
    if kind == 20:
        return frame(replace(shape, ttl=choices.one_of((1, 0, 2, 255, 3))))
    if kind in (21, 22):
        return frame(replace(shape, checksum=choices.one_of((ZERO, WRONG, LEFT_TO_DEVICE))))
    if kind == 23:
        return frame(replace(shape, padding=1 + choices.below(40)))
    if kind == 24:
        return frame(replace(shape, tos=choices.below(256), sequence=0xFFFFFFFF - choices.below(3)))
    if kind == 25:
        raw = frame(shape)
        return raw[: ETHERNET_SIZE + choices.below(min(len(raw) - ETHERNET_SIZE, 110))]
    if kind in (26, 27):
        return frame(replace(shape, tcp_options=b"\x02\x04\x05\xb4" * choices.below(11)))
    if kind == 28:
        return _first_byte_changed(choices, frame(shape))
    if kind == 29:
        return _with_length(choices, shape)
    if kind >= 30:
        return frame(_with_headers(choices, shape))
    return frame(shape)


def _with_headers(choices: Choices, shape: Shape) -> Shape:
    """Options, extension headers, fragments."""
    kind = choices.below(3)
    if shape.family is IPV4:
        if kind:
            fragment = choices.one_of(((0, True), (0, True), (3, True), (185, False), (0x1000, False)))
            shape = replace(shape, fragment=fragment, dont_fragment=choices.rarely(4))
        if kind != 1:
            shape = replace(shape, options=b"\x94\x04\x00\x00" * (1 + choices.below(10)))
        return shape
    headers = [choices.one_of((60, 0, 43)) for _ in range(choices.one_of((1, 2, 5, 6, 7, 3)))]
    chain = [(header, choices.one_of((0, 0, 0, 1, 4, 25))) for header in headers]
    if kind == 1:
        chain = []
    if kind:
        at = choices.one_of((len(chain), len(chain), 0, 0))
        chain.insert(at, (FRAGMENT_HEADER, 0))
        shape = replace(shape, fragment=choices.one_of(((0, True), (0, False), (3, True), (185, False))))
    return _short_enough(replace(shape, extensions=tuple(chain)))


def _short_enough(shape: Shape) -> Shape:
    spare = MOST_BYTES - ETHERNET_SIZE - len(network_packet(shape))
    return shape if spare >= 0 else replace(shape, payload=shape.payload[:spare])


def _first_byte_changed(choices: Choices, raw: bytes) -> bytes:
    first = choices.one_of((0x44, 0x65, 0x55, 0x40, 0x00, 0x60, 0x75))
    return raw[:ETHERNET_SIZE] + bytes([first]) + raw[ETHERNET_SIZE + 1 :]


def _with_length(choices: Choices, shape: Shape) -> bytes:
    """A network header that lies about the length, its checksum right."""
    raw = bytearray(frame(shape))
    at = ETHERNET_SIZE + (2 if shape.family is IPV4 else 4)
    raw[at : at + 2] = choices.one_of((0, 10, 39, 41, 0xFFFF)).to_bytes(2, "big")
    if shape.family is IPV4:
        raw[24:26] = bytes(2)
        raw[24:26] = checksum(bytes(raw[14:34])).to_bytes(2, "big")
    return bytes(raw)


def _error(choices: Choices, world: World, key: Flow, becomes: Flow) -> bytes:
    """An ICMP error about a packet that left as `becomes`, from its receiver or a router on the way."""
    family = world.family
    quoted = Shape(
        family,
        becomes,
        payload=_payload(choices.one_of((0, 0, 8, 33, 500))),
        tcp_flags=choices.one_of((SYN, ACK)),
        ttl=choices.one_of((1, 0, 63)),
    )
    quoted = _quoted_quirk(choices, quoted, key)
    payload = network_packet(quoted)
    header = family.header_size
    if choices.rarely(12):
        other = (0x55, 0x44, 0x46) if family is IPV4 else (0x40, 0x70)
        payload = bytes([choices.one_of(other)]) + payload[1:]
    cut = choices.one_of((8, 8, 20, 18, 17, 9, 13, 1000, 28, 7, 0))
    payload = payload[: header + cut]
    router = world.network.place(family, "remote").address(7)
    source = choices.one_of((becomes.destination, becomes.destination, router))
    destination = router if choices.rarely(12) else quoted.flow.source
    kinds = (
        ((3, 3), (3, 4), (11, 0), (12, 0), (8, 0))
        if family is IPV4
        else ((1, 4), (2, 0), (3, 0), (4, 1), (128, 0))
    )
    shape = Shape(
        family, Flow(source, destination, 0, 0, family.icmp), payload=payload, icmp=choices.one_of(kinds)
    )
    return _quirky(choices, shape)


def _quoted_quirk(choices: Choices, quoted: Shape, key: Flow) -> Shape:
    kind = choices.below(16)
    family = quoted.family
    if kind == 8:
        return replace(quoted, checksum=ZERO)
    if kind == 9:
        return replace(quoted, checksum=WRONG)
    if kind == 10:
        return replace(quoted, flow=key)
    if kind == 11 and family is IPV4:
        return replace(quoted, options=b"\x94\x04\x00\x00")
    if kind == 11:
        return replace(quoted, extensions=((choices.one_of((60, FRAGMENT_HEADER)), 0),))
    if kind == 12 and family is IPV4:
        return replace(quoted, fragment=choices.one_of(((0, True), (20, False))))
    if kind == 13:
        return replace(quoted, flow=replace(quoted.flow, protocol=choices.one_of((UDP, TCP, SCTP))))
    return replace(quoted, checksum=RIGHT)


def _stray(choices: Choices, world: World) -> bytes:
    """Nothing of ours, or hardly."""
    family = world.family
    frontend = choices.one_of(world.frontends)
    flow = Flow(choices.one_of(world.clients), frontend.address, 33000, frontend.port, frontend.protocol)
    kind = choices.below(6)
    if kind == 0:
        return frame(Shape(family, replace(flow, protocol=choices.one_of((132, 50, 1, 58, 41, 59)))))
    if kind == 1:
        return frame(Shape(family, flow, icmp=(8 if family is IPV4 else 128, 0), payload=_payload(40)))
    if kind == 2:
        raw = frame(Shape(family, flow))
        return raw[:12] + choices.one_of((b"\x08\x06", b"\x81\x00", b"\x86\xdd", b"\x08\x00")) + raw[14:]
    if kind == 3:
        return frame(Shape(family, replace(flow, destination_port=9)))
    if kind == 4:
        raw = frame(Shape(family, flow))
        return raw[: 14 + choices.below(50)]
    return frame(
        Shape(family, flow, icmp=(3 if family is IPV4 else 1, 0), payload=_payload(choices.below(60)))
    )


def _payload(length: int) -> bytes:
    return (b"blixt-" * (length // 6 + 1))[: max(length, 0)]
