/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Hashes that endpoints are chosen by: of flows, on this node and on all of them. */
#pragma once

#include "types.h"
#include <bpf/bpf_endian.h>
#include <stdbool.h>

/* By userspace: the same as long as the node's pins live, so that a flow thrown out of the LRU finds its endpoint again. */
const volatile __u64 hash_seed = 0;

#define HASH_MULTIPLIER 0x9E3779B97F4A7C15ULL /* 2^64 / golden ratio */

static __always_inline __u64 mix(__u64 hash, __u32 word)
{
	hash = (hash ^ word) * HASH_MULTIPLIER;
	return hash ^ hash >> 32;
}

/* The word of both ports, without the client's. */
#define PORTS_WORD (2 * ADDRESS_WORDS)
#define SERVICE_PORT_ONLY bpf_htonl(0x0000ffff)

static __always_inline __u64 hash_words(__u64 hash, const struct flow *flow, __u32 of_ports)
{
	const __u32 *word = (const __u32 *)flow;

#pragma unroll
	for (int i = 0; i < (int)(sizeof(*flow) / sizeof(*word)); i++)
		hash = mix(hash, i == PORTS_WORD ? word[i] & of_ports : word[i]);
	return hash;
}

static __always_inline __u64 hash_flow(const struct flow *flow)
{
	return hash_words(hash_seed, flow, ~0U);
}

/* No node's own: packets of a flow that come in by another node find the same endpoint. */
#define HASH_SEED_EVERYWHERE 0x6C078965C0FFEE01ULL

/* `by_client`: all flows of one client to a service's address are one. */
static __always_inline __u64 hash_everywhere(const struct flow *flow, bool by_client)
{
	return hash_words(HASH_SEED_EVERYWHERE, flow, by_client ? SERVICE_PORT_ONLY : ~0U);
}

/* A number below `limit`, by the hash's upper half. */
static __always_inline __u32 below(__u32 limit, __u64 hash)
{
	return ((hash >> 32) * limit) >> 32;
}
