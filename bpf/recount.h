/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Counting open connections afresh, for userspace, while services are balanced by them. What opens or ends meanwhile
 * may be counted or not, until the next time.
 */
#pragma once

#include "connection.h"
#include "unused.h"

#define TCP_UNSEEN_TICKS 6706 /* two hours: longer than keepalives wait by default */
#define TCP_CLOSING_TICKS 120 /* one side has ended it: the other's FIN was lost, or will not come */
#define UDP_UNSEEN_TICKS 30   /* most UDP flows are a question and its answer */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 262144);
	__type(key, __u32);
	__type(value, __u32);
} recounted SEC(".maps");

static __always_inline bool is_unseen(const struct flow *flow, const struct connection *entry, __u32 tick)
{
	__u32 limit = entry->flags & CONNECTION_CLOSED_BY_BOTH ? TCP_CLOSING_TICKS : TCP_UNSEEN_TICKS;

	if (flow->protocol == IPPROTO_UDP)
		limit = UDP_UNSEEN_TICKS;
	return entry->seen_tick && tick - entry->seen_tick > limit;
}

/*
 * One side that is seen is enough. Looking for the other one marks it as used, to the LRU: only while it may be seen.
 */
static __always_inline bool goes_on(const struct flow *flow, const struct connection *entry, __u32 tick)
{
	struct connection *partner;
	struct flow key;

	if (is_over(entry->flags))
		return false;
	if (!is_unseen(flow, entry, tick))
		return true;
	if (!(entry->flags & CONNECTION_COUNTED))
		return false;
	partner = find_partner(flow, entry, &key);
	return partner && !is_unseen(flow, partner, tick);
}

/* Where to count what an endpoint has; NULL: it is not counted, or gone. */
static __always_inline __u32 *count_of(__u32 index, __u32 generation)
{
	struct endpoint *endpoint = same_endpoint(index, generation);

	return endpoint && (endpoint->flags & ENDPOINT_COUNTED) ? bpf_map_lookup_elem(&recounted, &index) : NULL;
}

static long recount_connection(UNUSED void *map, const struct flow *flow, struct connection *entry, const __u32 *tick)
{
	__u32 *count;

	if (is_reply(entry))
		return 0;
	count = count_of(entry->endpoint, entry->generation);
	if (!count)
		return 0;
	if (!goes_on(flow, entry, *tick)) {
		__sync_fetch_and_and(&entry->flags, ~(__u32)CONNECTION_COUNTED);
		return 0;
	}
	(*count)++;
	__sync_fetch_and_or(&entry->flags, CONNECTION_COUNTED);
	return 0;
}

static long recount_embryo(UNUSED void *map, const struct flow *key, struct embryo *embryo, const __u32 *tick)
{
	__u32 *count;

	if (key->protocol != IPPROTO_UDP)
		return 0;
	count = count_of(embryo->endpoint, embryo->generation);
	if (!count)
		return 0;
	if (*tick - embryo->seen_tick > UDP_UNSEEN_TICKS) {
		embryo->flags &= ~CONNECTION_COUNTED;
		return 0;
	}
	(*count)++;
	embryo->flags |= CONNECTION_COUNTED;
	return 0;
}

/* Leaves nothing behind for the next time. */
static long publish(UNUSED void *map, __u32 *key, struct load *load, UNUSED void *context)
{
	__u32 index = *key, *count;
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &index);

	if (!endpoint || !(endpoint->flags & ENDPOINT_COUNTED))
		return 0;
	count = bpf_map_lookup_elem(&recounted, &index);
	if (!count)
		return 0;
	*load = (struct load){.generation = endpoint->generation, .open = *count};
	*count = 0;
	return 0;
}
