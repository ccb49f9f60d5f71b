/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The rules of a packet (docs/packet-path.md), in their order, for TC. */
#pragma once

#include "answer.h"
#include "choose.h"
#include "closing.h"
#include "connection.h"
#include "conntrack.h"
#include "count.h"
#include "fragment.h"
#include "icmp.h"
#include "masquerade.h"
#include "opening.h"
#include "translate.h"
#include "vacant.h"

#define NO_EMBRYO (-2) /* no verdict */

static __always_inline int drop(__u32 reason)
{
	count_drop(reason);
	return VERDICT_DROP;
}

/* Segments of a GSO packet are what must fit, not the packet. */
static __always_inline bool too_big(const struct __sk_buff *skb, const struct packet *packet, const struct way *way)
{
	__u32 headers = packet->transport_offset - NETWORK_OFFSET +
			(packet->flow.protocol == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr));

	if (!way->mtu || packet->length <= way->mtu)
		return false;
	return !skb->gso_size || headers + skb->gso_size > way->mtu;
}

/*
 * What the stack may cut to pieces, and send: not TCP, of which its connection tracking would see this packet only (and
 * call it INVALID), nothing from an address of this node (it would be a martian), and nothing that it has routed before.
 */
static __always_inline bool may_be_cut(const struct packet *packet, bool keeps_source, int hook)
{
	return !packet->dont_fragment && packet->flow.protocol == IPPROTO_UDP && keeps_source && hook != FROM_NODE;
}

static __always_inline bool is_clients_own(const struct packet *packet, const struct connection *entry)
{
	return !is_reply(entry) && same_address(&packet->flow.source, &entry->source);
}

static __always_inline int tell_too_big(struct __sk_buff *skb, const struct packet *packet, const struct way *way,
					int hook)
{
	count_drop(DROP_TOO_BIG);
	return answer_too_big(skb, packet, hook, way->mtu);
}

static __always_inline int forward(struct __sk_buff *skb, const struct packet *packet, const struct connection *entry,
				   int hook)
{
	/* What is too big for the way here may be cut to pieces: by the stack. */
	__u32 via = too_big(skb, packet, &entry->way) ? VIA_STACK : entry->way.via;

	return translate(skb, packet, entry, via) ? send(skb, &entry->way, via, hook) : VERDICT_DROP;
}

static __always_inline void refresh(struct __sk_buff *skb, const struct packet *packet, struct connection *entry,
				    __u32 tick, int hook)
{
	entry->seen_tick = tick;
	find_way(skb, &entry->source, &entry->destination, &entry->way, hook);
	keep_partner(&packet->flow, entry);
}

static __always_inline int go_on(struct __sk_buff *skb, const struct packet *packet, struct connection *entry,
				 __u32 tick, int hook)
{
	if (entry->seen_tick != tick)
		refresh(skb, packet, entry, tick, hook);
	if (too_big(skb, packet, &entry->way) && !may_be_cut(packet, is_clients_own(packet, entry), hook))
		return tell_too_big(skb, packet, &entry->way, hook);
	if (packet->flow.protocol == IPPROTO_TCP)
		note_ending(packet, entry, tick);
	count_packet(entry, packet->length);
	return forward(skb, packet, entry, hook);
}

/* A client that comes again by a port that it used before, and is to have the same endpoint: the entries are there. */
static __always_inline struct connection *partner_to_reuse(const struct packet *packet, const struct connection *old,
							   const struct choice *choice, int hook)
{
	struct flow key;

	if (old->endpoint != choice->endpoint || old->generation != choice->generation ||
	    (old->flags & CONNECTION_MASQUERADED) || needs_masquerade(&packet->flow, choice, hook))
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
					 const struct service *service, __u32 tick)
{
	const struct flow *flow = &packet->flow;

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
		.flags = ending(packet, false) | counted_flag(choice),
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

/* `old` is what a connection with the same five-tuple has left, or NULL. */
static __noinline int open_connection(struct __sk_buff *skb, const struct packet *packet, struct service *service,
				      struct connection *old, int hook)
{
	struct connection *partner = NULL;
	struct choice choice = {};
	__u32 tick = current_tick();
	enum drop_reason reason;
	struct pair *pair;
	__u64 hash;

	if (!packet || !service)
		return VERDICT_NEXT;
	hash = hash_flow(&packet->flow);
	reason = choose(service, &packet->flow, hook == FROM_NETWORK, hash_for_choice(service, &packet->flow, hash),
			tick, &choice);
	if (old && reason == DROP_NONE)
		partner = partner_to_reuse(packet, old, &choice, hook);
	if (old && partner) {
		take_from_load(old, old->flags);
		begin_again(old, service->id, counted_flag(&choice));
		begin_again(partner, service->id, counted_flag(&choice));
		add_to_load(choice.endpoint, choice.generation, old->flags);
		count_opened(service->id);
		return go_on(skb, packet, old, tick, hook);
	}
	if (old)
		forget(&packet->flow, old);
	if (reason != DROP_NONE)
		return turn_away(skb, packet, service, reason, hook);
	pair = scratch_pair();
	if (!pair)
		return VERDICT_DROP;
	begin_embryo(pair, packet, &choice, service, tick);
	find_way(skb, &packet->flow.source, &choice.address, &pair->embryo.way, hook);
	if (too_big(skb, packet, &pair->embryo.way) &&
	    !may_be_cut(packet, !needs_masquerade(&packet->flow, &choice, hook), hook))
		return tell_too_big(skb, packet, &pair->embryo.way, hook);
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
	return forward(skb, packet, &pair->entry, hook);
}

/* The next packet of a client whose flow is no connection yet. */
static __always_inline int go_on_unanswered(struct __sk_buff *skb, const struct packet *packet, struct pair *pair,
					    struct embryo *embryo, int hook)
{
	__u32 tick = current_tick();

	if (embryo->seen_tick != tick) {
		embryo->seen_tick = tick;
		find_way(skb, &pair->partner_key.destination, &pair->partner_key.source, &embryo->way, hook);
	}
	if (too_big(skb, packet, &embryo->way) &&
	    !may_be_cut(packet, same_address(&packet->flow.source, &pair->partner_key.destination), hook))
		return tell_too_big(skb, packet, &embryo->way, hook);
	embryo->flags |= ending(packet, false);
	add_packet(&embryo->packets, &embryo->bytes, packet->length);
	pair->embryo = *embryo;
	grow(packet, pair, tick);
	count_for_service(pair->embryo.service, false, packet->length);
	return forward(skb, packet, &pair->entry, hook);
}

/* NO_EMBRYO: there is no such flow, or not any more. */
static __noinline int known_embryo(struct __sk_buff *skb, const struct packet *packet, int hook)
{
	struct pair *pair = scratch_pair();
	struct embryo *embryo;

	if (!packet || !pair)
		return NO_EMBRYO;
	embryo = find_embryo(&packet->flow, hash_flow(&packet->flow), &pair->partner_key);
	if (!embryo)
		return NO_EMBRYO;
	if (!embryo_begins_anew(packet, embryo, current_tick()))
		return go_on_unanswered(skb, packet, pair, embryo, hook);
	bpf_map_delete_elem(&embryos, &pair->partner_key);
	return NO_EMBRYO;
}

/* What an endpoint sends in a flow that is no connection yet. */
static __noinline int answer_by_embryo(struct __sk_buff *skb, const struct packet *packet, struct embryo *embryo,
				       int hook)
{
	struct connection *entry;
	struct flow client;
	struct pair *pair;
	struct way way;

	if (!packet || !embryo)
		return VERDICT_NEXT;
	pair = scratch_pair();
	if (!pair)
		return VERDICT_DROP;
	client = client_of(embryo, packet->flow.protocol);
	find_way(skb, &client.destination, &client.source, &way, hook);
	if (too_big(skb, packet, &way))
		return tell_too_big(skb, packet, &way, hook);
	embryo->flags |= CONNECTION_ANSWERED | ending(packet, true);
	add_packet(&embryo->answers, &embryo->answer_bytes, packet->length);
	pair->partner_key = packet->flow;
	pair->embryo = *embryo;
	make_both(&client, pair);
	entry = &pair->partner;
	entry->way = way;
	if (has_grown(embryo)) {
		entry->seen_tick = current_tick();
		promote(&client, pair);
	}
	count_for_service(pair->embryo.service, true, packet->length);
	return forward(skb, packet, entry, hook);
}

/* A flow begins that is to no service. */
static __always_inline int begin_elsewhere(struct __sk_buff *skb, const struct packet *packet, bool defined, int hook)
{
	enum drop_reason reason = defined ? DROP_NONE : vacancy_of(&packet->flow);

	if (reason == DROP_NONE) {
		forget_service_before(&packet->flow);
		return VERDICT_NEXT;
	}
	count_drop(reason);
	return reason == DROP_UNDEFINED_PORT ? refuse(skb, packet, hook) : VERDICT_DROP;
}

static __always_inline int new_flow(struct __sk_buff *skb, const struct packet *packet, struct connection *old,
				    int hook)
{
	struct service *service = find_service(&packet->flow);
	bool defined = service;
	struct embryo *embryo;
	int verdict;

	if (service && !old) {
		verdict = known_embryo(skb, packet, hook);
		if (verdict != NO_EMBRYO)
			return verdict;
	}
	if (service && !old && kernel_has(skb, packet))
		return VERDICT_NEXT;
	if (service && !may_open(packet))
		service = NULL;
	if (service)
		return open_connection(skb, packet, service, old, hook);
	if (old)
		forget(&packet->flow, old);
	embryo = bpf_map_lookup_elem(&embryos, &packet->flow);
	if (embryo)
		return answer_by_embryo(skb, packet, embryo, hook);
	if (opens(packet) || packet->flow.protocol == IPPROTO_UDP)
		return begin_elsewhere(skb, packet, defined, hook);
	return VERDICT_NEXT;
}

static __always_inline int known_flow(struct __sk_buff *skb, const struct packet *packet, struct connection *entry,
				      int hook)
{
	__u32 tick = current_tick();

	switch (fate_of(packet, entry, tick)) {
	case FATE_ENDPOINT_GONE:
		forget(&packet->flow, entry);
		count_drop(DROP_ENDPOINT_GONE);
		return refuse(skb, packet, hook);
	case FATE_BEGINS_ANEW:
		return new_flow(skb, packet, entry, hook);
	case FATE_GOES_ON:
		break;
	}
	return go_on(skb, packet, entry, tick, hook);
}

#define LONGEST_HEADERS (MAX_TRANSPORT_OFFSET + sizeof(struct tcphdr))

/* Headers are in the linear part nearly always; where they may not be, fetch them and look again. */
static __always_inline bool parse_skb(struct __sk_buff *skb, struct packet *packet)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	*packet = (struct packet){.length = skb->len - NETWORK_OFFSET};
	if (parse(data, end, packet))
		return true;
	if (packet->fragment == FRAGMENT_LATER)
		return false;
	if (data + LONGEST_HEADERS <= end || data + skb->len <= end)
		return false;
	if (bpf_skb_pull_data(skb, skb->len < LONGEST_HEADERS ? skb->len : LONGEST_HEADERS))
		return false;
	*packet = (struct packet){.length = skb->len - NETWORK_OFFSET};
	return parse((void *)(long)skb->data, (void *)(long)skb->data_end, packet);
}

/* A client's, without its endpoint. */
static __always_inline bool is_orphan(const struct connection *entry)
{
	return !is_reply(entry) && !same_endpoint(entry->endpoint, entry->generation);
}

/* On its own, as its keys would not fit on the stack of whoever looks for a way on then. */
static __noinline struct connection *later_by_embryo(const struct packet *packet)
{
	struct pair *pair = scratch_pair();

	return packet && pair ? entry_by_embryo(&packet->flow, pair) : NULL;
}

/* What becomes of a later fragment: an entry in `connections`, or what would be one. NULL: nothing of ours. */
static __always_inline struct connection *entry_of_later(struct __sk_buff *skb, const struct packet *packet, int hook)
{
	struct connection *entry = bpf_map_lookup_elem(&connections, &packet->flow);
	__u32 tick = current_tick();

	if (!entry) {
		entry = later_by_embryo(packet);
		if (entry)
			find_way(skb, &entry->source, &entry->destination, &entry->way, hook);
	} else if (entry->seen_tick != tick && !is_orphan(entry)) {
		refresh(skb, packet, entry, tick, hook);
	}
	return entry;
}

/* Any fragment that is not the first. One that overtook its first is not known: what the stack makes of it is its own. */
static __noinline int balance_later_fragment(struct __sk_buff *skb, struct packet *packet, int hook)
{
	struct connection *entry;
	__u32 via;
	bool cut;

	if (!packet || packet->ttl <= 1 || !recall_datagram(packet))
		return VERDICT_NEXT;
	entry = entry_of_later(skb, packet, hook);
	if (!entry)
		return VERDICT_NEXT;
	if (is_orphan(entry))
		return drop(DROP_FRAGMENT);
	cut = entry->way.mtu && packet->length > entry->way.mtu;
	if (cut && packet->dont_fragment)
		return drop(DROP_TOO_BIG); /* the answer to its first fragment tells (RFC 1812, 4.3.2.7) */
	via = cut ? VIA_STACK : entry->way.via;
	count_packet(entry, packet->length);
	return translate_later(skb, entry, via) ? send(skb, &entry->way, via, hook) : VERDICT_DROP;
}

static __always_inline int balance(struct __sk_buff *skb, int hook)
{
	struct connection *entry;
	struct packet packet;

	if (skb->protocol != bpf_htons(FAMILY_ETHERTYPE))
		return VERDICT_NEXT;
	if (!parse_skb(skb, &packet))
		return packet.fragment == FRAGMENT_LATER ? balance_later_fragment(skb, &packet, hook) : VERDICT_NEXT;
	if (packet.icmp_error)
		return translate_icmp_error(skb, &packet, hook);
	if (packet.ttl <= 1)
		return VERDICT_NEXT;
	entry = bpf_map_lookup_elem(&connections, &packet.flow);
	if (packet.fragment == FRAGMENT_FIRST &&
	    (entry || find_service(&packet.flow) || bpf_map_lookup_elem(&embryos, &packet.flow)))
		remember_datagram(&packet);
	return entry ? known_flow(skb, &packet, entry, hook) : new_flow(skb, &packet, NULL, hook);
}
