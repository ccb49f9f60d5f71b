/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A packet that has an entry goes on, or is told why not. */
#pragma once

#include "answer.h"
#include "closing.h"
#include "connection.h"
#include "count.h"
#include "translate.h"
#include "tunnel.h"

static __always_inline int drop(__u32 reason)
{
	count_drop(reason);
	return VERDICT_DROP;
}

/* What a packet may have on this way; 0: unknown. */
static __always_inline __u32 mtu_of(const struct way *way, __u32 connection_flags)
{
	if (!is_tunnelled(connection_flags) || way->mtu <= TUNNEL_HEADER)
		return way->mtu;
	return way->mtu - TUNNEL_HEADER;
}

/* Segments of a GSO packet are what must fit, not the packet. `mtu` 0: it is unknown. */
static __always_inline bool too_big(const struct __sk_buff *skb, const struct packet *packet, __u32 mtu)
{
	__u32 headers = packet->transport_offset - NETWORK_OFFSET +
			(packet->flow.protocol == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr));

	if (!mtu || packet->length <= mtu)
		return false;
	/* SCTP's segments have no one size; its sender made each to fit the path. */
	return !skb->gso_size || (packet->flow.protocol != IPPROTO_SCTP && headers + skb->gso_size > mtu);
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

static __always_inline int tell_too_big(struct __sk_buff *skb, const struct packet *packet, __u32 mtu, int hook)
{
	count_drop(DROP_TOO_BIG);
	return answer_too_big(skb, packet, hook, mtu);
}

static __always_inline int enter_tunnel(struct __sk_buff *skb, const struct packet *packet,
					const struct connection *entry, int hook)
{
	if (entry->way.via == VIA_STACK)
		return drop(DROP_NO_WAY);
	return send_by_tunnel(skb, entry, length_in_tunnel(skb, packet), hook);
}

static __always_inline int forward(struct __sk_buff *skb, const struct packet *packet, const struct connection *entry,
				   int hook)
{
	/* What is too big for the way here may be cut to pieces: by the stack. */
	__u32 via = too_big(skb, packet, entry->way.mtu) ? VIA_STACK : entry->way.via;

	return translate(skb, packet, entry, via) ? send(skb, &entry->way, via, hook) : VERDICT_DROP;
}

static __always_inline void refresh(struct __sk_buff *skb, const struct packet *packet, struct connection *entry,
				    __u32 tick, int hook)
{
	entry->seen_tick = tick;
	find_way(skb, &entry->source, &entry->destination, &entry->way, hook);
	if (is_tunnelled(entry->flags))
		tunnel_source(skb, &entry->way, &entry->source);
	else
		keep_partner(&packet->flow, entry);
}

/* What goes by no tunnel. */
static __always_inline int go_on_translated(struct __sk_buff *skb, const struct packet *packet,
					    struct connection *entry, __u32 tick, int hook)
{
	if (entry->seen_tick != tick)
		refresh(skb, packet, entry, tick, hook);
	if (too_big(skb, packet, entry->way.mtu) && !may_be_cut(packet, is_clients_own(packet, entry), hook))
		return tell_too_big(skb, packet, entry->way.mtu, hook);
	if (packet->flow.protocol != IPPROTO_UDP)
		note_ending(packet, entry, tick);
	count_packet(entry, packet->length);
	return forward(skb, packet, entry, hook);
}

/* A function of its own: what is translated, which is nearly all, must not pay for it. */
static __noinline int go_on_by_tunnel(struct __sk_buff *skb, const struct packet *packet, struct connection *entry,
				      __u32 tick, int hook)
{
	__u32 mtu;

	if (!packet || !entry)
		return VERDICT_NEXT;
	if (entry->seen_tick != tick)
		refresh(skb, packet, entry, tick, hook);
	mtu = mtu_of(&entry->way, entry->flags);
	if (too_big(skb, packet, mtu))
		return tell_too_big(skb, packet, mtu, hook);
	if (packet->flow.protocol != IPPROTO_UDP)
		note_ending(packet, entry, tick);
	count_packet(entry, packet->length);
	return enter_tunnel(skb, packet, entry, hook);
}

static __always_inline int go_on(struct __sk_buff *skb, const struct packet *packet, struct connection *entry,
				 __u32 tick, int hook)
{
	return is_tunnelled(entry->flags) ? go_on_by_tunnel(skb, packet, entry, tick, hook)
					  : go_on_translated(skb, packet, entry, tick, hook);
}
