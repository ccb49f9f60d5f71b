/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Later fragments. */
#pragma once

#include "carry.h"
#include "embryo.h"
#include "fragment.h"
#include "tunnel_error.h"

/* A client's, without its endpoint, or one that leads away again. */
static __always_inline bool ends_here(const struct connection *entry, int hook)
{
	return (!is_reply(entry) && !same_endpoint(entry->endpoint, entry->generation)) ||
	       goes_in_circles(hook, entry->flags);
}

/* On its own, as its keys would not fit on the stack of whoever looks for a way on then. */
static __noinline struct connection *later_by_embryo(struct __sk_buff *skb, const struct packet *packet)
{
	struct pair *pair = scratch_pair();
	struct connection *entry;

	if (!packet || !pair)
		return NULL;
	entry = entry_by_embryo(&packet->flow, pair);
	return entry ? entry : entry_by_tunnel(skb, &packet->flow, pair);
}

/* What becomes of a later fragment: an entry in `connections`, or what would be one. NULL: nothing of ours. */
static __always_inline struct connection *entry_of_later(struct __sk_buff *skb, const struct packet *packet, int hook)
{
	struct connection *entry = bpf_map_lookup_elem(&connections, &packet->flow);
	__u32 tick = current_tick();

	if (!entry) {
		entry = later_by_embryo(skb, packet);
		if (entry)
			find_way(skb, &entry->source, &entry->destination, &entry->way, hook);
	} else if (entry->seen_tick != tick && !ends_here(entry, hook)) {
		refresh(skb, packet, entry, tick, hook);
	}
	return entry;
}

/* Any fragment that is not the first. One that overtook its first is not known: what the stack makes of it is its own. */
static __noinline int balance_later_fragment(struct __sk_buff *skb, struct packet *packet, int hook)
{
	struct connection *entry;
	__u32 via, mtu;
	bool cut;

	if (!packet || packet->ttl <= 1 || !recall_datagram(packet))
		return VERDICT_NEXT;
	entry = entry_of_later(skb, packet, hook);
	if (!entry)
		return VERDICT_NEXT;
	if (ends_here(entry, hook))
		return drop(DROP_FRAGMENT);
	mtu = mtu_of(&entry->way, entry->flags);
	cut = mtu && packet->length > mtu;
	if (cut && (packet->dont_fragment || is_tunnelled(entry->flags)))
		return drop(DROP_TOO_BIG); /* the answer to its first fragment tells (RFC 1812, 4.3.2.7) */
	via = cut ? VIA_STACK : entry->way.via;
	count_packet(entry, packet->length);
	if (is_tunnelled(entry->flags))
		return enter_tunnel(skb, packet, entry, hook);
	return translate_later(skb, entry, via) ? send(skb, &entry->way, via, hook) : VERDICT_DROP;
}
