/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The rules of a packet for XDP: known flows that leave by a device again. Everything else is TC's. */
#pragma once

#include "checksum.h"
#include "connection.h"
#include "count.h"
#include "packet.h"
#include "translate.h"

static __always_inline bool is_fast(const struct packet *packet, const struct connection *entry)
{
	__u32 tick = current_tick();

	if (entry->seen_tick != tick || entry->way.via != VIA_DEVICE || is_tunnelled(entry->flags))
		return false;
	if (entry->way.mtu && packet->length > entry->way.mtu)
		return false;
	return fate_of(packet, entry, tick) == FATE_GOES_ON;
}

/* XDP frames are summed up whole: a driver hands no half-done checksum to XDP. */
static __always_inline void write_checksum_directly(__sum16 *checksum, const struct packet *packet,
						    const struct connection *entry)
{
	__u64 added = (__u64)entry->address_difference + entry->port_difference;

	*checksum = packet->flow.protocol == IPPROTO_UDP ? adjusted_udp(*checksum, added) : adjusted(*checksum, added);
}

static __always_inline int balance_fast(struct xdp_md *xdp)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	struct connection *entry;
	struct packet packet = {};
	__sum16 *checksum;
	__be16 *ports;

	if (!parse(data, end, &packet, false) || packet.icmp_error || !packet.plain || packet.fragment ||
	    packet.ttl <= 1 || (packet.tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST)))
		return XDP_PASS;
	packet.length = end - data - NETWORK_OFFSET;
	entry = bpf_map_lookup_elem(&connections, &packet.flow);
	if (!entry || !is_fast(&packet, entry))
		return XDP_PASS;
	ports = data + PLAIN_TRANSPORT_OFFSET;
	checksum = data + (checksum_offset(&packet) & 0x1ff);
	if ((void *)(ports + 2) > end || (void *)(checksum + 1) > end) /* never: for the verifier */
		return XDP_PASS;
	count_packet(entry, packet.length);
	write_macs(data, &entry->way);
	write_network(data + NETWORK_OFFSET, entry, true);
	ports[0] = entry->source_port;
	ports[1] = entry->destination_port;
	write_checksum_directly(checksum, &packet, entry);
	return entry->way.device == xdp->ingress_ifindex ? XDP_TX : bpf_redirect(entry->way.device, 0);
}
