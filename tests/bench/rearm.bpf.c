/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A test run that repeats runs a program over the packet that it has changed. These write the headers anew, of another
 * flow each time, and hand the packet to the program under test; what that costs is known by handing it to one that
 * does nothing.
 */
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>

#define HEADERS 54 /* of Ethernet, IPv4 and TCP, without options */
#define FLOWS_AN_ADDRESS 28000

struct plan {
	__u8 headers[HEADERS];
	__u8 to_flow; /* the flow's address and port are the destination, not the source */
	__u8 padding;
	__u32 next;  /* flow */
	__u32 flows; /* a power of two; 0: never the same again */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct plan);
} plans SEC(".maps");

#define TARGET(name)                                                                                                   \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                                                 \
		__uint(max_entries, 1);                                                                                \
		__type(key, __u32);                                                                                    \
		__type(value, __u32);                                                                                  \
	} name SEC(".maps")

TARGET(tc_target);
TARGET(xdp_target);

static __always_inline int rearm(void *data, void *end)
{
	__u32 zero = 0, flow, address;
	struct plan *plan = bpf_map_lookup_elem(&plans, &zero);
	struct iphdr *ip = data + ETH_HLEN;
	struct tcphdr *tcp = (void *)(ip + 1);
	__u16 port;

	if (!plan || data + HEADERS > end)
		return 0;
	flow = plan->next++;
	if (plan->flows)
		flow &= plan->flows - 1;
	__builtin_memcpy(data, plan->headers, HEADERS);
	address = bpf_htonl(flow / FLOWS_AN_ADDRESS);
	port = bpf_htons(1024 + flow % FLOWS_AN_ADDRESS);
	if (plan->to_flow) {
		ip->daddr += address;
		tcp->dest = port;
	} else {
		ip->saddr += address;
		tcp->source = port;
	}
	return 1;
}

SEC("tc")
int rearm_tc(struct __sk_buff *skb)
{
	if (rearm((void *)(long)skb->data, (void *)(long)skb->data_end))
		bpf_tail_call(skb, &tc_target, 0);
	return 99; /* no verdict of any program */
}

SEC("xdp")
int rearm_xdp(struct xdp_md *xdp)
{
	if (rearm((void *)(long)xdp->data, (void *)(long)xdp->data_end))
		bpf_tail_call(xdp, &xdp_target, 0);
	return 99;
}

SEC("tc")
int nothing_tc(struct __sk_buff *skb)
{
	(void)skb;
	return -1;
}

SEC("xdp")
int nothing_xdp(struct xdp_md *xdp)
{
	(void)xdp;
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
