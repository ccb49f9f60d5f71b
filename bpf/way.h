/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The way on: found through the kernel's own routes and neighbours, kept by a connection for a tick. */
#pragma once

#include "maps.h"
#include "packet.h"

#define AF_INET 2
#define AF_INET6 10

enum hook {
	FROM_NETWORK, /* TC ingress of an uplink */
	FROM_POD,     /* TC ingress of a pod's device */
	FROM_NODE,    /* TC egress: born on this node */
	FROM_TUNNEL,  /* TC ingress of an uplink: another node has chosen the endpoint */
};

#define VERDICT_NEXT (-1) /* TCX_NEXT, TC_ACT_UNSPEC */
#define VERDICT_DROP 2    /* TC_ACT_SHOT */

/* In skb->tc_index: sent on by a program here, so that node_egress can pass it on without a look-up. */
#define SENT_ON 0xb117

static __always_inline bool knows_macs(const struct way *way)
{
	return *(const __u32 *)way->to_mac | *(const __u16 *)(way->to_mac + 4);
}

static __always_inline void fill_fib_lookup(struct bpf_fib_lookup *fib, const struct address *source,
					    const struct address *destination)
{
#ifdef BLIXT_IPV6
	fib->family = AF_INET6;
	__builtin_memcpy(fib->ipv6_src, source, sizeof(*source));
	__builtin_memcpy(fib->ipv6_dst, destination, sizeof(*destination));
#else
	fib->family = AF_INET;
	fib->ipv4_src = source->word[0];
	fib->ipv4_dst = destination->word[0];
#endif
}

/*
 * Fills `way` for a packet from `source` to `destination` that came by (or, born here, would leave by) `device`.
 * redirect_peer exists only at ingress, and only towards a veth whose other end is in another namespace.
 */
static __noinline int find_way(struct __sk_buff *skb, const struct address *source, const struct address *destination,
			       struct way *way, int hook)
{
	struct bpf_fib_lookup fib = {};
	struct device *device;
	bool peer;
	long found;

	if (!source || !destination || !way)
		return 0;
	__builtin_memset(way, 0, sizeof(*way));
	fill_fib_lookup(&fib, source, destination);
	fib.ifindex = skb->ifindex;
	fib.tot_len = 1; /* asks for the route's MTU, in the same field */
	found = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	if (found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH)
		return 0;
	way->device = fib.ifindex;
	device = bpf_map_lookup_elem(&devices, &way->device);
	peer = hook != FROM_NODE && device && (device->flags & DEVICE_PEER);
	if (found == BPF_FIB_LKUP_RET_NO_NEIGH) {
		way->via = peer ? VIA_PEER : VIA_NEIGHBOUR;
		return 0;
	}
	way->via = peer ? VIA_PEER : VIA_DEVICE;
	way->mtu = fib.mtu_result;
	__builtin_memcpy(way->to_mac, fib.dmac, ETH_ALEN);
	__builtin_memcpy(way->from_mac, fib.smac, ETH_ALEN);
	return 0;
}

static __always_inline void send_macs(struct __sk_buff *skb, const struct way *way)
{
	if (way->via == VIA_STACK || !knows_macs(way))
		return;
	bpf_skb_store_bytes(skb, __builtin_offsetof(struct ethhdr, h_dest), way->to_mac, ETH_ALEN, 0);
	bpf_skb_store_bytes(skb, __builtin_offsetof(struct ethhdr, h_source), way->from_mac, ETH_ALEN, 0);
}

static __always_inline int send(struct __sk_buff *skb, const struct way *way, __u32 via, int hook)
{
	switch (via) {
	case VIA_PEER:
		return bpf_redirect_peer(way->device, 0);
	case VIA_STACK:
		return VERDICT_NEXT;
	}
	if (hook == FROM_NODE && via == VIA_DEVICE && way->device == skb->ifindex)
		return VERDICT_NEXT;
	skb->tc_index = SENT_ON;
	return via == VIA_NEIGHBOUR ? bpf_redirect_neigh(way->device, NULL, 0, 0) : bpf_redirect(way->device, 0);
}
