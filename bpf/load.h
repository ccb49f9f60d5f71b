/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How many open connections an endpoint has: counted as they open and end, and counted afresh now and then (recount.h),
 * for what the LRU throws out and what ends without a word is seen by nobody.
 */
#pragma once

#include "endpoint.h"
#include "maps.h"
#include "unused.h"

#define LOAD_UNKNOWN 0xFFFFFFFFU /* of who is not there: nobody has more */

static __always_inline __u32 load_of(__u32 index)
{
	struct endpoint *endpoint = live_endpoint(index);
	struct load *load = bpf_map_lookup_elem(&loads, &index);

	if (!endpoint || !load)
		return LOAD_UNKNOWN;
	return load->generation == endpoint->generation && load->open > 0 ? load->open : 0;
}

static __always_inline bool is_over(__u32 flags)
{
	return (flags & CONNECTION_RESET) || (flags & CONNECTION_CLOSED_BY_BOTH) == CONNECTION_CLOSED_BY_BOTH;
}

static __always_inline bool is_open_and_counted(__u32 flags)
{
	return (flags & CONNECTION_COUNTED) && !is_over(flags);
}

/* A function of its own, for its caller's stack; few connections are counted. */
static __noinline UNUSED int change_load(__u32 index, __u32 generation, __s32 difference)
{
	struct load *load = bpf_map_lookup_elem(&loads, &index);

	if (!load)
		return 0;
	if (load->generation == generation)
		__sync_fetch_and_add(&load->open, difference);
	else if (difference > 0) /* the first of an endpoint that was given this index */
		*load = (struct load){.generation = generation, .open = difference};
	return 0;
}

/* A TCP flow has become a connection, or a UDP flow has begun: of those most have a packet each way, and no more. */
static __always_inline void add_to_load(__u32 index, __u32 generation, __u32 flags)
{
	if (is_open_and_counted(flags))
		change_load(index, generation, 1);
}

/* A connection is over, or forgotten, that had these flags until now. */
static __always_inline void take_from_load(const struct connection *entry, __u32 flags)
{
	if (is_open_and_counted(flags))
		change_load(entry->endpoint, entry->generation, -1);
}
