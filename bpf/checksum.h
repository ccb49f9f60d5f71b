/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One's complement arithmetic on folded 16-bit sums (RFC 1071, RFC 1624), in the byte order that memory has. */
#pragma once

#include "types.h"

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __always_inline __u64 sum_address(const struct address *address)
{
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < ADDRESS_WORDS; i++)
		sum += address->word[i];
	return sum;
}

#define NO_DIFFERENCE 0xffff /* -0 */

/* What to add to a checksum over `before` so that it covers `after`. */
static __always_inline __u16 difference(__u16 before, __u16 after)
{
	return fold((__u64)(__u16)~before + after);
}

static __always_inline __sum16 adjusted(__sum16 checksum, __u64 added)
{
	return ~fold((__u64)(__u16)~checksum + added);
}

/* A UDP checksum of 0 means "none", so one that would be 0 is written as 0xffff (RFC 768). */
static __always_inline __sum16 adjusted_udp(__sum16 checksum, __u64 added)
{
	if (!checksum)
		return 0;
	checksum = adjusted(checksum, added);
	return checksum ? checksum : 0xffff;
}
