/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Connections: two entries each, one for the client's packets and one for the endpoint's; each names the other. */
#pragma once

#include "checksum.h"
#include "endpoint.h"
#include "load.h"
#include "maps.h"
#include "packet.h"
#include "tick.h"
#include "unused.h"

#define UDP_IDLE_TICKS 120

/* A flow's entries are put together here: the stack of 512 bytes has no room for them in IPv6. */
struct pair {
	struct flow partner_key; /* of both the partner and the embryo */
	struct connection entry;
	struct connection partner;
	struct embryo embryo;
	struct address tunnel_source;
	__u32 masquerade_device; /* 0: the source is the client's own */
	bool is_known;           /* the embryo was there before */
	bool gives_way;          /* the key is taken by a flow that would give it up */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pair);
} pairs SEC(".maps");

/* Not zeroed, which would cost a new flow as much as a look-up: whatever makes a part of it, writes all of that part. */
static __always_inline struct pair *scratch_pair(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&pairs, &zero);
}

static __always_inline bool is_reply(const struct connection *connection)
{
	return connection->flags & CONNECTION_REPLY;
}

static __always_inline bool is_tunnelled(__u32 connection_flags)
{
	return connection_flags & CONNECTION_TUNNELLED;
}

/* Of what goes by a tunnel, the endpoint's FIN is never seen: who comes again by that port after the client's begins anew. */
static __always_inline __u32 ending_of(__u32 connection_flags, __u32 ending)
{
	return is_tunnelled(connection_flags) && (ending & CONNECTION_FIN_CLIENT) ? ending | CONNECTION_FIN_ENDPOINT
										  : ending;
}

/* A SYN (an INIT) alone opens a connection; with ACK it is an endpoint's answer to one. */
static __always_inline bool opens(const struct packet *packet)
{
	return (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static __always_inline void set_differences(const struct flow *from, struct connection *to)
{
	__u64 sum = 0;

	to->address_difference = fold(sum_address(&to->source) + sum_address(&to->destination) +
				      (__u16)~fold(sum_address(&from->source) + sum_address(&from->destination)));
	sum = (__u32)to->source_port + to->destination_port;
	to->port_difference = fold(sum + (__u16)~fold((__u32)from->source_port + from->destination_port));
}

static __always_inline void partner_key(const struct connection *entry, __u8 protocol, struct flow *key)
{
	key->source = entry->destination;
	key->destination = entry->source;
	key->source_port = entry->destination_port;
	key->destination_port = entry->source_port;
	key->protocol = protocol;
	__builtin_memset(key->zero, 0, sizeof(key->zero));
}

/* The entry of the other direction: it undoes what `entry` does to packets of `flow`. */
static __always_inline void make_partner(const struct flow *flow, const struct connection *entry, struct pair *pair)
{
	struct connection *partner = &pair->partner;

	partner_key(entry, flow->protocol, &pair->partner_key);
	partner->source = flow->destination;
	partner->destination = flow->source;
	partner->source_port = flow->destination_port;
	partner->destination_port = flow->source_port;
	set_differences(&pair->partner_key, partner);
	partner->endpoint = entry->endpoint;
	partner->generation = entry->generation;
	partner->service = entry->service;
	partner->flags = entry->flags ^ CONNECTION_REPLY;
	partner->seen_tick = 0;
	partner->way = (struct way){};
	partner->packets = 0;
	partner->bytes = 0;
}

/* Whether an entry makes packets of the flow that answers `flow`: the key alone may be another connection's by now. */
static __always_inline bool answers(const struct connection *entry, const struct flow *flow)
{
	return entry->source_port == flow->destination_port && entry->destination_port == flow->source_port &&
	       same_address(&entry->source, &flow->destination) && same_address(&entry->destination, &flow->source);
}

static __always_inline struct connection *find_partner(const struct flow *flow, const struct connection *entry,
						       struct flow *key)
{
	struct connection *partner;

	partner_key(entry, flow->protocol, key);
	partner = bpf_map_lookup_elem(&connections, key);
	return partner && answers(partner, flow) ? partner : NULL;
}

static __always_inline void forget(const struct flow *flow, const struct connection *entry)
{
	struct flow key;

	take_from_load(entry, entry->flags);
	if (find_partner(flow, entry, &key))
		bpf_map_delete_elem(&connections, &key);
	bpf_map_delete_elem(&connections, flow);
}

/*
 * The LRU may have thrown out one entry of a living connection: put it back while the other is in use. Looking comes
 * first, as it also marks the entry as used, and an update takes a free element before it finds that there is one.
 */
static __noinline UNUSED int keep_partner(const struct flow *flow, const struct connection *entry)
{
	struct pair *pair;
	struct flow key;

	if (!flow || !entry)
		return 0;
	partner_key(entry, flow->protocol, &key);
	if (bpf_map_lookup_elem(&connections, &key) || bpf_map_lookup_elem(&embryos, &key))
		return 0;
	pair = scratch_pair();
	if (!pair)
		return 0;
	make_partner(flow, entry, pair);
	bpf_map_update_elem(&connections, &pair->partner_key, &pair->partner, BPF_NOEXIST);
	return 0;
}

/* What the packet tells of its connection's end. `reply`: it is the endpoint's. */
static __always_inline __u32 ending(const struct packet *packet, bool reply)
{
	__u32 flags = 0;

	if (packet->tcp_flags & TCP_RST)
		flags |= CONNECTION_RESET;
	if (packet->tcp_flags & TCP_FIN)
		flags |= reply ? CONNECTION_FIN_ENDPOINT : CONNECTION_FIN_CLIENT;
	return flags;
}

/* The client's entry tells whether the connection is over by this: one of two that say so at once. */
static __always_inline void add_ending(struct connection *entry, __u32 flags)
{
	__u32 before = __sync_fetch_and_or(&entry->flags, flags);

	if (!is_reply(entry) && is_over(before | flags))
		take_from_load(entry, before);
}

/* An entry made anew by its partner has no time yet. */
static __always_inline bool is_idle(const struct connection *entry, __u32 tick)
{
	return entry->seen_tick && tick - entry->seen_tick > UDP_IDLE_TICKS;
}

enum fate {
	FATE_GOES_ON,
	FATE_BEGINS_ANEW, /* a new flow with an old one's five-tuple */
	FATE_ENDPOINT_GONE,
};

/* Whether a packet may go on as its entry says; a client's, to the endpoint that its connection has. */
static __always_inline enum fate fate_of(const struct packet *packet, const struct connection *entry, __u32 tick)
{
	struct endpoint *endpoint;

	if (is_reply(entry))
		/* An endpoint takes up a connection that did not begin here, by a key that is left of another one. */
		return (packet->tcp_flags & TCP_SYN) && is_over(entry->flags) ? FATE_BEGINS_ANEW : FATE_GOES_ON;
	endpoint = same_endpoint(entry->endpoint, entry->generation);
	if (!endpoint)
		return packet->flow.protocol != IPPROTO_UDP && !opens(packet) ? FATE_ENDPOINT_GONE : FATE_BEGINS_ANEW;
	if (opens(packet))
		return is_over(entry->flags) || (endpoint->flags & ENDPOINT_DRAINING) ? FATE_BEGINS_ANEW : FATE_GOES_ON;
	if (packet->flow.protocol != IPPROTO_UDP)
		return FATE_GOES_ON;
	return (endpoint->flags & ENDPOINT_SILENT) || is_idle(entry, tick) ? FATE_BEGINS_ANEW : FATE_GOES_ON;
}
