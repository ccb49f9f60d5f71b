/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is over must make room for what is not: the LRU can't tell an idle connection from one that is closed, and
 * throws out whichever was used longer ago. So who closes takes the place of one that did so many others ago, and
 * that one's entries go. Until then they serve what comes late, and whoever comes again by the same port.
 */
#pragma once

#include "connection.h"

#define CLOSING_TICKS 2 /* without a packet of the client */

/* By userspace: entries of `closings`. */
const volatile __u32 closing_count = 65536;

struct closing {
	struct flow client;
	__u32 tick; /* 0: nobody's place */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct closing);
} closings SEC(".maps");

/* How many have closed. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} closed SEC(".maps");

static __always_inline void forget_closed(const struct flow *client, __u32 tick)
{
	struct connection *entry = bpf_map_lookup_elem(&connections, client);

	if (entry && !is_reply(entry) && is_over(entry->flags) && tick - entry->seen_tick > CLOSING_TICKS)
		forget(client, entry);
}

static __noinline int take_place(const struct flow *client, __u32 tick)
{
	struct closing *place;
	struct flow before;
	__u32 index = 0;
	__u64 *count;

	if (!client)
		return 0;
	count = bpf_map_lookup_elem(&closed, &index);
	if (!count)
		return 0;
	index = __sync_fetch_and_add(count, 1) % closing_count;
	place = bpf_map_lookup_elem(&closings, &index);
	if (!place)
		return 0;
	if (place->tick && tick - place->tick > CLOSING_TICKS) {
		before = place->client;
		forget_closed(&before, tick);
	}
	place->client = *client;
	place->tick = tick;
	return 0;
}

/*
 * FIN and RST are rare: only they write to both entries. A client's RST may be anybody's: it makes no connection give
 * up its entries.
 */
static __always_inline void note_ending(const struct packet *packet, struct connection *entry, __u32 tick)
{
	bool reply = is_reply(entry);
	__u32 flags = ending(packet, reply), before = entry->flags;
	struct connection *partner;
	struct flow key;

	if (!flags)
		return;
	flags = ending_of(before, flags);
	add_ending(entry, flags);
	partner = find_partner(&packet->flow, entry, &key);
	if (partner)
		add_ending(partner, flags);
	if (!is_over(before) && is_over(before | flags) && (reply || !(flags & CONNECTION_RESET)))
		take_place(reply ? &key : &packet->flow, tick);
}
