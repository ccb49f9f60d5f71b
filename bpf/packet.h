/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the rules need to know of a packet, and how it is read. */
#pragma once

#include "sctp.h"
#include "types.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>

#ifdef BLIXT_IPV6
#define FAMILY_ETHERTYPE ETH_P_IPV6
#define FAMILY_ICMP IPPROTO_ICMPV6
typedef struct ipv6hdr network_header;
#else
#define FAMILY_ETHERTYPE ETH_P_IP
#define FAMILY_ICMP IPPROTO_ICMP
typedef struct iphdr network_header;
#endif

#define NETWORK_OFFSET sizeof(struct ethhdr)
#define PLAIN_TRANSPORT_OFFSET (NETWORK_OFFSET + sizeof(network_header))
#define MAX_TRANSPORT_OFFSET (NETWORK_OFFSET + 240)
#define MAX_EXTENSION_HEADERS 6
#define LONGEST_HEADERS (MAX_TRANSPORT_OFFSET + sizeof(struct tcphdr))

#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_DONT_FRAGMENT 0x4000
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV6_MORE_FRAGMENTS 0x0001
#define IPV6_FRAGMENT_OFFSET 0xfff8

enum tcp_flag {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_ACK = 0x10,
};

enum icmp_message {
#ifdef BLIXT_IPV6
	ICMP_UNREACHABLE = 1,
	ICMP_PORT_UNREACHABLE = 4,
	ICMP_TOO_BIG = 2,
	ICMP_TOO_BIG_CODE = 0,
#else
	ICMP_UNREACHABLE = 3,
	ICMP_PORT_UNREACHABLE = 3,
	ICMP_TOO_BIG = 3,
	ICMP_TOO_BIG_CODE = 4,
#endif
};

struct icmp_header {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 rest;
};

enum fragment {
	FRAGMENT_NONE = 0,  /* or all of a datagram: IPv6's atomic fragments (RFC 6946) */
	FRAGMENT_FIRST = 1, /* has the ports, and others follow it */
	FRAGMENT_LATER = 2, /* has none */
};

struct packet {
	struct flow flow;
	__be32 datagram;        /* of a fragment: its identification */
	__u32 length;           /* of the frame from its network header on */
	__u32 network_length;   /* the same as the network header has it: without a short frame's padding */
	__u32 arrived_for;      /* the endpoint that another node has chosen for it; 0: it came in no tunnel */
	__u16 transport_offset; /* from the frame's begin */
	__u8 ttl;
	__u8 tcp_flags; /* and what says the same in SCTP */
	bool plain;     /* neither options nor extension headers */
	bool dont_fragment;
	bool icmp_error;
	__u8 fragment;
};

static __always_inline bool same_address(const struct address *a, const struct address *b)
{
#pragma unroll
	for (int i = 0; i < ADDRESS_WORDS; i++)
		if (a->word[i] != b->word[i])
			return false;
	return true;
}

static __always_inline bool is_icmp_error(__u8 type)
{
#ifdef BLIXT_IPV6
	return type >= 1 && type <= 4;
#else
	return type == 3 || type == 11 || type == 12;
#endif
}

#ifdef BLIXT_IPV6
struct extension_header {
	__u8 next;
	__u8 length; /* in 8 bytes, the first 8 not counted; of a fragment header: reserved */
	__be16 fragment_offset;
	__be32 datagram;
};

/* False where the rules say NEXT. */
static __always_inline bool note_fragment(const struct extension_header *header, struct packet *packet)
{
	bool later = header->fragment_offset & bpf_htons(IPV6_FRAGMENT_OFFSET);

	packet->datagram = header->datagram;
	if (later || (header->fragment_offset & bpf_htons(IPV6_MORE_FRAGMENTS)))
		packet->fragment = later ? FRAGMENT_LATER : FRAGMENT_FIRST;
	return !later;
}

/* Walk to the transport header; its protocol, or -1 where the rules say NEXT. */
static __always_inline int skip_extension_headers(const void *data, const void *end, __u8 next, struct packet *packet)
{
	__u32 offset = PLAIN_TRANSPORT_OFFSET;
	bool fragmented = false;

	for (int i = 0; i <= MAX_EXTENSION_HEADERS; i++) {
		const struct extension_header *header = data + offset;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT) {
			packet->transport_offset = offset;
			return next;
		}
		packet->plain = false;
		if (i == MAX_EXTENSION_HEADERS || (void *)(header + 1) > end)
			return -1;
		if (next == IPPROTO_FRAGMENT) {
			if (fragmented || !note_fragment(header, packet))
				return -1;
			fragmented = true;
			offset += 8;
		} else {
			offset += 8 + header->length * 8;
		}
		next = header->next;
		if (offset > MAX_TRANSPORT_OFFSET)
			return -1;
	}
	return -1;
}

static __always_inline int parse_network(const void *data, const void *end, struct packet *packet)
{
	const struct ipv6hdr *ip = data + NETWORK_OFFSET;

	if ((void *)(ip + 1) > end || ip->version != 6)
		return -1;
	__builtin_memcpy(&packet->flow.source, &ip->saddr, sizeof(struct address));
	__builtin_memcpy(&packet->flow.destination, &ip->daddr, sizeof(struct address));
	packet->ttl = ip->hop_limit;
	packet->network_length = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	packet->dont_fragment = true;
	return skip_extension_headers(data, end, ip->nexthdr, packet);
}
#else
static __always_inline int parse_network(const void *data, const void *end, struct packet *packet)
{
	const struct iphdr *ip = data + NETWORK_OFFSET;

	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
		return -1;
	packet->flow.source.word[0] = ip->saddr;
	packet->flow.destination.word[0] = ip->daddr;
	packet->ttl = ip->ttl;
	packet->network_length = bpf_ntohs(ip->tot_len);
	packet->dont_fragment = ip->frag_off & bpf_htons(IPV4_DONT_FRAGMENT);
	packet->plain = ip->ihl == 5;
	packet->transport_offset = NETWORK_OFFSET + ip->ihl * 4;
	packet->flow.protocol = ip->protocol;
	packet->datagram = ip->id;
	/* No branch: the verifier would look at all that follows once for each side. */
	packet->fragment = (bpf_ntohs(ip->frag_off) / IPV4_MORE_FRAGMENTS) & FRAGMENT_FIRST;
	if (ip->frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET)) {
		packet->fragment = FRAGMENT_LATER;
		return -1;
	}
	return ip->protocol;
}
#endif

/*
 * What the first chunk says of an association's begin and its end, in TCP's words, as it differs from TCP_ACK. No
 * branch: the verifier would look at all that follows once for each chunk.
 */
static const __u8 flags_of_chunk[256] = {
	[SCTP_INIT] = TCP_ACK ^ TCP_SYN,
	[SCTP_INIT_ACK] = TCP_SYN,
	[SCTP_ABORT] = TCP_ACK ^ TCP_RST,
	[SCTP_SHUTDOWN_ACK] = TCP_ACK ^ TCP_FIN,
	[SCTP_SHUTDOWN_COMPLETE] = TCP_ACK ^ TCP_FIN,
};

/*
 * Where ports change, so does a sum over all of the packet, of which a fragment doesn't tell how long it is. Senders
 * avoid them (RFC 9260, 6.9).
 */
static __always_inline bool parse_sctp(const void *transport, const void *end, struct packet *packet)
{
	const struct sctp_header *sctp = transport;

	if (transport + sizeof(*sctp) > end || packet->fragment != FRAGMENT_NONE ||
	    packet->network_length < packet->transport_offset - NETWORK_OFFSET + sizeof(*sctp))
		return false;
	packet->tcp_flags = TCP_ACK ^ flags_of_chunk[sctp->chunk];
	return true;
}

static __always_inline bool parse_transport(const void *data, const void *end, struct packet *packet, bool sctp)
{
	const void *transport = data + packet->transport_offset;

	if (transport + sizeof(struct udphdr) > end)
		return false;
	switch (packet->flow.protocol) {
	case IPPROTO_TCP:
		if (transport + sizeof(struct tcphdr) > end)
			return false;
		packet->tcp_flags = ((const __u8 *)transport)[13];
		break;
	case IPPROTO_UDP:
		break;
	case IPPROTO_SCTP:
		if (!sctp || !parse_sctp(transport, end, packet))
			return false;
		break;
	case FAMILY_ICMP:
		packet->icmp_error = is_icmp_error(*(const __u8 *)transport);
		return packet->icmp_error && packet->fragment == FRAGMENT_NONE;
	default:
		return false;
	}
	packet->flow.source_port = ((const __be16 *)transport)[0];
	packet->flow.destination_port = ((const __be16 *)transport)[1];
	return true;
}

/* As `parse`, of a packet of the family that stands behind an Ethernet header's bytes, whatever these are. */
static __always_inline bool parse_network_packet(const void *data, const void *end, struct packet *packet, bool sctp)
{
	int protocol = parse_network(data, end, packet);

	if (protocol < 0)
		return false;
	packet->flow.protocol = protocol;
	return parse_transport(data, end, packet, sctp);
}

/*
 * False: not for us, or a later fragment, of which there is no more to know. Reads nothing but `data` to `end`, so it
 * serves both hooks. `packet` is zeroed but for its length. `sctp` is constant: where it isn't asked for, the verifier has a
 * third less to look at.
 */
static __always_inline bool parse(const void *data, const void *end, struct packet *packet, bool sctp)
{
	const struct ethhdr *ethernet = data;

	packet->plain = true;
	if ((void *)(ethernet + 1) > end || ethernet->h_proto != bpf_htons(FAMILY_ETHERTYPE))
		return false;
	return parse_network_packet(data, end, packet, sctp);
}
