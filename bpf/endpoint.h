/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Endpoints as connections and sockets remember them: by index and generation. */
#pragma once

#include "maps.h"
#include <stdbool.h>

static __always_inline struct endpoint *live_endpoint(__u32 index)
{
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &index);

	return endpoint && (endpoint->flags & ENDPOINT_LIVE) ? endpoint : NULL;
}

/* NULL: it is gone, and its index may be another's by now. */
static __always_inline struct endpoint *same_endpoint(__u32 index, __u32 generation)
{
	struct endpoint *endpoint = live_endpoint(index);

	return endpoint && endpoint->generation == generation ? endpoint : NULL;
}
