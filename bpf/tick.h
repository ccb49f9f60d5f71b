/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Time in ticks (TICK_SHIFT), and how long a UDP flow may be silent. */
#pragma once

#include "types.h"
#include <bpf/bpf_helpers.h>
#include <stdbool.h>

#define UDP_IDLE_TICKS 120

static __always_inline __u32 current_tick(void)
{
	return bpf_ktime_get_coarse_ns() >> TICK_SHIFT;
}

/* What has no time yet isn't idle. */
static __always_inline bool is_idle_since(__u32 seen_tick, __u32 tick)
{
	return seen_tick && tick - seen_tick > UDP_IDLE_TICKS;
}
