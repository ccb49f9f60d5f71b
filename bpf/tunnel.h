/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets of clients to endpoints of other nodes, as they are, in another packet of the same family (RFC 2003, RFC
 * 2473). Its destination is the endpoint, so it goes the way that pods' packets go; its source is this node, which is
 * told of errors on that way. The endpoint's node takes it off (arrival.h).
 */
#pragma once

#include "connection.h"
#include "packet.h"
#include "way.h"

#define TUNNEL_HEADER sizeof(network_header)
#define TUNNEL_TTL 64
#define MOST_BYTES 0xffff

/* Segments of a GSO packet keep their size: they have been found to fit with the header. */
#ifdef BLIXT_IPV6
#define TUNNEL_PROTOCOL IPPROTO_IPV6
#define TUNNEL_ROOM (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6)
#else
#define TUNNEL_PROTOCOL IPPROTO_IPIP
#define TUNNEL_ROOM (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4)
#endif

#define DSCP_MASK 0xfc

/* Another node sends here what this one, as it has it, would send on to a third. */
static __always_inline bool goes_in_circles(int hook, __u32 connection_flags)
{
	return hook == FROM_TUNNEL && is_tunnelled(connection_flags);
}

/*
 * The inner packet's class goes with the outer one; its ECN bits don't, as they would have to come back from there (RFC
 * 6040, compatibility mode).
 */
static __always_inline void fill_outer(network_header *outer, const network_header *inner,
				       const struct connection *entry, __u32 length)
{
#ifdef BLIXT_IPV6
	outer->version = 6;
	outer->priority = inner->priority;
	outer->flow_lbl[0] = inner->flow_lbl[0] & (DSCP_MASK << 4 & 0xf0);
	outer->payload_len = length > MOST_BYTES ? 0 : bpf_htons(length);
	outer->nexthdr = TUNNEL_PROTOCOL;
	outer->hop_limit = TUNNEL_TTL;
#else
	length += sizeof(*outer);
	outer->version = 4;
	outer->ihl = 5;
	outer->tos = inner->tos & DSCP_MASK;
	outer->tot_len = length > MOST_BYTES ? 0 : bpf_htons(length); /* of GSO packets the kernel knows it */
	outer->frag_off = bpf_htons(IPV4_DONT_FRAGMENT);              /* nobody puts fragments together there */
	outer->ttl = TUNNEL_TTL;
	outer->protocol = TUNNEL_PROTOCOL;
#endif
	__builtin_memcpy(&outer->saddr, &entry->source, sizeof(struct address));
	__builtin_memcpy(&outer->daddr, &entry->destination, sizeof(struct address));
#ifndef BLIXT_IPV6
	outer->check = (__sum16)~fold(bpf_csum_diff(NULL, 0, (__be32 *)outer, sizeof(*outer), 0));
#endif
}

/* `length` is the inner packet's, without what pads a short frame. */
static __noinline UNUSED int send_by_tunnel(struct __sk_buff *skb, const struct connection *entry, __u32 length,
					    int hook)
{
	network_header inner, outer = {};

	if (!entry || entry->way.via == VIA_STACK || bpf_skb_load_bytes(skb, NETWORK_OFFSET, &inner, sizeof(inner)))
		return VERDICT_DROP;
	fill_outer(&outer, &inner, entry, length);
	if (bpf_skb_adjust_room(skb, TUNNEL_HEADER, BPF_ADJ_ROOM_MAC, TUNNEL_ROOM) ||
	    bpf_skb_store_bytes(skb, NETWORK_OFFSET, &outer, sizeof(outer), 0))
		return VERDICT_DROP;
	send_macs(skb, &entry->way);
	return send(skb, &entry->way, entry->way.via, hook);
}

static __always_inline __u32 length_in_tunnel(const struct __sk_buff *skb, const struct packet *packet)
{
	return skb->gso_size ? packet->length : packet->network_length;
}
