/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a VLAN device does, for kernels that have none: id 100 is taken off what comes in, and put on what leaves. */
#include <linux/bpf.h>
#include <linux/if_ether.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define NUMBER 100
#define VLAN_ID 0x0fff

#define IS_OURS (-1) /* of a classifier */
#define NOT_OURS 0

SEC("tagged/in")
int take_off(struct __sk_buff *skb)
{
	if (!skb->vlan_present || (skb->vlan_tci & VLAN_ID) != NUMBER || bpf_skb_vlan_pop(skb))
		return NOT_OURS;
	return IS_OURS;
}

SEC("tagged/out")
int put_on(struct __sk_buff *skb)
{
	return bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), NUMBER) ? NOT_OURS : IS_OURS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
