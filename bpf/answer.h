/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Answers in an endpoint's stead: TCP resets and ICMP errors, made of the packet that they answer.
 *
 * A packet whose checksum is left to the device (CHECKSUM_PARTIAL, as all that local senders send) stays that way,
 * and nothing here can ask or change it: where its checksum was, one will be written on its way out. So a reset
 * keeps its TCP header in the same place and lets the kernel's helper do the checksum, and an ICMP error leaves the
 * quoted header whole, with the sum over it that it will have in the end.
 */
#pragma once

#include "checksum.h"
#include "packet.h"
#include "way.h"

#define ANSWER_TTL 64
#define QUOTED_TCP sizeof(struct tcphdr)
#define QUOTED_UDP sizeof(struct udphdr)
#define QUOTED_SCTP 20 /* up to the tag in an INIT, whose own is 0 (RFC 9260, 10) */
_Static_assert(QUOTED_SCTP == QUOTED_TCP, "one room for both");

static __always_inline __u64 sum_pseudo_header(const struct flow *flow, __u32 length, __u32 protocol)
{
	return sum_address(&flow->source) + sum_address(&flow->destination) + bpf_htonl(length) + bpf_htonl(protocol);
}

static __always_inline __u32 sum_words(const void *data, __u32 length)
{
	return bpf_csum_diff(NULL, 0, (__be32 *)data, length, 0);
}

static __always_inline int swap_macs(struct __sk_buff *skb)
{
	struct ethhdr was, ethernet;

	if (bpf_skb_load_bytes(skb, 0, &was, sizeof(was)))
		return -1;
	__builtin_memcpy(ethernet.h_dest, was.h_source, ETH_ALEN);
	__builtin_memcpy(ethernet.h_source, was.h_dest, ETH_ALEN);
	ethernet.h_proto = was.h_proto;
	return bpf_skb_store_bytes(skb, 0, &ethernet, sizeof(ethernet), 0);
}

/* A network header back to where `flow` came from. */
static __always_inline int write_answer_network(struct __sk_buff *skb, const struct flow *flow, __u8 protocol,
						__u16 payload)
{
	network_header ip = {};

#ifdef BLIXT_IPV6
	ip.version = 6;
	ip.payload_len = bpf_htons(payload);
	ip.nexthdr = protocol;
	ip.hop_limit = ANSWER_TTL;
#else
	ip.version = 4;
	ip.ihl = 5;
	ip.tot_len = bpf_htons(sizeof(ip) + payload);
	ip.frag_off = bpf_htons(IPV4_DONT_FRAGMENT);
	ip.ttl = ANSWER_TTL;
	ip.protocol = protocol;
#endif
	__builtin_memcpy(&ip.saddr, &flow->destination, sizeof(struct address));
	__builtin_memcpy(&ip.daddr, &flow->source, sizeof(struct address));
#ifndef BLIXT_IPV6
	ip.check = ~fold(sum_words(&ip, sizeof(ip)));
#endif
	return bpf_skb_store_bytes(skb, NETWORK_OFFSET, &ip, sizeof(ip), 0);
}

/* RFC 9293, 3.10.7.1 */
static __always_inline void fill_reset(const struct packet *packet, const struct tcphdr *was, struct tcphdr *tcp)
{
	__u32 payload = packet->network_length - sizeof(network_header) - was->doff * 4;

	tcp->source = was->dest;
	tcp->dest = was->source;
	tcp->doff = sizeof(*tcp) / 4;
	tcp->rst = 1;
	if (was->ack) {
		tcp->seq = was->ack_seq;
	} else {
		tcp->ack = 1;
		tcp->ack_seq = bpf_htonl(bpf_ntohl(was->seq) + payload + was->syn + was->fin);
	}
}

/*
 * As long as the packet was, with its options and its payload: the kernel cuts nothing off where a packet has been in a
 * tunnel. The pseudo header's sum stays.
 */
static __always_inline bool reset_in_place(struct __sk_buff *skb, const struct packet *packet, struct tcphdr *was,
					   struct tcphdr *tcp)
{
	const __u32 at = PLAIN_TRANSPORT_OFFSET;
	__u16 changed;

	if (skb->gso_size)
		return false;
	tcp->doff = was->doff;
	tcp->check = was->check;
	changed = fold(bpf_csum_diff((__be32 *)was, sizeof(*was), (__be32 *)tcp, sizeof(*tcp), 0));
	return !swap_macs(skb) &&
	       !write_answer_network(skb, &packet->flow, IPPROTO_TCP,
				     packet->network_length - sizeof(network_header)) &&
	       !bpf_skb_store_bytes(skb, at, tcp, sizeof(*tcp), 0) &&
	       !bpf_l4_csum_replace(skb, at + __builtin_offsetof(struct tcphdr, check), 0, changed, 0);
}

static __noinline bool make_reset(struct __sk_buff *skb, const struct packet *packet)
{
	const __u32 checksum = PLAIN_TRANSPORT_OFFSET + __builtin_offsetof(struct tcphdr, check);
	struct tcphdr was, tcp = {};

	if (!packet || bpf_skb_load_bytes(skb, PLAIN_TRANSPORT_OFFSET, &was, sizeof(was)))
		return false;
	fill_reset(packet, &was, &tcp);
	if (bpf_skb_change_tail(skb, PLAIN_TRANSPORT_OFFSET + sizeof(tcp), 0))
		return packet->arrived_for && reset_in_place(skb, packet, &was, &tcp);
	return !swap_macs(skb) && !write_answer_network(skb, &packet->flow, IPPROTO_TCP, sizeof(tcp)) &&
	       !bpf_skb_store_bytes(skb, PLAIN_TRANSPORT_OFFSET, &tcp, sizeof(tcp), 0) &&
	       !bpf_l4_csum_replace(skb, checksum, 0, fold(sum_pseudo_header(&packet->flow, sizeof(tcp), IPPROTO_TCP)),
				    BPF_F_PSEUDO_HDR) &&
	       !bpf_l4_csum_replace(skb, checksum, 0, fold(sum_words(&tcp, sizeof(tcp))), 0);
}

/* The sum over the quoted transport header as it will leave this node. Fragments are never left to the device. */
static __always_inline __u32 sum_quoted_transport(struct __sk_buff *skb, const struct packet *packet, bool udp)
{
	const __u32 checksum_at = udp ? 6 : 16;
	__u32 length = packet->network_length - sizeof(network_header);
	__u8 quoted[QUOTED_TCP] = {};
	__u16 checksum, pseudo;

	if (udp)
		bpf_skb_load_bytes(skb, packet->transport_offset, quoted, QUOTED_UDP);
	else
		bpf_skb_load_bytes(skb, packet->transport_offset, quoted, QUOTED_TCP);
	/* Left to the device, it is 0; what is written there then, this host alone sees, and takes the whole for right. */
	if (packet->flow.protocol == IPPROTO_SCTP)
		return sum_words(quoted, sizeof(quoted));
	checksum = *(__u16 *)(quoted + checksum_at);
	pseudo = fold(sum_pseudo_header(&packet->flow, length, packet->flow.protocol));
	/* A checksum left to the device holds the pseudo header's sum, and makes the whole sum its complement. */
	if (checksum == pseudo && packet->fragment == FRAGMENT_NONE)
		return (__u16)~pseudo;
	return sum_words(quoted, sizeof(quoted));
}

/* Of all that stands before the transport header. */
#ifdef BLIXT_IPV6
static __always_inline int sum_quoted_network(struct __sk_buff *skb, const struct packet *packet, __u64 *sum)
{
	struct extension_header fragment;
	network_header network;

	if (bpf_skb_load_bytes(skb, NETWORK_OFFSET, &network, sizeof(network)))
		return -1;
	*sum += sum_words(&network, sizeof(network));
	if (packet->plain)
		return 0;
	if (bpf_skb_load_bytes(skb, PLAIN_TRANSPORT_OFFSET, &fragment, sizeof(fragment)))
		return -1;
	*sum += sum_words(&fragment, sizeof(fragment));
	return 0;
}
#else
static __always_inline int sum_quoted_network(struct __sk_buff *skb, const struct packet *packet, __u64 *sum)
{
	(void)skb, (void)packet;
	*sum += 0xffff; /* an IPv4 header sums up to that */
	return 0;
}
#endif

/* An ICMP error (RFC 792, RFC 4443) that quotes the network header and the begin of the transport header. */
static __noinline bool make_icmp(struct __sk_buff *skb, const struct packet *packet, __u32 mtu)
{
	struct icmp_header icmp = {};
	__u32 quoted;
	__u64 sum;
	bool udp;

	if (!packet)
		return false;
	udp = packet->flow.protocol == IPPROTO_UDP;
	quoted = packet->transport_offset - NETWORK_OFFSET + (udp ? QUOTED_UDP : QUOTED_TCP);
	icmp.type = mtu ? ICMP_TOO_BIG : ICMP_UNREACHABLE;
	icmp.code = mtu ? ICMP_TOO_BIG_CODE : ICMP_PORT_UNREACHABLE;
	icmp.rest = bpf_htonl(mtu);
	sum = sum_quoted_transport(skb, packet, udp) + sum_words(&icmp, sizeof(icmp));
	if (sum_quoted_network(skb, packet, &sum))
		return false;
#ifdef BLIXT_IPV6
	sum += sum_pseudo_header(&packet->flow, sizeof(icmp) + quoted, IPPROTO_ICMPV6);
#endif
	icmp.checksum = ~fold(sum);
	if (bpf_skb_change_tail(skb, NETWORK_OFFSET + quoted, 0) ||
	    bpf_skb_adjust_room(skb, sizeof(network_header) + sizeof(icmp), BPF_ADJ_ROOM_MAC, 0) || swap_macs(skb) ||
	    write_answer_network(skb, &packet->flow, FAMILY_ICMP, sizeof(icmp) + quoted) ||
	    bpf_skb_store_bytes(skb, PLAIN_TRANSPORT_OFFSET, &icmp, sizeof(icmp), 0))
		return false;
	return true;
}

/* Back to where it came from; what another node has sent in a tunnel is answered directly. */
static __always_inline int send_answer(struct __sk_buff *skb, const struct packet *packet, int hook, bool made)
{
	struct way way;

	if (!made)
		return VERDICT_DROP;
	if (hook != FROM_TUNNEL)
		return bpf_redirect(skb->ifindex, hook == FROM_NODE ? BPF_F_INGRESS : 0);
	find_way(skb, &packet->flow.destination, &packet->flow.source, &way, hook);
	send_macs(skb, &way);
	return send(skb, &way, way.via, hook);
}

/* A fragment header is all that may stand before the transport header: senders learn their path's MTU by such. */
static __always_inline bool quotable(const struct packet *packet)
{
	return packet->plain || (ADDRESS_WORDS == 4 && packet->fragment == FRAGMENT_FIRST &&
				 packet->transport_offset == PLAIN_TRANSPORT_OFFSET + 8);
}

static __always_inline bool answerable(const struct packet *packet)
{
	if (packet->flow.protocol == IPPROTO_SCTP &&
	    packet->length < packet->transport_offset - NETWORK_OFFSET + QUOTED_SCTP)
		return false;
	return quotable(packet) && !(packet->tcp_flags & TCP_RST);
}

static __always_inline int refuse(struct __sk_buff *skb, const struct packet *packet, int hook)
{
	if (!answerable(packet))
		return VERDICT_DROP;
	if (packet->flow.protocol == IPPROTO_TCP) /* how long a fragment's segment is, is not known */
		return send_answer(skb, packet, hook, packet->fragment == FRAGMENT_NONE && make_reset(skb, packet));
	return send_answer(skb, packet, hook, make_icmp(skb, packet, 0));
}

static __always_inline int answer_too_big(struct __sk_buff *skb, const struct packet *packet, int hook, __u32 mtu)
{
	return send_answer(skb, packet, hook, answerable(packet) && make_icmp(skb, packet, mtu));
}
