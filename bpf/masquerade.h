/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A client that must be seen as this node, so that the endpoint's replies come back through it. */
#pragma once

#include "choose.h"
#include "conntrack.h"
#include "embryo.h"
#include "way.h"

/* By userspace: ports that neither the node's own sockets nor node ports use. */
const volatile __u32 masquerade_port_first = 1024;
const volatile __u32 masquerade_port_count = 28976;

#define MASQUERADE_TRIES 32
#define MASQUERADE_STEP 0x9E3779B1U /* 2^32 / golden ratio: tries lie far apart, whatever the count */

static __always_inline bool needs_masquerade(const struct flow *flow, const struct choice *choice, int hook)
{
	return same_address(&flow->source, &choice->address) ||
	       (hook == FROM_NETWORK && !(choice->flags & (ENDPOINT_LOCAL | ENDPOINT_TUNNELLED)));
}

static __always_inline bool needs_tunnel(const struct flow *flow, const struct choice *choice, int hook)
{
	return hook == FROM_NETWORK && (choice->flags & ENDPOINT_TUNNELLED) && !needs_masquerade(flow, choice, hook);
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

/* Whether the connection at `key`, another one's, is over. */
static __always_inline bool is_left(const struct flow *key, const struct connection *there, __u32 tick)
{
	if (!is_reply(there))
		return false;
	return key->protocol == IPPROTO_UDP ? is_silent(key, there, tick) : is_over(there->flags);
}

/* The flow has an embryo already, whose hint was lost, and this packet goes on with it. */
static __always_inline void take_up(struct embryo *embryo, const struct embryo *before)
{
	embryo->born_tick = before->born_tick;
	embryo->flags |= before->flags & ~CONNECTION_TUNNELLED; /* as it goes from now on */
	embryo->packets = before->packets;
	embryo->answers = before->answers;
	embryo->bytes += before->bytes;
	embryo->answer_bytes = before->answer_bytes;
	if (embryo->packets < 255)
		embryo->packets++;
}

static __always_inline enum drop_reason put_embryo(const struct flow *flow, struct pair *pair)
{
	struct embryo *there;

	if (!bpf_map_update_elem(&embryos, &pair->partner_key, &pair->embryo, BPF_NOEXIST))
		return DROP_NONE;
	there = bpf_map_lookup_elem(&embryos, &pair->partner_key);
	if (there && !is_over(there->flags)) {
		if (!is_embryo_of(there, flow)) {
			pair->gives_way = pair->embryo.seen_tick - there->seen_tick > EMBRYO_TICKS;
			return DROP_PORTS_EXHAUSTED;
		}
		if (there->endpoint == pair->embryo.endpoint && there->generation == pair->embryo.generation) {
			take_up(&pair->embryo, there);
			pair->is_known = true;
		}
	}
	return bpf_map_update_elem(&embryos, &pair->partner_key, &pair->embryo, BPF_ANY) ? DROP_CONNECTIONS_FULL
											 : DROP_NONE;
}

/*
 * Takes pair->partner_key for the flow. DROP_PORTS_EXHAUSTED: it is another's. Where the endpoint's entry is still
 * there, and only the client's was thrown out, the flow is a connection at once.
 */
static __noinline int claim(struct __sk_buff *skb, const struct flow *flow, struct pair *pair)
{
	struct connection *there;

	if (!flow || !pair)
		return DROP_CONNECTIONS_FULL;
	there = bpf_map_lookup_elem(&connections, &pair->partner_key);
	if (there && is_reply(there) && answers(there, flow)) {
		make_both(flow, pair);
		return promote(flow, pair) ? DROP_NONE : DROP_CONNECTIONS_FULL;
	}
	if (kernel_answers_with(skb, &pair->partner_key))
		return DROP_PORTS_EXHAUSTED;
	if (!there)
		return put_embryo(flow, pair);
	if (!is_left(&pair->partner_key, there, pair->embryo.seen_tick))
		return DROP_PORTS_EXHAUSTED;
	bpf_map_delete_elem(&connections, &pair->partner_key);
	return put_embryo(flow, pair);
}

/* Finds a free source port for the source that the key has, and takes it; if there is none, one that gives way. */
static __noinline int take_source_port(struct __sk_buff *skb, const struct flow *flow, struct pair *pair, __u64 hash)
{
	__u32 first = masquerade_port_first, count = masquerade_port_count;
	__u32 mix = (__u32)(hash >> 20), reason;
	__u32 own, port, yielded = 0;

	if (!flow || !pair || !count)
		return DROP_PORTS_EXHAUSTED;
	own = bpf_ntohs(flow->source_port);
	port = own - first < count ? own : first + mix % count;
	pair->embryo.flags |= CONNECTION_MASQUERADED;
	for (int try = 1; try <= MASQUERADE_TRIES; try++) {
		pair->partner_key.destination_port = bpf_htons(port);
		pair->gives_way = false;
		reason = claim(skb, flow, pair);
		if (reason != DROP_PORTS_EXHAUSTED)
			return reason;
		if (!yielded && pair->gives_way)
			yielded = port;
		port = first + (mix + try * MASQUERADE_STEP) % count;
	}
	if (!yielded)
		return DROP_PORTS_EXHAUSTED;
	pair->partner_key.destination_port = bpf_htons(yielded);
	return bpf_map_update_elem(&embryos, &pair->partner_key, &pair->embryo, BPF_ANY) ? DROP_CONNECTIONS_FULL
											 : DROP_NONE;
}
