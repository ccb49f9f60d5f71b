/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A new flow's endpoint: by the service's source ranges, its clients' affinity, and its slots. */
#pragma once

#include "endpoint.h"
#include "hash.h"
#include "least.h"
#include "maglev.h"
#include "maps.h"
#include <bpf/bpf_endian.h>
#include <linux/in.h>

struct choice {
	__u32 endpoint;
	__u32 generation;
	__u32 flags;
	__be16 port;
	struct address address;
};

static __always_inline struct service *find_service(const struct flow *flow)
{
	struct frontend frontend = {
		.address = flow->destination,
		.port = flow->destination_port,
		.protocol = flow->protocol,
	};

	return bpf_map_lookup_elem(&services, &frontend);
}

static __always_inline bool source_allowed(const struct service *service, const struct flow *flow)
{
	struct source_range key = {
		.prefix_length = 32 + 32 * ADDRESS_WORDS,
		.service = bpf_htonl(service->id),
		.address = flow->source,
	};

	return bpf_map_lookup_elem(&source_ranges, &key);
}

static __always_inline bool take_endpoint(__u32 index, struct choice *choice)
{
	struct endpoint *endpoint = live_endpoint(index);

	if (!endpoint)
		return false;
	choice->endpoint = index;
	choice->generation = endpoint->generation;
	choice->flags = endpoint->flags;
	choice->port = endpoint->port;
	choice->address = endpoint->address;
	return true;
}

static __always_inline bool choose_by_affinity(const struct service *service, const struct flow *flow, __u32 tick,
					       struct choice *choice)
{
	struct affinity_key key = {.service = service->id, .client = flow->source};
	struct affinity *affinity = bpf_map_lookup_elem(&affinities, &key);

	return affinity && tick - affinity->seen_tick <= service->affinity_ticks &&
	       take_endpoint(affinity->endpoint, choice) && choice->generation == affinity->generation &&
	       !(choice->flags & ENDPOINT_DRAINING);
}

static __always_inline void remember_affinity(const struct service *service, const struct flow *flow, __u32 tick,
					      const struct choice *choice)
{
	struct affinity_key key = {.service = service->id, .client = flow->source};
	struct affinity affinity = {
		.endpoint = choice->endpoint,
		.generation = choice->generation,
		.seen_tick = tick,
	};

	bpf_map_update_elem(&affinities, &key, &affinity, BPF_ANY);
}

/* What a slot names. */
static __always_inline enum drop_reason take_choice(__u32 endpoint, struct choice *choice)
{
	if (endpoint == ENDPOINT_REJECT)
		return DROP_REJECT_SHARE;
	return take_endpoint(endpoint, choice) ? DROP_NONE : DROP_NO_ENDPOINT;
}

static __always_inline enum drop_reason choose_by_slot(const struct slot_range *range, __u64 hash,
						       struct choice *choice)
{
	__u32 index = range->first + below(range->count, hash);
	struct slot *slot = bpf_map_lookup_elem(&slots, &index);

	if (!slot)
		return DROP_NO_ENDPOINT;
	return take_choice((__u32)hash < slot->threshold ? slot->endpoint : slot->alias, choice);
}

static __always_inline enum drop_reason choose_by_maglev(const struct slot_range *range, __u64 hash,
							 struct choice *choice)
{
	__u32 *endpoint = maglev_slot(range->first, below(range->count, hash));

	return endpoint ? take_choice(*endpoint, choice) : DROP_NO_ENDPOINT;
}

/* What an endpoint is chosen for a packet by; `hash` is this node's of the flow. */
static __always_inline __u64 hash_for_choice(const struct service *service, const struct flow *flow, __u64 hash)
{
	return service->flags & SERVICE_MAGLEV ? hash_everywhere(flow, service->affinity_ticks) : hash;
}

/*
 * DROP_NONE, and `choice` is filled; else why there is no endpoint for this flow. `outside`: the client is in the
 * network, not on this node.
 */
static __always_inline enum drop_reason choose(const struct service *service, const struct flow *flow, bool outside,
					       __u64 hash, __u32 tick, struct choice *choice)
{
	const struct slot_range *range = outside ? &service->outside : &service->inside;
	__u32 drop_when_empty = outside ? SERVICE_DROP_OUTSIDE : SERVICE_DROP_INSIDE;
	enum drop_reason reason;

	if (outside && (service->flags & SERVICE_SOURCE_RANGES) && !source_allowed(service, flow))
		return DROP_SOURCE_RANGE;
	if (!range->count)
		return service->flags & drop_when_empty ? DROP_POLICY_LOCAL : DROP_NO_ENDPOINT;
	if (service->affinity_ticks && choose_by_affinity(service, flow, tick, choice))
		reason = DROP_NONE;
	else if (service->flags & SERVICE_MAGLEV)
		reason = choose_by_maglev(range, hash, choice);
	else if (service->flags & SERVICE_LEAST_CONNECTIONS)
		reason = take_choice(least_of_two(range, hash), choice);
	else
		reason = choose_by_slot(range, hash, choice);
	if (reason == DROP_NONE && service->affinity_ticks)
		remember_affinity(service, flow, tick, choice);
	return reason;
}

/* Refused: the client is told. Else the packet is dropped in silence. */
static __always_inline bool is_refused(const struct service *service, const struct flow *flow, enum drop_reason reason)
{
	if (reason == DROP_REJECT_SHARE)
		return flow->protocol != IPPROTO_UDP || !(service->flags & SERVICE_DROP_UDP_REJECTS);
	return reason == DROP_NO_ENDPOINT;
}
