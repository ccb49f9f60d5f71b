/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The programs. One source, compiled once for IPv4 and once, with BLIXT_IPV6, for IPv6: each object has its own
 * programs and maps, both are attached to the same hooks, and each passes on what isn't of its family.
 */
#include "balance.h"
#include "fast.h"
#include <linux/if_packet.h>

/* A switch that doesn't know where a host is floods its frames: they are for that host, and it alone handles them. */
SEC("tc")
int uplink_ingress(struct __sk_buff *skb)
{
	if (skb->pkt_type == PACKET_OTHERHOST)
		return VERDICT_NEXT;
	return balance(skb, FROM_NETWORK);
}

SEC("tc")
int pod_ingress(struct __sk_buff *skb)
{
	return balance(skb, FROM_POD);
}

/*
 * What came in by one of our devices was handled there. The rest was born here, or came by a device that we are not
 * attached to, in which case its replies are translated here.
 */
SEC("tc")
int node_egress(struct __sk_buff *skb)
{
	__u32 came_by = skb->ingress_ifindex;

	if (skb->protocol != bpf_htons(FAMILY_ETHERTYPE))
		return VERDICT_NEXT;
	if (skb->tc_index == SENT_ON) {
		skb->tc_index = 0;
		return VERDICT_NEXT;
	}
	if (came_by && bpf_map_lookup_elem(&devices, &came_by))
		return VERDICT_NEXT;
	return balance(skb, FROM_NODE);
}

#ifndef BLIXT_IPV6
/* A device takes one XDP program: this one hands IPv6 on to the other object's. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u32);
} xdp_next SEC(".maps");

static __always_inline bool is_ipv6(struct xdp_md *xdp)
{
	const struct ethhdr *ethernet = (void *)(long)xdp->data;

	return (void *)(ethernet + 1) <= (void *)(long)xdp->data_end && ethernet->h_proto == bpf_htons(ETH_P_IPV6);
}
#endif

SEC("xdp")
int uplink_xdp(struct xdp_md *xdp)
{
#ifndef BLIXT_IPV6
	if (is_ipv6(xdp)) {
		bpf_tail_call(xdp, &xdp_next, 0);
		return XDP_PASS;
	}
#endif
	return balance_fast(xdp);
}

char _license[] SEC("license") = "Dual BSD/GPL";
