/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A new flow's endpoint: by the service's source ranges, its clients' affinity, and its slots. */
#pragma once

#include "endpoint.h"
#include "maps.h"
#include <bpf/bpf_endian.h>
#include <linux/in.h>

/* By userspace: the same as long as the node's pins live, so that a flow thrown out of the LRU finds its endpoint again. */
const volatile __u64 hash_seed = 0;

#define HASH_MULTIPLIER 0x9E3779B97F4A7C15ULL /* 2^64 / golden ratio */

static __always_inline __u64 mix(__u64 hash, __u32 word)
{
	hash = (hash ^ word) * HASH_MULTIPLIER;
	return hash ^ hash >> 32;
}

static __always_inline __u64 hash_flow(const struct flow *flow)
{
	const __u32 *word = (const __u32 *)flow;
	__u64 hash = hash_seed;

#pragma unroll
	for (int i = 0; i < (int)(sizeof(*flow) / sizeof(*word)); i++)
		hash = mix(hash, word[i]);
	return hash;
}

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

static __always_inline enum drop_reason choose_by_slot(const struct slot_range *range, __u64 hash,
						       struct choice *choice)
{
	__u32 index = range->first + (__u32)(((hash >> 32) * range->count) >> 32);
	struct slot *slot = bpf_map_lookup_elem(&slots, &index);
	__u32 endpoint;

	if (!slot)
		return DROP_NO_ENDPOINT;
	endpoint = (__u32)hash < slot->threshold ? slot->endpoint : slot->alias;
	if (endpoint == ENDPOINT_REJECT)
		return DROP_REJECT_SHARE;
	return take_endpoint(endpoint, choice) ? DROP_NONE : DROP_NO_ENDPOINT;
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
