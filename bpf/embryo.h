/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flows that may be nothing but a flood. One entry in a table of their own is all that they get, so that they throw
 * out each other, and no connection. A flow is promoted to a connection when its client sends on after an answer: a
 * SYN alone, with a made-up source, gets an answer, too.
 */
#pragma once

#include "choose.h"
#include "connection.h"

#define EMBRYO_TICKS 2    /* a UDP flow that lasts longer may have no answers; one unseen for longer gives way */
#define EMBRYO_PACKETS 32 /* so many of one side are no flood of new flows */

/* By userspace: entries of `hints`. */
const volatile __u32 hint_count = 65536;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct hint);
} hints SEC(".maps");

static __always_inline struct hint *hint_of(__u64 hash)
{
	__u32 index = (__u64)(__u32)hash * hint_count >> 32;

	return bpf_map_lookup_elem(&hints, &index);
}

static __always_inline __u16 hint_tag(__u64 hash)
{
	return hash >> 32;
}

static __always_inline void leave_hint(__u64 hash, const struct pair *pair)
{
	struct hint *hint = hint_of(hash);

	if (hint)
		*hint = (struct hint){
			.endpoint = pair->embryo.endpoint,
			.device = pair->masquerade_device,
			.source_port = pair->partner_key.destination_port,
			.tag = hint_tag(hash),
		};
}

static __always_inline bool masquerade_address(__u32 device, struct address *address)
{
	struct device *entry = bpf_map_lookup_elem(&devices, &device);

	if (!entry || !(entry->flags & DEVICE_MASQUERADE))
		return false;
	*address = entry->address;
	return true;
}

/* The address that a tunnel's packets come from, which is told of errors on their way. */
static __always_inline bool tunnel_source(const struct __sk_buff *skb, const struct way *way, struct address *source)
{
	return masquerade_address(way->device, source) || masquerade_address(skb->ifindex, source);
}

static __always_inline bool is_embryo_of(const struct embryo *embryo, const struct flow *flow)
{
	return embryo->source_port == flow->source_port && embryo->destination_port == flow->destination_port &&
	       same_address(&embryo->source, &flow->source) && same_address(&embryo->destination, &flow->destination);
}

static __always_inline struct flow client_of(const struct embryo *embryo, __u8 protocol)
{
	return (struct flow){
		.source = embryo->source,
		.destination = embryo->destination,
		.source_port = embryo->source_port,
		.destination_port = embryo->destination_port,
		.protocol = protocol,
	};
}

/* Of a client's flow, whatever has become of slots and affinities since; `key` is where it stands. NULL: none. */
static __always_inline struct embryo *find_embryo(const struct flow *flow, __u64 hash, struct flow *key)
{
	struct hint *hint = hint_of(hash);
	struct endpoint *endpoint;
	struct embryo *embryo;

	if (!hint || hint->tag != hint_tag(hash))
		return NULL;
	endpoint = live_endpoint(hint->endpoint);
	if (!endpoint)
		return NULL;
	*key = (struct flow){
		.source = endpoint->address,
		.destination = flow->source,
		.source_port = endpoint->port,
		.destination_port = hint->source_port,
		.protocol = flow->protocol,
	};
	if (hint->device && !masquerade_address(hint->device, &key->destination))
		return NULL;
	embryo = bpf_map_lookup_elem(&embryos, key);
	if (!embryo || !is_embryo_of(embryo, flow) || embryo->endpoint != hint->endpoint ||
	    embryo->generation != endpoint->generation)
		return NULL;
	return embryo;
}

/* The client's entry of pair->embryo, which stands under pair->partner_key. */
static __always_inline void make_entry(const struct flow *flow, struct pair *pair)
{
	const struct embryo *embryo = &pair->embryo;
	struct connection *entry = &pair->entry;

	entry->source = is_tunnelled(embryo->flags) ? pair->tunnel_source : pair->partner_key.destination;
	entry->destination = pair->partner_key.source;
	entry->source_port = pair->partner_key.destination_port;
	entry->destination_port = pair->partner_key.source_port;
	entry->endpoint = embryo->endpoint;
	entry->generation = embryo->generation;
	entry->service = embryo->service;
	entry->flags = embryo->flags & ~CONNECTION_ANSWERED;
	entry->seen_tick = embryo->seen_tick;
	entry->way = embryo->way;
	entry->packets = embryo->packets;
	entry->bytes = embryo->bytes;
	set_differences(flow, entry);
}

static __always_inline void make_both(const struct flow *flow, struct pair *pair)
{
	make_entry(flow, pair);
	if (is_tunnelled(pair->embryo.flags))
		return;
	make_partner(flow, &pair->entry, pair);
	/* Seen, so that it can be idle one day, but not in this tick: its way isn't known. */
	pair->partner.seen_tick = pair->embryo.flags & CONNECTION_ANSWERED ? pair->embryo.seen_tick - 1 : 0;
	pair->partner.packets = pair->embryo.answers;
	pair->partner.bytes = pair->embryo.answer_bytes;
}

/* False: there was no room. The partner comes first: without it answers would be taken for another flow's. */
static __noinline int promote(const struct flow *flow, const struct pair *pair)
{
	bool alone;

	if (!flow || !pair)
		return false;
	alone = is_tunnelled(pair->entry.flags);
	if (!alone && bpf_map_update_elem(&connections, &pair->partner_key, &pair->partner, BPF_ANY))
		return false;
	if (bpf_map_update_elem(&connections, flow, &pair->entry, BPF_ANY)) {
		if (!alone)
			bpf_map_delete_elem(&connections, &pair->partner_key);
		return false;
	}
	bpf_map_delete_elem(&embryos, &pair->partner_key);
	if (flow->protocol != IPPROTO_UDP)
		add_to_load(pair->entry.endpoint, pair->entry.generation, pair->entry.flags);
	return true;
}

static __always_inline bool has_grown(const struct embryo *embryo)
{
	return embryo->packets >= EMBRYO_PACKETS || embryo->answers >= EMBRYO_PACKETS;
}

/* Whether this packet of the client makes a connection of its flow. */
static __always_inline bool shows_life(const struct packet *packet, const struct embryo *embryo, __u32 tick)
{
	if (has_grown(embryo))
		return true;
	if (packet->flow.protocol == IPPROTO_UDP)
		return (embryo->flags & CONNECTION_ANSWERED) || tick - embryo->born_tick > EMBRYO_TICKS;
	if (is_over(embryo->flags) || (packet->tcp_flags & TCP_SYN))
		return false;
	/* Answers of what goes by a tunnel come another way. */
	return (embryo->flags & CONNECTION_ANSWERED) || (is_tunnelled(embryo->flags) && embryo->packets > 1);
}

static __always_inline bool embryo_begins_anew(const struct packet *packet, const struct embryo *embryo, __u32 tick)
{
	struct endpoint *endpoint = live_endpoint(embryo->endpoint);

	if (!endpoint)
		return true;
	if (opens(packet))
		return is_over(embryo->flags) || (endpoint->flags & ENDPOINT_DRAINING);
	return packet->flow.protocol == IPPROTO_UDP &&
	       ((endpoint->flags & ENDPOINT_SILENT) || tick - embryo->seen_tick > UDP_IDLE_TICKS);
}

static __always_inline void add_packet(__u8 *packets, __u32 *bytes, __u32 length)
{
	if (*packets < 255)
		(*packets)++;
	*bytes += length;
}

/* What was translated by way of an embryo, for those who only look. NULL: nothing. */
static __always_inline struct connection *entry_by_embryo(const struct flow *flow, struct pair *pair)
{
	struct embryo *embryo = bpf_map_lookup_elem(&embryos, flow);
	struct flow client;

	if (embryo && !is_tunnelled(embryo->flags)) {
		pair->partner_key = *flow;
		pair->embryo = *embryo;
		client = client_of(embryo, flow->protocol);
		make_both(&client, pair);
		return &pair->partner;
	}
	embryo = find_embryo(flow, hash_flow(flow), &pair->partner_key);
	if (!embryo || is_tunnelled(embryo->flags))
		return NULL;
	pair->embryo = *embryo;
	make_entry(flow, pair);
	return &pair->entry;
}

/*
 * A living TCP connection, and a UDP flow of this tick or the one before: the client's packet may have been translated
 * just now, by us or by another version's programs before us.
 */
static __always_inline bool is_in_use(const struct flow *key, const struct connection *answer, __u32 tick)
{
	struct connection *client;
	struct flow client_key;

	if (key->protocol != IPPROTO_UDP)
		return !is_over(answer->flags);
	client = find_partner(key, answer, &client_key);
	return client && tick - client->seen_tick <= 1;
}

/*
 * A client goes to an endpoint itself, by a port that it had to a service before: the answers are the endpoint's own
 * from now on.
 */
static __noinline int forget_service_before(const struct flow *flow)
{
	struct connection *answer;
	struct embryo *embryo;
	struct flow key = {};
	__u32 tick = current_tick();

	if (!flow)
		return 0;
	key.source = flow->destination;
	key.destination = flow->source;
	key.source_port = flow->destination_port;
	key.destination_port = flow->source_port;
	key.protocol = flow->protocol;
	embryo = bpf_map_lookup_elem(&embryos, &key);
	if (embryo && embryo->source_port == flow->source_port && same_address(&embryo->source, &flow->source) &&
	    tick - embryo->seen_tick > 1)
		bpf_map_delete_elem(&embryos, &key);
	answer = bpf_map_lookup_elem(&connections, &key);
	if (!answer || !is_reply(answer) || answer->destination_port != flow->source_port ||
	    !same_address(&answer->destination, &flow->source))
		return 0;
	if (!is_in_use(&key, answer, tick))
		forget(&key, answer);
	return 0;
}
