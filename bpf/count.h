/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counters: per CPU, so plain additions. */
#pragma once

#include "maps.h"
#include <stdbool.h>

static __always_inline void count_drop(__u32 reason)
{
	__u64 *count = bpf_map_lookup_elem(&drops, &reason);

	if (count)
		(*count)++;
}

static __always_inline void count_refused(__u32 service)
{
	struct service_counters *count = bpf_map_lookup_elem(&counters, &service);

	if (count)
		count->refused++;
}

/* A socket's, whose packets go by unseen, or one whose first packet is counted as every other. */
static __always_inline void count_opened(__u32 service)
{
	struct service_counters *count = bpf_map_lookup_elem(&counters, &service);

	if (count)
		count->connections++;
}

/* A connection, with its first packet. */
static __always_inline void count_connection(__u32 service, __u32 length)
{
	struct service_counters *count = bpf_map_lookup_elem(&counters, &service);

	if (!count)
		return;
	count->connections++;
	count->packets_in++;
	count->bytes_in += length;
}

static __always_inline void count_for_service(__u32 service, bool reply, __u32 length)
{
	struct service_counters *count = bpf_map_lookup_elem(&counters, &service);

	if (!count)
		return;
	if (reply) {
		count->packets_out++;
		count->bytes_out += length;
	} else {
		count->packets_in++;
		count->bytes_in += length;
	}
}

static __always_inline void count_packet(struct connection *connection, __u32 length)
{
	connection->packets++;
	connection->bytes += length;
	count_for_service(connection->service, connection->flags & CONNECTION_REPLY, length);
}
