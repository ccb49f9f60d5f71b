/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The rules of a packet (docs/packet-path.md), in their order, for TC. */
#pragma once

#include "arrival.h"
#include "conntrack.h"
#include "icmp.h"
#include "later.h"
#include "opening.h"
#include "tunnel_error.h"
#include "unanswered.h"
#include "vacant.h"
#include "vlan.h"

/* A flow begins that is to no service. */
static __always_inline int begin_elsewhere(struct __sk_buff *skb, const struct packet *packet, bool defined, int hook)
{
	enum drop_reason reason = defined ? DROP_NONE : vacancy_of(&packet->flow);

	/* Who carries the services now may have given the address to one. */
	if (reason != DROP_NONE && !may_open(opens(packet)))
		reason = DROP_NONE;
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
	if (service && !may_open(opens(packet)))
		service = NULL;
	if (service)
		return open_connection(skb, packet, service, old, hook);
	if (old)
		forget(&packet->flow, old);
	embryo = bpf_map_lookup_elem(&embryos, &packet->flow);
	if (embryo && !is_tunnelled(embryo->flags))
		return answer_by_embryo(skb, packet, embryo, hook);
	if (opens(packet) || packet->flow.protocol == IPPROTO_UDP)
		return begin_elsewhere(skb, packet, defined, hook);
	return VERDICT_NEXT;
}

static __always_inline int known_flow(struct __sk_buff *skb, const struct packet *packet, struct connection *entry,
				      int hook)
{
	__u32 tick = current_tick();

	if (goes_in_circles(hook, entry->flags))
		return new_flow(skb, packet, entry, hook);
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

/*
 * Headers are in the linear part nearly always; where they may not be, fetch them and look again. So is SCTP, which is
 * rare, looked at by the second look only.
 */
static __always_inline bool parse_skb(struct __sk_buff *skb, struct packet *packet, bool sctp)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	*packet = (struct packet){.length = skb->len - NETWORK_OFFSET};
	if (parse(data, end, packet, false))
		return true;
	if (packet->fragment == FRAGMENT_LATER)
		return false;
	if ((!sctp || packet->flow.protocol != IPPROTO_SCTP) &&
	    (data + LONGEST_HEADERS <= end || data + skb->len <= end))
		return false;
	if (bpf_skb_pull_data(skb, skb->len < LONGEST_HEADERS ? skb->len : LONGEST_HEADERS))
		return false;
	*packet = (struct packet){.length = skb->len - NETWORK_OFFSET};
	return parse((void *)(long)skb->data, (void *)(long)skb->data_end, packet, sctp);
}

static __always_inline int handle(struct __sk_buff *skb, struct packet *packet, int hook)
{
	struct connection *entry;
	int verdict;

	if (packet->icmp_error) {
		verdict = translate_tunnel_error(skb, packet, hook);
		return verdict == NO_TUNNEL_ERROR ? translate_icmp_error(skb, packet, hook) : verdict;
	}
	if (packet->ttl <= 1)
		return VERDICT_NEXT;
	entry = bpf_map_lookup_elem(&connections, &packet->flow);
	if (packet->fragment == FRAGMENT_FIRST &&
	    (entry || find_service(&packet->flow) || bpf_map_lookup_elem(&embryos, &packet->flow)))
		remember_datagram(packet);
	return entry ? known_flow(skb, packet, entry, hook) : new_flow(skb, packet, NULL, hook);
}

/* What may be in a tunnel. */
static __always_inline int handle_arrived(struct __sk_buff *skb, struct packet *packet)
{
	__u32 endpoint = arrive(skb);
	bool parsed;

	if (!endpoint)
		return VERDICT_NEXT;
	if (endpoint == NOT_FROM_A_NODE)
		return drop(DROP_NO_NODE);
	parsed = parse_skb(skb, packet, false);
	packet->arrived_for = endpoint;
	if (parsed)
		return handle(skb, packet, FROM_TUNNEL);
	return packet->fragment == FRAGMENT_LATER ? balance_later_fragment(skb, packet, FROM_TUNNEL) : VERDICT_NEXT;
}

static __always_inline int balance(struct __sk_buff *skb, int hook)
{
	struct packet packet;

	if (skb->protocol != bpf_htons(FAMILY_ETHERTYPE) || is_of_other_network(skb, hook))
		return VERDICT_NEXT;
	if (parse_skb(skb, &packet, true))
		return handle(skb, &packet, hook);
	if (packet.fragment == FRAGMENT_LATER)
		return balance_later_fragment(skb, &packet, hook);
	return hook == FROM_NETWORK ? handle_arrived(skb, &packet) : VERDICT_NEXT;
}
