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

/* The key is taken, but by this very flow: its own partner outlived it in the LRU. */
static __always_inline bool is_own_partner(const struct flow *flow, const struct flow *key)
{
	struct connection *there = bpf_map_lookup_elem(&connections, key);

	return there && is_reply(there) && there->destination_port == flow->source_port &&
	       there->source_port == flow->destination_port && same_address(&there->destination, &flow->source) &&
	       same_address(&there->source, &flow->destination);
}

/* Finds a free source port and takes it by inserting the partner. */
static __noinline int take_masquerade_port(const struct flow *flow, struct pair *pair, __u64 hash)
{
	__u32 first = masquerade_port_first, count = masquerade_port_count;
	__u32 mix = (__u32)(hash >> 20), stride = (hash & 0xffff) | 1;
	__u32 own, port;

	if (!flow || !pair || !count)
		return DROP_PORTS_EXHAUSTED;
	own = bpf_ntohs(flow->source_port);
	port = own - first < count ? own : first + mix % count;
	for (int try = 1; try <= MASQUERADE_TRIES; try++) {
		pair->entry.source_port = bpf_htons(port);
		make_partner(flow, &pair->entry, pair);
		if (!bpf_map_update_elem(&connections, &pair->partner_key, &pair->partner, BPF_NOEXIST))
			return DROP_NONE;
		if (is_own_partner(flow, &pair->partner_key) &&
		    !bpf_map_update_elem(&connections, &pair->partner_key, &pair->partner, BPF_ANY))
			return DROP_NONE;
		port = first + (mix + try * stride) % count;
	}
	return DROP_PORTS_EXHAUSTED;
}
