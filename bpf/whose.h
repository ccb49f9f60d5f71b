/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whose sockets are looked after: all of the cgroup's, or only those on the node's own network, whose packets can't be
 * helped where they go to the node itself. Node ports on loopback are the node's own programs' alone.
 */
#pragma once

#include "types.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>
#include <stdbool.h>

/* By userspace: the cookie of the node's own network namespace, and whether the others' sockets are left alone. */
const volatile __u64 node_network = 0;
const volatile __u32 node_network_only = 0;

static __always_inline bool is_loopback(const struct address *address)
{
#ifdef BLIXT_IPV6
	return !address->word[0] && !address->word[1] && !address->word[2] && address->word[3] == bpf_htonl(1);
#else
	return (address->word[0] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
#endif
}

static __always_inline bool is_looked_after(struct bpf_sock_addr *context, const struct address *destination)
{
	if (!node_network_only && !is_loopback(destination))
		return true;
	return bpf_get_netns_cookie(context) == node_network;
}
