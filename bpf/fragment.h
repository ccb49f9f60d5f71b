/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Fragments: the first one of a datagram has its ports, and leaves word of its flow for those that come later. */
#pragma once

#include "connection.h"
#include "count.h"
#include "tick.h"
#include "translate.h"
#include <linux/bpf.h>

#define FRAGMENT_TICKS 30 /* as long as Linux waits for the rest of a datagram */

static __always_inline void fill_datagram(const struct packet *packet, struct datagram *key)
{
	key->source = packet->flow.source;
	key->destination = packet->flow.destination;
	key->id = packet->datagram;
	/* IPv6's fragments need not agree on the header that follows (RFC 8200, 4.5). */
	key->protocol = ADDRESS_WORDS == 1 ? packet->flow.protocol : 0;
	__builtin_memset(key->zero, 0, sizeof(key->zero));
}

static __noinline int remember_datagram(const struct packet *packet)
{
	struct datagram key;
	struct datagram_flow flow = {};

	if (!packet)
		return 0;
	fill_datagram(packet, &key);
	flow.source_port = packet->flow.source_port;
	flow.destination_port = packet->flow.destination_port;
	flow.seen_tick = current_tick();
	flow.protocol = packet->flow.protocol;
	bpf_map_update_elem(&fragments, &key, &flow, BPF_ANY);
	return 0;
}

/* Completes the flow of a later fragment. False: its first one was not ours, was here too long ago, or is yet to come. */
static __always_inline bool recall_datagram(struct packet *packet)
{
	struct datagram_flow *flow;
	struct datagram key;

	fill_datagram(packet, &key);
	flow = bpf_map_lookup_elem(&fragments, &key);
	if (!flow || current_tick() - flow->seen_tick > FRAGMENT_TICKS)
		return false;
	packet->flow.source_port = flow->source_port;
	packet->flow.destination_port = flow->destination_port;
	packet->flow.protocol = flow->protocol;
	return true;
}

/* A later fragment has addresses only: the transport checksum of its datagram is in the first one. */
static __always_inline bool translate_later(struct __sk_buff *skb, const struct connection *entry, __u32 via)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	bool hop = via != VIA_STACK;

	if (data + PLAIN_TRANSPORT_OFFSET > end)
		return false;
	if (hop && knows_macs(&entry->way))
		write_macs(data, &entry->way);
	write_network(data + NETWORK_OFFSET, entry, hop);
#ifdef BLIXT_IPV6
	/* What a NIC has summed up: nothing else in this fragment makes up for the addresses. */
	bpf_csum_update(skb, (__u64)entry->address_difference + (hop ? (__u16)~bpf_htons(0x0001) : 0));
#endif
	return true;
}
