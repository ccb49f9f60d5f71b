/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A packet becomes what its connection's entry says. */
#pragma once

#include "checksum.h"
#include "packet.h"
#include "way.h"

/* By userspace: BPF_F_IPV6 where the kernel has it (6.16 and backports), else 0. Without it, an IPv6 address change
 * spoils skb->csum of a packet that the NIC has summed up (CHECKSUM_COMPLETE). */
const volatile __u64 checksum_ipv6_flag = 0;

static __always_inline void write_macs(void *data, const struct way *way)
{
	struct ethhdr *ethernet = data;

	__builtin_memcpy(ethernet->h_dest, way->to_mac, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, way->from_mac, ETH_ALEN);
}

static __always_inline void write_network(network_header *ip, const struct connection *entry, bool hop)
{
#ifdef BLIXT_IPV6
	__builtin_memcpy(&ip->saddr, &entry->source, sizeof(struct address));
	__builtin_memcpy(&ip->daddr, &entry->destination, sizeof(struct address));
	ip->hop_limit -= hop;
#else
	__u64 added = entry->address_difference;

	ip->saddr = entry->source.word[0];
	ip->daddr = entry->destination.word[0];
	if (hop) {
		ip->ttl--;
		added += (__u16)~bpf_htons(0x0100);
	}
	ip->check = adjusted(ip->check, added);
#endif
}

static __always_inline __u32 checksum_offset(const struct packet *packet)
{
	return packet->transport_offset + (packet->flow.protocol == IPPROTO_TCP ? 16 : 6);
}

/*
 * Whether the checksum is whole or left to the device is known only to the kernel, so its helper must change it:
 * addresses are in the pseudo header, which counts in both cases, ports are not. It goes last: the helper takes the
 * packet's pointers away.
 */
static __always_inline int write_checksum(struct __sk_buff *skb, const struct packet *packet,
					  const struct connection *entry)
{
	__u64 flags = packet->flow.protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 offset = checksum_offset(packet);
	int failed;

	failed = bpf_l4_csum_replace(skb, offset, 0, entry->address_difference,
				     flags | BPF_F_PSEUDO_HDR | (ADDRESS_WORDS == 4 ? checksum_ipv6_flag : 0));
	if (entry->port_difference != NO_DIFFERENCE)
		failed |= bpf_l4_csum_replace(skb, offset, 0, entry->port_difference, flags);
	return failed;
}

/*
 * Addresses are not in SCTP's sum. One of 0 is left to the device (CHECKSUM_PARTIAL with csum_not_inet: so senders leave
 * it, and a whole one is 0 once in 2^32), which adds up all of the packet with what stands there: it stays 0. No helper
 * knows this sum, so skb->csum, the sum of what a NIC has received, is kept right here; `added` is what else changes it.
 * A global function, which the verifier takes alone.
 */
__noinline int change_sctp_checksum(struct __sk_buff *skb, __u32 offset, __u32 ports, __u32 length, __u32 added)
{
	__le32 was, now;

	if (bpf_skb_load_bytes(skb, offset, &was, sizeof(was)))
		return -1;
	now = was;
	if (was && ports)
		now ^= LITTLE_ENDIAN_32(crc32c_change(ports, length));
	bpf_csum_update(skb, fold((__u64)(__u32)~was + now + added));
	return bpf_skb_store_bytes(skb, offset, &now, sizeof(now), 0);
}

static __always_inline int write_sctp_checksum(struct __sk_buff *skb, const struct packet *packet,
					       const struct connection *entry, bool hop)
{
	const __u32 offset = packet->transport_offset + __builtin_offsetof(struct sctp_header, checksum);
	const __u32 length = packet->network_length - (packet->transport_offset - NETWORK_OFFSET);
	__u16 source = packet->flow.source_port ^ entry->source_port;
	__u16 destination = packet->flow.destination_port ^ entry->destination_port;
	__u32 added = entry->port_difference;

#ifdef BLIXT_IPV6
	added += entry->address_difference + (hop ? (__u16)~bpf_htons(0x0001) : 0);
#else
	(void)hop; /* an IPv4 header sums up to the same */
#endif
	return change_sctp_checksum(skb, offset, LITTLE_ENDIAN_16(source) | (__u32)LITTLE_ENDIAN_16(destination) << 16,
				    length, added);
}

static __always_inline bool translate(struct __sk_buff *skb, const struct packet *packet,
				      const struct connection *entry, __u32 via)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	__be16 *ports = data + (packet->transport_offset & 0x1ff); /* the verifier wants its bound here */

	if (data + PLAIN_TRANSPORT_OFFSET > end || (void *)(ports + 2) > end)
		return false;
	if (via != VIA_STACK && knows_macs(&entry->way))
		write_macs(data, &entry->way);
	write_network(data + NETWORK_OFFSET, entry, via != VIA_STACK);
	ports[0] = entry->source_port;
	ports[1] = entry->destination_port;
	if (packet->flow.protocol == IPPROTO_SCTP)
		return !write_sctp_checksum(skb, packet, entry, via != VIA_STACK);
	return !write_checksum(skb, packet, entry);
}
