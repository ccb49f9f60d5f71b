"""The differential test finds a broken rule: each of these changes to the C source must show as a Mismatch.

A change whose text is no longer in the source fails, too: adapt it. What no test run can show is the device
that a packet is redirected to: the lab's tests see that. What so few random packets hardly ever reach (a
client has another endpoint by now, and the old one is idle; a client's entry is where an endpoint's would be;
a connection lost its port to another; connections that close give up their entries) is among the packets
written by hand.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from blixt_model.comparison import Comparison, Mismatch
from blixt_model.exploration import hunt
from blixt_model.family import IPV4, IPV6, Family
from blixt_model.kernel import Kernel
from blixt_model.network import Network, inside
from blixt_model.ways import Settings

pytestmark = [pytest.mark.bpf, pytest.mark.timeout(300)]

SOURCES = Path(__file__).parents[2] / "bpf"
MOST_PACKETS = 150_000
CONTROL_PACKETS = 1_500


@dataclass(frozen=True, slots=True)
class Mutation:
    """`old` stands exactly once in `file`."""

    name: str
    file: str
    old: str
    new: str
    family: Family = IPV4


MUTATIONS = (
    Mutation("fewer-fragments", "packet.h", "IPV4_FRAGMENT_OFFSET 0x1fff", "IPV4_FRAGMENT_OFFSET 0x0fff"),
    Mutation("one-extension-less", "packet.h", "MAX_EXTENSION_HEADERS 6", "MAX_EXTENSION_HEADERS 5", IPV6),
    Mutation("farther-transport", "packet.h", "NETWORK_OFFSET + 240", "NETWORK_OFFSET + 248", IPV6),
    Mutation("another-host's-frames", "blixt.bpf.c", "skb->pkt_type == PACKET_OTHERHOST", "false"),
    Mutation(
        "atomic-is-first", "packet.h", "(header->fragment_offset & bpf_htons(IPV6_MORE_FRAGMENTS))", "1", IPV6
    ),
    Mutation("any-datagram", "fragment.h", "key->id = packet->datagram;", "key->id = 0;"),
    Mutation("datagram-of-a-protocol", "fragment.h", "ADDRESS_WORDS == 1 ?", "1 ?", IPV6),
    Mutation("datagram-of-any-protocol", "fragment.h", "ADDRESS_WORDS == 1 ?", "0 ?"),
    Mutation("datagram-longer", "fragment.h", "FRAGMENT_TICKS 30", "FRAGMENT_TICKS 31"),
    Mutation("datagram-kept", "fragment.h", "&key, &flow, BPF_ANY", "&key, &flow, BPF_NOEXIST"),
    Mutation(
        "datagram-of-a-known-flow", "balance.h", "(entry || find_service(&packet->flow) ||", "(entry ||"
    ),
    Mutation(
        "later-to-any-endpoint",
        "later.h",
        "return (!is_reply(entry) && !same_endpoint(entry->endpoint, entry->generation)) ||",
        "return",
    ),
    Mutation(
        "later-never-too-big",
        "later.h",
        "if (cut && (packet->dont_fragment || is_tunnelled(entry->flags)))",
        "if (false)",
    ),
    Mutation(
        "later-with-an-old-way", "later.h", "entry->seen_tick != tick && !ends_here(entry, hook)", "false"
    ),
    Mutation("later-s-hop", "fragment.h", "bool hop = via != VIA_STACK;", "bool hop = true;"),
    Mutation(
        "fragment-reset",
        "answer.h",
        "packet->fragment == FRAGMENT_NONE && make_reset",
        "make_reset",
    ),
    Mutation("short-ttl-goes-on", "balance.h", "packet->ttl <= 1", "packet->ttl < 1"),
    Mutation(
        "generation-not-checked", "endpoint.h", "endpoint && endpoint->generation == generation", "endpoint"
    ),
    Mutation("reused-after-one-fin", "load.h", "== CONNECTION_CLOSED_BY_BOTH", "!= 0"),
    Mutation("udp-idle-later", "connection.h", "UDP_IDLE_TICKS 120", "UDP_IDLE_TICKS 121"),
    Mutation(
        "partner-key-wrong-port",
        "connection.h",
        "key->source_port = entry->destination_port;",
        "key->source_port = entry->source_port;",
    ),
    Mutation("partner-not-forgotten", "connection.h", "bpf_map_delete_elem(&connections, &key);", ";"),
    Mutation("no-flags-for-the-partner", "closing.h", "if (partner)\n", "if (false)\n"),
    Mutation(
        "own-whatever-service-port",
        "connection.h",
        "return entry->source_port == flow->destination_port &&",
        "return",
    ),
    Mutation(
        "own-whatever-service-address",
        "connection.h",
        "same_address(&entry->source, &flow->destination) &&",
        "",
    ),
    Mutation("partner-not-restored", "connection.h", "&pair->partner, BPF_NOEXIST);", "&pair->partner, 2);"),
    Mutation(
        "fin-of-the-other",
        "connection.h",
        "CONNECTION_FIN_ENDPOINT : CONNECTION_FIN_CLIENT",
        "CONNECTION_FIN_CLIENT : CONNECTION_FIN_ENDPOINT",
    ),
    Mutation(
        "port-difference-sign",
        "connection.h",
        "fold(sum + (__u16)~fold((__u32)from->source_port + from->destination_port))",
        "fold((__u16)~sum + fold((__u32)from->source_port + from->destination_port))",
    ),
    Mutation("size-off-by-one", "carry.h", "packet->length <= mtu", "packet->length < mtu"),
    Mutation("gso-always-fits", "carry.h", "headers + skb->gso_size > mtu", "false"),
    Mutation("gso-of-sctp", "carry.h", "packet->flow.protocol != IPPROTO_SCTP && ", ""),
    Mutation("kernel-never-asked", "conntrack.h", "return asked && *asked;", "return false;"),
    Mutation("kernel-always-asked", "conntrack.h", "return asked && *asked;", "return true;"),
    Mutation(
        "strays-not-asked-for",
        "conntrack.h",
        "(packet->flow.protocol != IPPROTO_TCP || opens(packet)) && !kernel_is_asked()",
        "!kernel_is_asked()",
    ),
    Mutation(
        "a-new-connection-is-the-kernel's",
        "conntrack.h",
        "|| (opens(packet) && is_over_in_kernel(&packet->flow, found))",
        "",
    ),
    Mutation(
        "the-kernel's-whatever-it-translates",
        "conntrack.h",
        "return found->status & destination;",
        "return true;",
    ),
    Mutation(
        "the-kernel's-answers-taken",
        "masquerade.h",
        "if (kernel_answers_with(skb, &pair->partner_key))",
        "if (false)",
    ),
    Mutation("tunnel-without-room", "carry.h", "return way->mtu - TUNNEL_HEADER;", "return way->mtu;"),
    Mutation("tunnel-s-ecn", "tunnel.h", "DSCP_MASK 0xfc", "DSCP_MASK 0xff"),
    Mutation("tunnel-may-be-cut", "tunnel.h", "bpf_htons(IPV4_DONT_FRAGMENT)", "0"),
    Mutation(
        "tunnel-s-padding",
        "tunnel.h",
        "packet->length : packet->network_length",
        "packet->length : packet->length",
    ),
    Mutation(
        "connection-by-one-packet",
        "embryo.h",
        "is_tunnelled(embryo->flags) && embryo->packets > 1",
        "is_tunnelled(embryo->flags)",
    ),
    Mutation(
        "a-partner-for-a-tunnel", "embryo.h", "alone = is_tunnelled(pair->entry.flags);", "alone = false;"
    ),
    Mutation("tunnel-never-ends", "connection.h", "(ending & CONNECTION_FIN_CLIENT) ?", "false ?"),
    Mutation("tunnel-s-source-stays", "carry.h", "tunnel_source(skb, &entry->way, &entry->source);", ";"),
    Mutation("any-service-s-endpoint", "arrival.h", ".service = service->id,", ".service = 1,"),
    Mutation("anybody-s-tunnel", "arrival.h", "endpoint && !bpf_map_lookup_elem(&nodes, &sender)", "false"),
    Mutation("any-tunnel-s-end", "arrival.h", "same_address(&entry->destination, tunnel_end);", "true;"),
    Mutation(
        "fragments-of-tunnels",
        "arrival.h",
        "IPV4_FRAGMENT_OFFSET | IPV4_MORE_FRAGMENTS",
        "IPV4_FRAGMENT_OFFSET",
    ),
    Mutation("tunnels-chosen-again", "begin.h", "if (packet->arrived_for)\n", "if (false)\n"),
    Mutation(
        "in-circles",
        "tunnel.h",
        "return hook == FROM_TUNNEL && is_tunnelled",
        "return false && is_tunnelled",
    ),
    Mutation("answered-by-the-other-node", "answer.h", "if (hook != FROM_TUNNEL)", "if (true)"),
    Mutation(
        "too-big-for-any-tunnel", "tunnel_error.h", "!same_address(&entry->destination, &tunnel_end)", "false"
    ),
    Mutation("tunnel-s-own-mtu", "tunnel_error.h", "mtu - TUNNEL_HEADER;", "mtu;"),
    Mutation(
        "tunnel-error-s-checksum",
        "tunnel_error.h",
        "length - TUNNEL_HEADER) + (__u16)",
        "length) + (__u16)",
        IPV6,
    ),
    Mutation("xdp-takes-tunnelled", "fast.h", " || is_tunnelled(entry->flags)", ""),
    Mutation("hash-constant", "hash.h", "0x9E3779B97F4A7C15ULL", "0x9E3779B97F4A7C17ULL"),
    Mutation("slot-and-alias", "choose.h", "slot->endpoint : slot->alias", "slot->alias : slot->endpoint"),
    Mutation(
        "affinity-to-draining",
        "choose.h",
        "!(choice->flags & ENDPOINT_DRAINING)",
        "choice->flags",
    ),
    Mutation(
        "maglev-by-the-node-s-seed", "hash.h", "hash_words(HASH_SEED_EVERYWHERE,", "hash_words(hash_seed,"
    ),
    Mutation("maglev-by-port-with-affinity", "hash.h", "by_client ? SERVICE_PORT_ONLY :", "false ? 0 :"),
    Mutation("maglev-never-by-port", "hash.h", "by_client ? SERVICE", "true ? SERVICE"),
    Mutation("maglev-one-part", "maglev.h", "first + number / MAGLEV_PART", "first"),
    Mutation("maglev-in-slots", "choose.h", "else if (service->flags & SERVICE_MAGLEV)", "else if (false)"),
    Mutation("least-in-plain-slots", "choose.h", "service->flags & SERVICE_LEAST_CONNECTIONS", "false"),
    Mutation("one-choice-only", "least.h", "has_less(&second, &first) ?", "false ?"),
    Mutation("the-second-always", "least.h", "has_less(&second, &first) ?", "true ?"),
    Mutation(
        "weights-ignored",
        "least.h",
        "(__u64)load_of(one->endpoint) * other->weight",
        "load_of(one->endpoint)",
    ),
    Mutation("the-same-column-twice", "least.h", "other >= column", "false"),
    Mutation(
        "the-same-endpoint-twice", "least.h", "slot->endpoint : slot->alias) == taken", "false : false)"
    ),
    Mutation("refused-by-the-second", "least.h", " || second.endpoint == ENDPOINT_REJECT", ""),
    Mutation("another-s-load", "load.h", "load->generation == endpoint->generation && load", "load"),
    Mutation("load-below-nothing", "load.h", "load->open > 0 ? load->open : 0", "load->open"),
    Mutation("opened-not-counted", "embryo.h", "if (flow->protocol != IPPROTO_UDP)", "if (false)"),
    Mutation("udp-counted-twice", "embryo.h", "if (flow->protocol != IPPROTO_UDP)\n\t\tadd", "add"),
    Mutation("begun-anew-not-counted", "begin.h", "choice.generation, old->flags", "choice.generation, 0"),
    Mutation("known-udp-counted-again", "begin.h", "if (!pair->is_known && packet", "if (packet"),
    Mutation("udp-not-counted", "begin.h", "if (!pair->is_known && packet", "if (false && packet"),
    Mutation("never-counted-from-anew", "begin.h", "__sync_fetch_and_or(&entry->flags, counted);", ""),
    Mutation("begun-anew-counted-twice", "begin.h", "take_from_load(old, old->flags);", ""),
    Mutation("end-not-counted", "connection.h", "take_from_load(entry, before);", ";"),
    Mutation("end-counted-twice", "connection.h", "!is_reply(entry) && is_over(before", "is_over(before"),
    Mutation("forgotten-not-counted", "connection.h", "take_from_load(entry, entry->flags);", ""),
    Mutation("end-of-who-isn-t-counted", "load.h", "(flags & CONNECTION_COUNTED) && !is_over", "!is_over"),
    Mutation("affinity-shorter", "choose.h", "<= service->affinity_ticks", "< service->affinity_ticks"),
    Mutation(
        "source-ranges-inside",
        "choose.h",
        "outside && (service->flags & SERVICE_SOURCE_RANGES)",
        "(service->flags & SERVICE_SOURCE_RANGES)",
    ),
    Mutation("no-hairpin", "masquerade.h", "same_address(&flow->source, &choice->address) ||", ""),
    Mutation("other-step", "masquerade.h", "MASQUERADE_STEP 0x9E3779B1U", "MASQUERADE_STEP 0x9E3779B2U"),
    Mutation(
        "step-in-64-bits",
        "masquerade.h",
        "(mix + try * MASQUERADE_STEP)",
        "(mix + (__u64)try * MASQUERADE_STEP)",
    ),
    Mutation(
        "written-over-always",
        "masquerade.h",
        "if (!is_left(&pair->partner_key, there, pair->embryo.seen_tick))",
        "if (!is_reply(there))",
    ),
    Mutation(
        "never-written-over",
        "masquerade.h",
        "if (!is_left(&pair->partner_key, there, pair->embryo.seen_tick))",
        "if (true)",
    ),
    Mutation(
        "own-port-not-known-again",
        "masquerade.h",
        "if (there && is_reply(there) && answers(there, flow))",
        "if (false)",
    ),
    Mutation("never-over", "masquerade.h", "there, tick) : is_over(there->flags)", "there, tick) : false"),
    Mutation("never-idle", "masquerade.h", "is_silent(key, there, tick) : is_over", "false : is_over"),
    Mutation(
        "idle-by-the-endpoint-only",
        "masquerade.h",
        "return !client || is_idle(client, tick);",
        "return true;",
    ),
    Mutation("idle-by-the-client-only", "masquerade.h", "if (!is_idle(entry, tick))", "if (false)"),
    Mutation(
        "idle-with-a-client-only", "masquerade.h", "return !client || is_idle", "return client && is_idle"
    ),
    Mutation(
        "idle-without-a-time",
        "connection.h",
        "entry->seen_tick && tick - entry->seen_tick",
        "tick - entry->seen_tick",
    ),
    Mutation("own-source-not-marked", "masquerade.h", "pair->embryo.flags |= CONNECTION_MASQUERADED;", ""),
    Mutation(
        "taken-key-dropped",
        "begin.h",
        "if (reason == DROP_PORTS_EXHAUSTED)",
        "if (reason == DROP_PORTS_EXHAUSTED && needs_masquerade(flow, choice, hook))",
    ),
    Mutation("reused-for-another-endpoint", "begin.h", "old->endpoint != choice->endpoint ||", ""),
    Mutation("reused-for-another-generation", "begin.h", " || old->generation != choice->generation", ""),
    Mutation("reused-though-masqueraded", "begin.h", "CONNECTION_MASQUERADED | CONNECTION_TUNNELLED)", "0)"),
    Mutation(
        "reused-instead-of-masquerading",
        "begin.h",
        "needs_masquerade(&packet->flow, choice, hook) || needs_tunnel(&packet->flow, choice, hook))",
        "false)",
    ),
    Mutation(
        "kept-where-not-reused",
        "begin.h",
        "if (old)\n\t\tforget(&packet->flow, old);\n\tif (reason",
        "if (reason",
    ),
    Mutation("ended-again-at-once", "begin.h", "~(CONNECTION_CLOSED_BY_BOTH | CONNECTION_RESET |", "~("),
    Mutation("counted-on", "begin.h", "entry->packets = 0;", ""),
    Mutation("service-before-not-forgotten", "balance.h", "forget_service_before(&packet->flow);", ";"),
    Mutation(
        "another-client-s-service-forgotten",
        "embryo.h",
        " || answer->destination_port != flow->source_port ||\n"
        "\t    !same_address(&answer->destination, &flow->source))",
        ")",
    ),
    Mutation(
        "service-forgotten-by-any-packet",
        "balance.h",
        "if (opens(packet) || packet->flow.protocol == IPPROTO_UDP)\n",
        "if (true)\n",
    ),
    Mutation("service-forgotten-while-open", "embryo.h", "return !is_over(answer->flags);", "return false;"),
    Mutation(
        "service-forgotten-at-once",
        "embryo.h",
        "return client && tick - client->seen_tick <= 1;",
        "return false;",
    ),
    Mutation("promoted-by-the-answer", "embryo.h", "return embryo->packets >=", "return embryo->answers ||"),
    Mutation("syn-shows-life", "embryo.h", " || (packet->tcp_flags & TCP_SYN))", ")"),
    Mutation("reset-shows-life", "embryo.h", "is_over(embryo->flags) || (packet->tcp", "(packet->tcp"),
    Mutation("udp-unanswered-sooner", "embryo.h", "EMBRYO_TICKS 2 ", "EMBRYO_TICKS 1 "),
    Mutation("udp-unanswered-later", "embryo.h", "EMBRYO_TICKS 2 ", "EMBRYO_TICKS 3 "),
    Mutation(
        "embryo-left-after-promotion", "embryo.h", "bpf_map_delete_elem(&embryos, &pair->partner_key);", ";"
    ),
    Mutation("another-s-hint", "embryo.h", "!embryo || !is_embryo_of(embryo, flow)", "!embryo"),
    Mutation("hint-not-left", "begin.h", "leave_hint(hash, pair);", ";"),
    Mutation(
        "hint-without-its-port", "embryo.h", "pair->partner_key.destination_port,\n\t\t\t.tag", "0, .tag"
    ),
    Mutation("embryo-s-draining-ignored", "embryo.h", " || (endpoint->flags & ENDPOINT_DRAINING);", ";"),
    Mutation("embryo-s-silence-ignored", "embryo.h", "((endpoint->flags & ENDPOINT_SILENT) ||", "("),
    Mutation(
        "embryo-s-way-kept", "unanswered.h", "if (embryo->seen_tick != tick)", "if (!embryo->seen_tick)"
    ),
    Mutation(
        "another-s-embryo-written-over", "masquerade.h", "if (!is_embryo_of(there, flow))", "if (false)"
    ),
    Mutation("embryo-not-taken-up", "masquerade.h", "take_up(&pair->embryo, there);", ";"),
    Mutation("no-way-is-given", "masquerade.h", "if (!yielded && pair->gives_way)", "if (false)"),
    Mutation(
        "way-is-given-at-once", "masquerade.h", "there->seen_tick > EMBRYO_TICKS;", "there->seen_tick >= 0;"
    ),
    Mutation(
        "left-connection-in-the-way",
        "masquerade.h",
        "bpf_map_delete_elem(&connections, &pair->partner_key);",
        ";",
    ),
    Mutation(
        "answers-of-embryos-unseen",
        "embryo.h",
        "tick - embryo->seen_tick > 1)\n\t\tbpf_map_delete",
        "false)\n\t\tbpf_map_delete",
    ),
    Mutation("partner-over-an-embryo", "connection.h", " || bpf_map_lookup_elem(&embryos, &key)", ""),
    Mutation("error-about-an-answer", "embryo.h", "return &pair->entry;", "return NULL;"),
    Mutation("error-about-an-unanswered-packet", "embryo.h", "return &pair->partner;", "return NULL;"),
    Mutation("silent-ignored", "connection.h", "(endpoint->flags & ENDPOINT_SILENT) || is_idle", "is_idle"),
    Mutation(
        "silent-for-tcp-too",
        "connection.h",
        "if (packet->flow.protocol != IPPROTO_UDP)",
        "if (packet->flow.protocol != IPPROTO_UDP && !(endpoint->flags & ENDPOINT_SILENT))",
    ),
    Mutation("fewer-tries", "masquerade.h", "MASQUERADE_TRIES 32", "MASQUERADE_TRIES 1"),
    Mutation("undefined-ports-dropped", "vacant.h", "== VACANCY_REFUSED", "== VACANCY_DROPPED"),
    Mutation("vacant-by-any-prefix", "vacant.h", "prefix_length = 32 *", "prefix_length = 24 *"),
    Mutation(
        "sctp-sum-of-more", "translate.h", "crc32c_change(ports, length)", "crc32c_change(ports, length + 1)"
    ),
    Mutation("sctp-sum-of-nothing", "translate.h", "if (was && ports)", "if (ports)"),
    Mutation(
        "sctp-answer-opens", "packet.h", "[SCTP_INIT_ACK] = TCP_SYN", "[SCTP_INIT_ACK] = TCP_ACK ^ TCP_SYN"
    ),
    Mutation("sctp-never-complete", "packet.h", "[SCTP_SHUTDOWN_COMPLETE] = TCP_ACK ^ TCP_FIN,", ""),
    Mutation("sctp-short-ones-quoted", "answer.h", "NETWORK_OFFSET + QUOTED_SCTP)", "NETWORK_OFFSET + 16)"),
    Mutation("ttl-stays", "translate.h", "ip->ttl--;", ""),
    Mutation("hop-limit-stays", "translate.h", "ip->hop_limit -= hop;", "", IPV6),
    Mutation("ttl-checksum", "translate.h", "(__u16)~bpf_htons(0x0100)", "bpf_htons(0x0100)"),
    Mutation("udp-zero", "translate.h", "IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0", "IPPROTO_UDP ? 0 : 0"),
    Mutation("macs-mixed-up", "translate.h", "h_source, way->from_mac", "h_source, way->to_mac"),
    Mutation("device-s-mtu", "way.h", "fib.tot_len = 1;", "fib.tot_len = 0;"),
    Mutation("reset-forgets-fin", "answer.h", "payload + was->syn + was->fin", "payload + was->syn"),
    Mutation("answer-s-ttl", "answer.h", "ANSWER_TTL 64", "ANSWER_TTL 63"),
    Mutation("quoted-checksum", "icmp.h", "added += change_quoted_checksum(", "change_quoted_checksum("),
    Mutation(
        "router-becomes-service", "icmp.h", "entry->source : outer->source", "entry->source : entry->source"
    ),
    Mutation("xdp-old-way", "fast.h", "entry->seen_tick != tick || ", ""),
    Mutation(
        "xdp-any-endpoint", "fast.h", "return fate_of(packet, entry, tick) == FATE_GOES_ON;", "return true;"
    ),
    Mutation("xdp-takes-fin", "fast.h", "(TCP_SYN | TCP_FIN | TCP_RST)", "(TCP_SYN | TCP_RST)"),
    Mutation("egress-only-own", "blixt.bpf.c", " && bpf_map_lookup_elem(&devices, &came_by)", ""),
)


@pytest.mark.parametrize("family", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_the_source_as_it_is_holds(
    family: Family, tmp_path: Path, known_network: Network, settings: Settings
) -> None:
    """Else the others would prove nothing."""
    unchanged = Mutation("none", "types.h", "#pragma once", "#pragma once", family)
    assert find(unchanged, tmp_path, known_network, settings, CONTROL_PACKETS) is None


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_broken_rule_is_found(
    mutation: Mutation, tmp_path: Path, known_network: Network, settings: Settings
) -> None:
    found = find(mutation, tmp_path, known_network, settings, MOST_PACKETS)
    assert found is not None, f"{MOST_PACKETS} packets, and nobody noticed"


def find(
    mutation: Mutation, folder: Path, known_network: Network, settings: Settings, packets: int
) -> Mismatch | None:
    kernel = Kernel(compile_mutated(mutation, folder), mutation.family, settings)
    try:
        with inside(known_network.name):
            return hunt(Comparison(kernel, known_network, settings), seed=1, packets=packets)
    finally:
        kernel.close()


def compile_mutated(mutation: Mutation, folder: Path) -> Path:
    sources = folder / "bpf"
    shutil.copytree(SOURCES, sources)
    changed = sources / mutation.file
    text = changed.read_text()
    assert text.count(mutation.old) == 1, f"bpf/{mutation.file} must hold this text once: {mutation.old}"
    changed.write_text(text.replace(mutation.old, mutation.new))
    made = folder / "mutated.bpf.o"
    command = ["clang", "-O2", "-g", "-target", "bpf", "-mcpu=v3", f"-I{sources}"]
    command += [f"-I/usr/include/{platform.machine()}-linux-gnu", "-c", str(sources / "blixt.bpf.c")]
    command += ["-DBLIXT_IPV6"] if mutation.family is IPV6 else []
    subprocess.run([*command, "-o", str(made)], check=True, capture_output=True)
    return made
