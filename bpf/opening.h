/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which new flows become ours: all, but when others that stand behind these programs still have flows to a service, and
 * when another plane carries the services from now on.
 */
#pragma once

#include "maps.h"
#include <stdbool.h>

enum opening {
	OPENING_ALL,     /* as always */
	OPENING_STARTS,  /* what says that it is new: the others have no such flow */
	OPENING_NOTHING, /* only known flows are handled */
};

MAP(opening, BPF_MAP_TYPE_ARRAY, __u32, __u32, 1, 0);

/* `starts`: what wants to begin says itself that it is new. */
static __always_inline bool may_open(bool starts)
{
	__u32 zero = 0;
	const __u32 *allowed = bpf_map_lookup_elem(&opening, &zero);

	if (!allowed || *allowed == OPENING_ALL)
		return true;
	return *allowed == OPENING_STARTS && starts;
}
