/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Time in ticks: see TICK_SHIFT. */
#pragma once

#include "types.h"
#include <bpf/bpf_helpers.h>

static __always_inline __u32 current_tick(void)
{
	return bpf_ktime_get_coarse_ns() >> TICK_SHIFT;
}
