/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A flow to a service begins. */
#pragma once

#include "carry.h"
#include "choose.h"
#include "embryo.h"
#include "masquerade.h"

/* A client that comes again by a port that it used before, and is to have the same endpoint: the entries are there. */
static __always_inline struct connection *partner_to_reuse(const struct packet *packet, const struct connection *old,
							   const struct choice *choice, int hook)
{
	struct flow key;

	if (old->endpoint != choice->endpoint || old->generation != choice->generation ||
	    (old->flags & (CONNECTION_MASQUERADED | CONNECTION_TUNNELLED)) ||
	    needs_masquerade(&packet->flow, choice, hook) || needs_tunnel(&packet->flow, choice, hook))
		return NULL;
	return find_partner(&packet->flow, old, &key);
}

static __always_inline __u32 counted_flag(const struct choice *choice)
{
	return choice->flags & ENDPOINT_COUNTED ? CONNECTION_COUNTED : 0;
}

/* In place: to write it as a whole would take an element from the LRU list, and give one back. */
static __always_inline void begin_again(struct connection *entry, __u32 service, __u32 counted)
{
	/* By now it may be another connection's: only what that can bear is changed. */
	__sync_fetch_and_and(&entry->flags, ~(CONNECTION_CLOSED_BY_BOTH | CONNECTION_RESET | CONNECTION_COUNTED));
	__sync_fetch_and_or(&entry->flags, counted);
	entry->service = service;
	entry->packets = 0;
	entry->bytes = 0;
}

/* Whose address the client is masqueraded as, and the key that its answers will have but for the port. */
static __always_inline bool masquerade(struct __sk_buff *skb, struct pair *pair)
{
	struct address *source = &pair->partner_key.destination;

	pair->masquerade_device = pair->embryo.way.device;
	if (masquerade_address(pair->masquerade_device, source))
		return true;
	pair->masquerade_device = skb->ifindex;
	return masquerade_address(pair->masquerade_device, source);
}

static __always_inline enum drop_reason record(struct __sk_buff *skb, const struct packet *packet,
					       const struct choice *choice, struct pair *pair, __u64 hash, int hook)
{
	const struct flow *flow = &packet->flow;
	enum drop_reason reason = DROP_PORTS_EXHAUSTED;

	if (!needs_masquerade(flow, choice, hook))
		/* Else the client uses one port for two services, and both led to this endpoint. */
		reason = claim(skb, flow, pair);
	else if (!masquerade(skb, pair))
		return DROP_NO_MASQUERADE_ADDRESS;
	if (reason == DROP_PORTS_EXHAUSTED)
		reason = take_source_port(skb, flow, pair, hash);
	if (reason == DROP_NONE)
		leave_hint(hash, pair);
	return reason;
}

static __always_inline int turn_away(struct __sk_buff *skb, const struct packet *packet, const struct service *service,
				     enum drop_reason reason, int hook)
{
	count_drop(reason);
	if (!is_refused(service, &packet->flow, reason))
		return VERDICT_DROP;
	count_refused(service->id);
	return refuse(skb, packet, hook);
}

/* All but the way. */
static __always_inline void begin_embryo(struct pair *pair, const struct packet *packet, const struct choice *choice,
					 const struct service *service, __u32 tick, int hook)
{
	const struct flow *flow = &packet->flow;
	__u16 tunnelled = needs_tunnel(flow, choice, hook) ? CONNECTION_TUNNELLED : 0;

	pair->partner_key = (struct flow){
		.source = choice->address,
		.destination = flow->source,
		.source_port = choice->port,
		.destination_port = flow->source_port,
		.protocol = flow->protocol,
	};
	pair->embryo = (struct embryo){
		.source = flow->source,
		.destination = flow->destination,
		.source_port = flow->source_port,
		.destination_port = flow->destination_port,
		.endpoint = choice->endpoint,
		.generation = choice->generation,
		.service = service->id,
		.born_tick = tick,
		.seen_tick = tick,
		.flags = ending_of(tunnelled, ending(packet, false)) | counted_flag(choice) | tunnelled,
		.packets = 1,
		.bytes = packet->length,
	};
	pair->masquerade_device = 0;
	pair->is_known = false;
	pair->gives_way = false;
}

/* Makes pair->entry, and a connection of the flow if it is time. */
static __always_inline void grow(const struct packet *packet, struct pair *pair, __u32 tick)
{
	if (!shows_life(packet, &pair->embryo, tick)) {
		make_entry(&packet->flow, pair);
		return;
	}
	make_both(&packet->flow, pair);
	promote(&packet->flow, pair);
}

/* By an entry that may not be in `connections`. */
static __always_inline int send_first(struct __sk_buff *skb, const struct packet *packet,
				      const struct connection *entry, int hook)
{
	return is_tunnelled(entry->flags) ? enter_tunnel(skb, packet, entry, hook) : forward(skb, packet, entry, hook);
}

/* A function of its own, for its caller's stack. */
static __noinline int choose_for(const struct packet *packet, const struct service *service, struct choice *choice,
				 __u64 hash, int hook)
{
	if (!packet || !service || !choice)
		return DROP_NO_ENDPOINT;
	if (packet->arrived_for)
		return take_endpoint(packet->arrived_for, choice) ? DROP_NONE : DROP_NO_ENDPOINT;
	return choose(service, &packet->flow, hook == FROM_NETWORK, hash_for_choice(service, &packet->flow, hash),
		      current_tick(), choice);
}

static __always_inline bool keeps_source(const struct flow *flow, const struct choice *choice, int hook)
{
	return !needs_masquerade(flow, choice, hook) && !needs_tunnel(flow, choice, hook);
}

/* `old` is what a connection with the same five-tuple has left, or NULL. */
static __noinline int open_connection(struct __sk_buff *skb, const struct packet *packet, struct service *service,
				      struct connection *old, int hook)
{
	struct connection *partner = NULL;
	struct choice choice = {};
	__u32 mtu, tick = current_tick();
	enum drop_reason reason;
	struct pair *pair;
	__u64 hash;

	if (!packet || !service)
		return VERDICT_NEXT;
	hash = hash_flow(&packet->flow);
	reason = choose_for(packet, service, &choice, hash, hook);
	if (old && reason == DROP_NONE)
		partner = partner_to_reuse(packet, old, &choice, hook);
	if (old && partner) {
		take_from_load(old, old->flags);
		begin_again(old, service->id, counted_flag(&choice));
		begin_again(partner, service->id, counted_flag(&choice));
		add_to_load(choice.endpoint, choice.generation, old->flags);
		count_opened(service->id);
		return go_on_translated(skb, packet, old, tick, hook);
	}
	if (old)
		forget(&packet->flow, old);
	if (reason != DROP_NONE)
		return turn_away(skb, packet, service, reason, hook);
	pair = scratch_pair();
	if (!pair)
		return VERDICT_DROP;
	begin_embryo(pair, packet, &choice, service, tick, hook);
	find_way(skb, &packet->flow.source, &choice.address, &pair->embryo.way, hook);
	mtu = mtu_of(&pair->embryo.way, pair->embryo.flags);
	if (too_big(skb, packet, mtu) && !may_be_cut(packet, keeps_source(&packet->flow, &choice, hook), hook))
		return tell_too_big(skb, packet, mtu, hook);
	if (is_tunnelled(pair->embryo.flags) && !tunnel_source(skb, &pair->embryo.way, &pair->tunnel_source))
		return drop(DROP_NO_MASQUERADE_ADDRESS);
	reason = record(skb, packet, &choice, pair, hash, hook);
	if (reason != DROP_NONE)
		return drop(reason);
	if (pair->is_known)
		count_for_service(service->id, false, packet->length);
	else
		count_connection(service->id, packet->length);
	if (!pair->is_known && packet->flow.protocol == IPPROTO_UDP)
		add_to_load(choice.endpoint, choice.generation, pair->embryo.flags);
	grow(packet, pair, tick);
	return send_first(skb, packet, &pair->entry, hook);
}
