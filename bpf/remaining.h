/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is left of flows, while no new ones begin here (`opening`) because another plane carries the services. An
 * endpoint's packets of that plane's flows must not meet the entry of one that is over: so those are deleted.
 */
#pragma once

#include "recount.h"

#define LAST_PACKETS_TICKS 10 /* of a connection that is over: they may be lost, and sent again */

struct remaining {
	__u32 tick;
	__u32 count;
};

/* An entry that its partner made anew, and which was not used since, was not seen. */
static __always_inline bool was_seen(const struct flow *flow, const struct connection *entry, __u32 tick)
{
	__u32 limit = entry->flags & CONNECTION_CLOSED_BY_BOTH ? TCP_CLOSING_TICKS : TCP_UNSEEN_TICKS;

	if (flow->protocol == IPPROTO_UDP)
		limit = UDP_IDLE_TICKS;
	return entry->seen_tick && tick - entry->seen_tick <= limit;
}

static __always_inline bool remains(const struct flow *flow, const struct connection *entry, __u32 tick)
{
	struct connection *partner;
	struct flow key;

	if (was_seen(flow, entry, tick))
		return true;
	partner = find_partner(flow, entry, &key);
	return partner && was_seen(flow, partner, tick);
}

static long remaining_connection(UNUSED void *map, const struct flow *flow, struct connection *entry,
				 struct remaining *remaining)
{
	__u32 tick = remaining->tick;

	if (is_over(entry->flags) ? tick - entry->seen_tick <= LAST_PACKETS_TICKS : remains(flow, entry, tick))
		remaining->count += !is_reply(entry);
	else
		bpf_map_delete_elem(&connections, flow);
	return 0;
}

static long remaining_embryo(UNUSED void *map, const struct flow *key, struct embryo *embryo,
			     struct remaining *remaining)
{
	__u32 limit = is_over(embryo->flags) ? LAST_PACKETS_TICKS : UDP_IDLE_TICKS;

	if (remaining->tick - embryo->seen_tick <= limit)
		remaining->count++;
	else
		bpf_map_delete_elem(&embryos, key);
	return 0;
}
