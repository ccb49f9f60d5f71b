/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors of flows that go by a tunnel. One about an answer, which its endpoint has sent directly, goes on by the
 * tunnel: the endpoint's node knows whose it is. One of a router on the tunnel's way, for which a packet was too big, is
 * made one to the client, about what the client sent: its headers move over the outer header that it quotes.
 */
#pragma once

#include "answer.h"
#include "icmp.h"
#include "tunnel.h"

/* No verdicts. */
#define NO_TUNNEL_ERROR (-2)
#define TELL_CLIENT (-3) /* the one whose flow is pair->partner_key */

#ifdef BLIXT_IPV6
#define LEAST_MTU 1280
#else
#define LEAST_MTU 68
#endif

static __always_inline bool is_too_big(const struct icmp_header *icmp)
{
#ifdef BLIXT_IPV6
	return icmp->type == ICMP_TOO_BIG;
#else
	return icmp->type == ICMP_TOO_BIG && icmp->code == ICMP_TOO_BIG_CODE;
#endif
}

/* What the inner packet may have of the MTU that the router tells. */
static __always_inline __u32 inner_mtu(const struct icmp_header *icmp)
{
	__u32 mtu = bpf_ntohl(icmp->rest);

	if (ADDRESS_WORDS == 1)
		mtu &= 0xffff;
	return mtu < LEAST_MTU + TUNNEL_HEADER ? LEAST_MTU : mtu - TUNNEL_HEADER;
}

/* The entry, as `pair->entry`, of a client's flow that goes by a tunnel; NULL: none does. */
static __always_inline struct connection *entry_by_tunnel(const struct __sk_buff *skb, const struct flow *client,
							  struct pair *pair)
{
	struct connection *entry = bpf_map_lookup_elem(&connections, client);
	struct embryo *embryo;

	if (entry) {
		pair->entry = *entry;
		return is_tunnelled(entry->flags) ? &pair->entry : NULL;
	}
	embryo = find_embryo(client, hash_flow(client), &pair->partner_key);
	if (!embryo || !is_tunnelled(embryo->flags) || !tunnel_source(skb, &embryo->way, &pair->tunnel_source))
		return NULL;
	pair->embryo = *embryo;
	make_entry(client, pair);
	return &pair->entry;
}

static __always_inline void client_flow(const struct quote *inner, struct flow *client)
{
	__builtin_memcpy(&client->source, &inner->ip.saddr, sizeof(struct address));
	__builtin_memcpy(&client->destination, &inner->ip.daddr, sizeof(struct address));
	client->source_port = inner->ports[0];
	client->destination_port = inner->ports[1];
	client->protocol = inner->protocol;
}

/*
 * The new checksum, by the difference: what is quoted of the inner packet is the same as before, and as long. `outer` is
 * the quoted header that goes.
 */
static __always_inline __sum16 checksum_without(const struct icmp_header *was, const struct icmp_header *now,
						network_header *outer, const struct flow *error,
						const struct address *client, __u32 length)
{
	__u64 added = fold(bpf_csum_diff((__be32 *)was, sizeof(*was), (__be32 *)now, sizeof(*now), 0));

	added += (__u16)~fold(bpf_csum_diff(NULL, 0, (__be32 *)outer, sizeof(*outer), 0));
#ifdef BLIXT_IPV6 /* and of the pseudo header: the destination, and the length */
	added += fold(sum_address(client)) + (__u16)~fold(sum_address(&error->destination));
	added += bpf_htons(length - TUNNEL_HEADER) + (__u16)~bpf_htons(length);
#else
	(void)error, (void)client, (void)length;
#endif
	return adjusted(was->checksum, added);
}

static __noinline UNUSED int tell_client(struct __sk_buff *skb, const struct packet *packet, int hook)
{
	struct pair *pair = scratch_pair();
	struct icmp_header was, now;
	struct flow answered = {};
	network_header outer;
	struct way way;
	__u32 length;

	if (!packet || !pair || bpf_skb_load_bytes(skb, PLAIN_TRANSPORT_OFFSET, &was, sizeof(was)) ||
	    bpf_skb_load_bytes(skb, QUOTE_OFFSET(packet), &outer, sizeof(outer)))
		return VERDICT_DROP;
	answered.source = pair->partner_key.source;
	answered.destination = packet->flow.source;
	now = was;
	now.rest = bpf_htonl(inner_mtu(&was));
	length = packet->network_length - sizeof(network_header);
	now.checksum = checksum_without(&was, &now, &outer, &packet->flow, &answered.source, length);
	if (bpf_skb_adjust_room(skb, -(int)TUNNEL_HEADER, BPF_ADJ_ROOM_MAC, 0) ||
	    write_answer_network(skb, &answered, FAMILY_ICMP, length - TUNNEL_HEADER) ||
	    bpf_skb_store_bytes(skb, PLAIN_TRANSPORT_OFFSET, &now, sizeof(now), 0))
		return VERDICT_DROP;
	find_way(skb, &answered.destination, &answered.source, &way, hook);
	send_macs(skb, &way);
	return send(skb, &way, way.via, hook);
}

/* What is quoted was sent from the address that the error is to. */
static __always_inline bool load_own_quote(struct __sk_buff *skb, const struct packet *packet, struct quote *quote)
{
	struct address source;

	if (packet->ttl <= 1 || !load_quote(skb, QUOTE_OFFSET(packet), quote))
		return false;
	__builtin_memcpy(&source, &quote->ip.saddr, sizeof(source));
	return same_address(&source, &packet->flow.destination);
}

/* NO_TUNNEL_ERROR: it isn't one. Errors other than "too big" are the stack's, which knows no tunnel. */
static __noinline UNUSED int error_on_the_way(struct __sk_buff *skb, const struct packet *packet, int hook)
{
	struct connection *entry;
	struct address tunnel_end;
	struct icmp_header icmp;
	struct flow client = {};
	struct quote *quote = scratch_quote();
	struct pair *pair;

	if (!packet || !quote || hook != FROM_NETWORK || !load_own_quote(skb, packet, quote) ||
	    quote->protocol != TUNNEL_PROTOCOL)
		return NO_TUNNEL_ERROR;
	__builtin_memcpy(&tunnel_end, &quote->ip.daddr, sizeof(tunnel_end));
	pair = scratch_pair();
	if (!pair || !packet->plain || bpf_skb_load_bytes(skb, PLAIN_TRANSPORT_OFFSET, &icmp, sizeof(icmp)) ||
	    !is_too_big(&icmp) || !load_quote(skb, QUOTE_OFFSET(packet) + TUNNEL_HEADER, quote))
		return VERDICT_NEXT;
	client_flow(quote, &client);
	entry = entry_by_tunnel(skb, &client, pair);
	if (!entry || !same_address(&entry->destination, &tunnel_end))
		return VERDICT_NEXT;
	pair->partner_key = client;
	return TELL_CLIENT;
}

/* NO_TUNNEL_ERROR: it is about something else. */
static __noinline UNUSED int error_of_answer(struct __sk_buff *skb, const struct packet *packet, int hook)
{
	struct connection *entry;
	struct flow client = {};
	struct quote *quote = scratch_quote();
	struct pair *pair;

	if (!packet || !quote || hook != FROM_NETWORK || !load_own_quote(skb, packet, quote) ||
	    !answering_flow(quote, &client))
		return NO_TUNNEL_ERROR;
	pair = scratch_pair();
	entry = pair ? entry_by_tunnel(skb, &client, pair) : NULL;
	if (!entry)
		return NO_TUNNEL_ERROR;
	find_way(skb, &entry->source, &entry->destination, &entry->way, hook);
	return send_by_tunnel(skb, entry, packet->network_length, hook);
}

static __always_inline int translate_tunnel_error(struct __sk_buff *skb, const struct packet *packet, int hook)
{
	int verdict = error_on_the_way(skb, packet, hook);

	if (verdict == TELL_CLIENT)
		return tell_client(skb, packet, hook);
	return verdict == NO_TUNNEL_ERROR ? error_of_answer(skb, packet, hook) : verdict;
}
