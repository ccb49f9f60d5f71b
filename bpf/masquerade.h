/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A client that must be seen as this node, so that the endpoint's replies come back through it. */
#pragma once

#include "choose.h"
#include "connection.h"
#include "way.h"

/* By userspace: ports that neither the node's own sockets nor node ports use. */
const volatile __u32 masquerade_port_first = 1024;
const volatile __u32 masquerade_port_count = 28976;

#define MASQUERADE_TRIES 32
#define MASQUERADE_STEP 0x9E3779B1U /* 2^32 / golden ratio: tries lie far apart, whatever the count */

static __always_inline bool needs_masquerade(const struct flow *flow, const struct choice *choice, int hook)
{
	return same_address(&flow->source, &choice->address) ||
	       (hook == FROM_NETWORK && !(choice->flags & ENDPOINT_LOCAL));
}

static __always_inline bool masquerade_address(__u32 device, struct address *address)
{
	struct device *entry = bpf_map_lookup_elem(&devices, &device);

	if (!entry || !(entry->flags & DEVICE_MASQUERADE))
		return false;
	*address = entry->address;
	return true;
}

/* UDP has no end but silence, of both sides. `key` is where the endpoint's entry stands. */
static __always_inline bool is_silent(const struct flow *key, const struct connection *entry, __u32 tick)
{
	struct connection *client;
	struct flow client_key;

	if (!is_idle(entry, tick))
		return false;
	client = find_partner(key, entry, &client_key);
	return !client || is_idle(client, tick);
}

/* The partner's key is taken: by this very flow, whose own entry was thrown out, or by a flow that is over. */
static __always_inline bool is_free_for(const struct flow *flow, const struct flow *key, __u32 tick)
{
	struct connection *there = bpf_map_lookup_elem(&connections, key);

	if (!there || !is_reply(there))
		return false;
	if (answers(there, flow))
		return true;
	return flow->protocol == IPPROTO_UDP ? is_silent(key, there, tick) : is_over(there);
}

static __always_inline bool insert_partner(const struct flow *flow, struct pair *pair, __u32 tick)
{
	make_partner(flow, &pair->entry, pair);
	if (!bpf_map_update_elem(&connections, &pair->partner_key, &pair->partner, BPF_NOEXIST))
		return true;
	return is_free_for(flow, &pair->partner_key, tick) &&
	       !bpf_map_update_elem(&connections, &pair->partner_key, &pair->partner, BPF_ANY);
}

/* Finds a free source port for the source that the entry has, and takes it by inserting the partner. */
static __noinline int take_source_port(const struct flow *flow, struct pair *pair, __u64 hash, __u32 tick)
{
	__u32 first = masquerade_port_first, count = masquerade_port_count;
	__u32 mix = (__u32)(hash >> 20);
	__u32 own, port;

	if (!flow || !pair || !count)
		return DROP_PORTS_EXHAUSTED;
	own = bpf_ntohs(flow->source_port);
	port = own - first < count ? own : first + mix % count;
	pair->entry.flags |= CONNECTION_MASQUERADED;
	for (int try = 1; try <= MASQUERADE_TRIES; try++) {
		pair->entry.source_port = bpf_htons(port);
		if (insert_partner(flow, pair, tick))
			return DROP_NONE;
		port = first + (mix + try * MASQUERADE_STEP) % count;
	}
	return DROP_PORTS_EXHAUSTED;
}
