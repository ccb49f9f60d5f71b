/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Packets of flows that are no connections yet. */
#pragma once

#include "begin.h"

#define NO_EMBRYO (-2) /* no verdict */

static __always_inline bool embryo_keeps_source(const struct embryo *embryo, const struct pair *pair)
{
	return !is_tunnelled(embryo->flags) && same_address(&embryo->source, &pair->partner_key.destination);
}

/* The next packet of a client whose flow is no connection yet. */
static __always_inline int go_on_unanswered(struct __sk_buff *skb, const struct packet *packet, struct pair *pair,
					    struct embryo *embryo, int hook)
{
	__u32 mtu, tick = current_tick();

	if (embryo->seen_tick != tick) {
		embryo->seen_tick = tick;
		find_way(skb, &pair->partner_key.destination, &pair->partner_key.source, &embryo->way, hook);
	}
	mtu = mtu_of(&embryo->way, embryo->flags);
	if (too_big(skb, packet, mtu) && !may_be_cut(packet, embryo_keeps_source(embryo, pair), hook))
		return tell_too_big(skb, packet, mtu, hook);
	if (is_tunnelled(embryo->flags) && !tunnel_source(skb, &embryo->way, &pair->tunnel_source))
		return drop(DROP_NO_MASQUERADE_ADDRESS);
	embryo->flags |= ending_of(embryo->flags, ending(packet, false));
	add_packet(&embryo->packets, &embryo->bytes, packet->length);
	pair->embryo = *embryo;
	grow(packet, pair, tick);
	count_for_service(pair->embryo.service, false, packet->length);
	return send_first(skb, packet, &pair->entry, hook);
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
	if (!embryo_begins_anew(packet, embryo, current_tick()) && !goes_in_circles(hook, embryo->flags))
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
	if (too_big(skb, packet, way.mtu))
		return tell_too_big(skb, packet, way.mtu, hook);
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
