/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets that another node has sent in a tunnel to an endpoint of this one. They are taken out only where the tunnel's
 * end is an endpoint on this node of the very service that the packet is to, so no other host is reached by it; and only
 * where a node has sent it, or anybody could send by any client's address, which networks check outside of tunnels only.
 */
#pragma once

#include "choose.h"
#include "fragment.h"
#include "icmp.h"
#include "opening.h"
#include "tunnel.h"

struct arrival {
	__u32 service;
	struct address address;
};
SIZED(struct arrival, 8, 20);

struct node_range {
	__u32 prefix_length; /* LPM trie */
	struct address address;
};
SIZED(struct node_range, 8, 20);

/* By userspace: where nodes' addresses are from. */
MAP(nodes, BPF_MAP_TYPE_LPM_TRIE, struct node_range, __u32, 16384, BPF_F_NO_PREALLOC);

/* No endpoint's index. */
#define NOT_FROM_A_NODE 0xFFFFFFFEU

/* By userspace: the index of a service's endpoint on this node, by its address. */
MAP(arrivals, BPF_MAP_TYPE_HASH, struct arrival, __u32, 65536, BPF_F_NO_PREALLOC);

static __always_inline bool is_tunnel(const network_header *outer)
{
#ifdef BLIXT_IPV6
	return outer->version == 6 && outer->nexthdr == TUNNEL_PROTOCOL;
#else
	return outer->version == 4 && outer->ihl == 5 && outer->protocol == TUNNEL_PROTOCOL &&
	       !(outer->frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET | IPV4_MORE_FRAGMENTS));
#endif
}

static __always_inline bool load_outer(struct __sk_buff *skb, struct node_range *sender, struct address *tunnel_end)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const network_header *outer = data + NETWORK_OFFSET;

	if ((void *)(outer + 1) > end || !is_tunnel(outer))
		return false;
	sender->prefix_length = 32 * ADDRESS_WORDS;
	__builtin_memcpy(&sender->address, &outer->saddr, sizeof(sender->address));
	__builtin_memcpy(tunnel_end, &outer->daddr, sizeof(*tunnel_end));
	return true;
}

#define LONGEST_TUNNELLED (TUNNEL_HEADER + LONGEST_HEADERS)

static __always_inline bool parse_inner(struct __sk_buff *skb, struct packet *packet)
{
	if (bpf_skb_pull_data(skb, skb->len < LONGEST_TUNNELLED ? skb->len : LONGEST_TUNNELLED))
		return false;
	*packet = (struct packet){.plain = true};
	if (parse_network_packet((void *)(long)skb->data + TUNNEL_HEADER, (void *)(long)skb->data_end, packet, false))
		return true;
	return packet->fragment == FRAGMENT_LATER && recall_datagram(packet);
}

/* Of an ICMP error, whose answer it quotes: that client's flow becomes the packet's. */
static __always_inline bool find_client(struct __sk_buff *skb, struct packet *packet)
{
	struct quote *quote = scratch_quote();

	if (!packet->icmp_error)
		return true;
	return quote && load_quote(skb, QUOTE_OFFSET(packet) + TUNNEL_HEADER, quote) &&
	       answering_flow(quote, &packet->flow);
}

/* Another version's programs, which stand behind these, take what is theirs out of its tunnel themselves. */
static __always_inline bool is_theirs(const struct packet *packet)
{
	struct pair *pair = scratch_pair();

	return !may_open(opens(packet)) && pair && !bpf_map_lookup_elem(&connections, &packet->flow) &&
	       !find_embryo(&packet->flow, hash_flow(&packet->flow), &pair->partner_key);
}

/*
 * A client's connection whose endpoint has left is still this node's to end. `packet` is to that endpoint's address; the
 * entry knows it by another port only.
 */
static __always_inline bool is_of_connection_to(const struct packet *packet, const struct address *tunnel_end)
{
	struct connection *entry = bpf_map_lookup_elem(&connections, &packet->flow);

	return entry && !is_reply(entry) && !(entry->flags & CONNECTION_TUNNELLED) &&
	       same_address(&entry->destination, tunnel_end);
}

static __always_inline __u32 endpoint_at(const struct service *service, const struct address *tunnel_end)
{
	struct arrival key = {.service = service->id, .address = *tunnel_end};
	__u32 *index = bpf_map_lookup_elem(&arrivals, &key);

	return index ? *index : 0;
}

/* Takes the packet out of its tunnel. The endpoint that it was sent to, or ENDPOINT_LEFT, NOT_FROM_A_NODE, or 0: it is
 * none of ours. */
static __noinline UNUSED __u32 arrive(struct __sk_buff *skb)
{
	struct packet packet;
	struct address tunnel_end;
	struct node_range sender;
	struct service *service;
	__u32 endpoint = 0;

	if (!load_outer(skb, &sender, &tunnel_end) || !parse_inner(skb, &packet) || !find_client(skb, &packet) ||
	    is_theirs(&packet))
		return 0;
	service = find_service(&packet.flow);
	if (service)
		endpoint = endpoint_at(service, &tunnel_end);
	if (!endpoint && !packet.icmp_error && is_of_connection_to(&packet, &tunnel_end))
		endpoint = ENDPOINT_LEFT;
	if (endpoint && !bpf_map_lookup_elem(&nodes, &sender))
		return NOT_FROM_A_NODE;
	if (!endpoint || bpf_skb_adjust_room(skb, -(int)TUNNEL_HEADER, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return 0;
	return endpoint;
}
