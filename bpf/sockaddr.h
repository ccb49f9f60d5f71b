/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The address that a socket hook is about, read and rewritten. An IPv6 socket may speak IPv4, with addresses written
 * ::ffff:a.b.c.d (RFC 4291, 2.5.5.2): `mapped`. The kernel calls the IPv6 hooks for it, and IPv4's maps answer.
 */
#pragma once

#include "types.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>
#include <stdbool.h>

/* False: not of this family. */
static __always_inline bool read_address(const struct bpf_sock_addr *context, bool mapped, struct address *address)
{
#ifdef BLIXT_IPV6
	if (mapped)
		return false;
#pragma unroll
	for (int i = 0; i < ADDRESS_WORDS; i++)
		address->word[i] = context->user_ip6[i];
	return true;
#else
	if (!mapped) {
		address->word[0] = context->user_ip4;
		return true;
	}
	address->word[0] = context->user_ip6[3];
	return !context->user_ip6[0] && !context->user_ip6[1] && context->user_ip6[2] == bpf_htonl(0xffff);
#endif
}

/* What is mapped stays so: only its last word is another. */
static __always_inline void write_address(struct bpf_sock_addr *context, bool mapped, const struct address *address,
					  __be16 port)
{
#ifdef BLIXT_IPV6
	if (mapped)
		return;
#pragma unroll
	for (int i = 0; i < ADDRESS_WORDS; i++)
		context->user_ip6[i] = address->word[i];
#else
	if (mapped)
		context->user_ip6[3] = address->word[0];
	else
		context->user_ip4 = address->word[0];
#endif
	context->user_port = port;
}
