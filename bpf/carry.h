/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A packet that has an entry goes on, or is told why not. */
#pragma once

#include "answer.h"
#include "closing.h"
#include "connection.h"
#include "count.h"
#include "translate.h"

static __always_inline int drop(__u32 reason)
{
	count_drop(reason);
	return VERDICT_DROP;
}

/* Segments of a GSO packet are what must fit, not the packet. */
static __always_inline bool too_big(const struct __sk_buff *skb, const struct packet *packet, const struct way *way)
{
	__u32 headers = packet->transport_offset - NETWORK_OFFSET +
			(packet->flow.protocol == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr));

	if (!way->mtu || packet->length <= way->mtu)
		return false;
	return !skb->gso_size || headers + skb->gso_size > way->mtu;
}

/*
 * What the stack may cut to pieces, and send: not TCP, of which its connection tracking would see this packet only (and
 * call it INVALID), nothing from an address of this node (it would be a martian), and nothing that it has routed before.
 */
static __always_inline bool may_be_cut(const struct packet *packet, bool keeps_source, int hook)
{
	return !packet->dont_fragment && packet->flow.protocol == IPPROTO_UDP && keeps_source && hook != FROM_NODE;
}

static __always_inline bool is_clients_own(const struct packet *packet, const struct connection *entry)
{
	return !is_reply(entry) && same_address(&packet->flow.source, &entry->source);
}

static __always_inline int tell_too_big(struct __sk_buff *skb, const struct packet *packet, const struct way *way,
					int hook)
{
	count_drop(DROP_TOO_BIG);
	return answer_too_big(skb, packet, hook, way->mtu);
}

static __always_inline int forward(struct __sk_buff *skb, const struct packet *packet, const struct connection *entry,
				   int hook)
{
	/* What is too big for the way here may be cut to pieces: by the stack. */
	__u32 via = too_big(skb, packet, &entry->way) ? VIA_STACK : entry->way.via;

	return translate(skb, packet, entry, via) ? send(skb, &entry->way, via, hook) : VERDICT_DROP;
}

static __always_inline void refresh(struct __sk_buff *skb, const struct packet *packet, struct connection *entry,
				    __u32 tick, int hook)
{
	entry->seen_tick = tick;
	find_way(skb, &entry->source, &entry->destination, &entry->way, hook);
	keep_partner(&packet->flow, entry);
}

static __always_inline int go_on(struct __sk_buff *skb, const struct packet *packet, struct connection *entry,
				 __u32 tick, int hook)
{
	if (entry->seen_tick != tick)
		refresh(skb, packet, entry, tick, hook);
	if (too_big(skb, packet, &entry->way) && !may_be_cut(packet, is_clients_own(packet, entry), hook))
		return tell_too_big(skb, packet, &entry->way, hook);
	if (packet->flow.protocol == IPPROTO_TCP)
		note_ending(packet, entry, tick);
	count_packet(entry, packet->length);
	return forward(skb, packet, entry, hook);
}
