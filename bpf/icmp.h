/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors about packets that were translated: whoever gets one must find the packet quoted that it sent.
 * Rare, so read and written by helpers; ICMP checksums are never left to a device.
 */
#pragma once

#include "checksum.h"
#include "embryo.h"
#include "packet.h"
#include "way.h"

#define QUOTE_OFFSET(packet) ((packet)->transport_offset + sizeof(struct icmp_header))
#define QUOTED_TCP_CHECKSUM 16
#define QUOTED_UDP_CHECKSUM 6

struct quote {
	network_header ip;
	__be16 ports[2];
	__be32 rest; /* of the 8 bytes that are always there */
	__u32 transport_offset;
	__u8 protocol;
} __attribute__((packed));

/* The stack of 512 bytes has no room for one in IPv6. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct quote);
} quotes SEC(".maps");

static __always_inline struct quote *scratch_quote(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&quotes, &zero);
}

#define QUOTED_HEADERS __builtin_offsetof(struct quote, transport_offset)

#ifdef BLIXT_IPV6
static __always_inline bool find_quoted_transport(struct __sk_buff *skb, struct quote *quote)
{
	struct extension_header fragment;

	quote->protocol = quote->ip.nexthdr;
	if (quote->protocol == IPPROTO_FRAGMENT) {
		if (bpf_skb_load_bytes(skb, quote->transport_offset, &fragment, sizeof(fragment)) ||
		    (fragment.fragment_offset & bpf_htons(IPV6_FRAGMENT_OFFSET)))
			return false;
		quote->protocol = fragment.next;
		quote->transport_offset += sizeof(fragment);
	}
	return quote->ip.version == 6;
}
#else
static __always_inline bool find_quoted_transport(struct __sk_buff *skb, struct quote *quote)
{
	(void)skb;
	quote->protocol = quote->ip.protocol;
	return quote->ip.version == 4 && quote->ip.ihl == 5 && !(quote->ip.frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET));
}
#endif

static __always_inline bool load_quote(struct __sk_buff *skb, __u32 offset, struct quote *quote)
{
	if (bpf_skb_load_bytes(skb, offset, &quote->ip, sizeof(quote->ip)))
		return false;
	quote->transport_offset = offset + sizeof(quote->ip);
	return find_quoted_transport(skb, quote) && !bpf_skb_load_bytes(skb, quote->transport_offset, quote->ports,
									sizeof(quote->ports) + sizeof(quote->rest));
}

static __always_inline void store_quote(struct __sk_buff *skb, const struct packet *packet, const struct quote *quote)
{
	bpf_skb_store_bytes(skb, QUOTE_OFFSET(packet), &quote->ip, sizeof(quote->ip), 0);
	bpf_skb_store_bytes(skb, quote->transport_offset, quote->ports, sizeof(quote->ports), 0);
}

/* The flow of packets that answer the quoted one. */
static __always_inline bool answering_flow(const struct quote *quote, struct flow *flow)
{
	flow->protocol = quote->protocol;
	__builtin_memcpy(&flow->source, &quote->ip.daddr, sizeof(struct address));
	__builtin_memcpy(&flow->destination, &quote->ip.saddr, sizeof(struct address));
	flow->source_port = quote->ports[1];
	flow->destination_port = quote->ports[0];
	return flow->protocol == IPPROTO_TCP || flow->protocol == IPPROTO_UDP || flow->protocol == IPPROTO_SCTP;
}

/* Changes the quoted transport checksum where it is quoted; what that adds to a sum over the quote. */
static __always_inline __u16 change_quoted_checksum(struct __sk_buff *skb, const struct quote *quote,
						    const struct connection *entry)
{
	__u64 added = (__u64)entry->address_difference + entry->port_difference;
	__u32 offset = quote->transport_offset;
	__u8 protocol = quote->protocol;
	__sum16 was, now;

	/* Who sent it knows it by its tag, and looks at no sum (RFC 9260, 10). */
	if (protocol == IPPROTO_SCTP)
		return 0;
	offset += protocol == IPPROTO_TCP ? QUOTED_TCP_CHECKSUM : QUOTED_UDP_CHECKSUM;
	if (bpf_skb_load_bytes(skb, offset, &was, sizeof(was)))
		return 0;
	now = protocol == IPPROTO_TCP ? adjusted(was, added) : adjusted_udp(was, added);
	bpf_skb_store_bytes(skb, offset, &now, sizeof(now), 0);
	return difference(was, now);
}

/* The quoted packet was sent in the other direction, so what the entry makes its destination was its source. */
static __always_inline void change_quote(struct quote *quote, const struct connection *entry)
{
	__builtin_memcpy(&quote->ip.saddr, &entry->destination, sizeof(struct address));
	__builtin_memcpy(&quote->ip.daddr, &entry->source, sizeof(struct address));
	quote->ports[0] = entry->destination_port;
	quote->ports[1] = entry->source_port;
#ifndef BLIXT_IPV6
	quote->ip.check = adjusted(quote->ip.check, entry->address_difference);
#endif
}

/* Outer addresses and TTL; `flow` is the key that was found, `packet->flow` the outer addresses. */
static __always_inline __u16 change_outer(struct __sk_buff *skb, const struct packet *packet, const struct flow *flow,
					  const struct connection *entry, struct address *source)
{
	const struct flow *outer = &packet->flow;
	__u16 added;

	*source = same_address(&outer->source, &flow->source) ? entry->source : outer->source;
	added = fold(sum_address(source) + sum_address(&entry->destination) +
		     (__u16)~fold(sum_address(&outer->source) + sum_address(&outer->destination)));
	bpf_skb_store_bytes(skb, NETWORK_OFFSET + __builtin_offsetof(network_header, saddr), source, sizeof(*source),
			    0);
	bpf_skb_store_bytes(skb, NETWORK_OFFSET + __builtin_offsetof(network_header, daddr), &entry->destination,
			    sizeof(struct address), 0);
	return added;
}

static __always_inline void finish_outer(struct __sk_buff *skb, const struct packet *packet, __u16 added, bool hop)
{
	__u8 ttl = packet->ttl - hop;

#ifdef BLIXT_IPV6
	(void)added; /* no checksum in this header */
	bpf_skb_store_bytes(skb, NETWORK_OFFSET + __builtin_offsetof(network_header, hop_limit), &ttl, sizeof(ttl), 0);
#else
	const __u32 offset = NETWORK_OFFSET + __builtin_offsetof(network_header, check);
	__sum16 checksum = 0;

	bpf_skb_load_bytes(skb, offset, &checksum, sizeof(checksum));
	checksum = adjusted(checksum, (__u64)added + (hop ? (__u16)~bpf_htons(0x0100) : 0));
	bpf_skb_store_bytes(skb, offset, &checksum, sizeof(checksum), 0);
	bpf_skb_store_bytes(skb, NETWORK_OFFSET + __builtin_offsetof(network_header, ttl), &ttl, sizeof(ttl), 0);
#endif
}

static __always_inline void change_icmp_checksum(struct __sk_buff *skb, const struct packet *packet, __u64 added)
{
	const __u32 offset = packet->transport_offset + __builtin_offsetof(struct icmp_header, checksum);
	__sum16 checksum = 0;

	bpf_skb_load_bytes(skb, offset, &checksum, sizeof(checksum));
	checksum = adjusted(checksum, added);
	bpf_skb_store_bytes(skb, offset, &checksum, sizeof(checksum), 0);
}

static __noinline int translate_icmp_error(struct __sk_buff *skb, const struct packet *packet, int hook)
{
	struct quote *quote = scratch_quote();
	struct connection *entry;
	struct address source;
	struct flow flow = {};
	struct pair *pair = scratch_pair();
	struct way way;
	__u16 outer, before;
	__u64 added;

	if (!packet || !pair || packet->ttl <= 1 || !load_quote(skb, QUOTE_OFFSET(packet), quote) ||
	    !answering_flow(quote, &flow) || !same_address(&packet->flow.destination, &flow.destination))
		return VERDICT_NEXT;
	entry = bpf_map_lookup_elem(&connections, &flow);
	if (!entry)
		entry = entry_by_embryo(&flow, pair);
	if (!entry || is_tunnelled(entry->flags))
		return VERDICT_NEXT;
	before = fold(bpf_csum_diff(NULL, 0, (__be32 *)quote, QUOTED_HEADERS, 0));
	change_quote(quote, entry);
	added = difference(before, fold(bpf_csum_diff(NULL, 0, (__be32 *)quote, QUOTED_HEADERS, 0)));
	store_quote(skb, packet, quote);
	added += change_quoted_checksum(skb, quote, entry);
	outer = change_outer(skb, packet, &flow, entry, &source);
#ifdef BLIXT_IPV6
	added += outer; /* its pseudo header has the outer addresses */
#endif
	change_icmp_checksum(skb, packet, added);
	find_way(skb, &source, &entry->destination, &way, hook);
	finish_outer(skb, packet, outer, way.via != VIA_STACK);
	send_macs(skb, &way);
	return send(skb, &way, way.via, hook);
}
