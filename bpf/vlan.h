/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tagged frames (IEEE 802.1Q, 802.1ad). The kernel takes the outer tag out of the frame before TC sees it, if the
 * hardware has not, and leaves it beside the packet: what looks like any other packet may be another network's. Inner
 * tags, and those that XDP sees, stand in the frame, which then has another ethertype.
 */
#pragma once

#include "way.h"

#define VLAN_ID 0x0fff

/*
 * Its network has a device of its own, with programs of its own where that is asked for. A tag with id 0 is of no other
 * network, it has a priority only (802.1Q, 6.9): the stack would forget it, and no pod may see it.
 */
static __always_inline bool is_of_other_network(struct __sk_buff *skb, int hook)
{
	if (!skb->vlan_present)
		return false;
	return hook == FROM_NODE || (skb->vlan_tci & VLAN_ID) || bpf_skb_vlan_pop(skb);
}
