/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * CRC32c (RFC 9260, appendix A) by difference. It is linear: when a few bytes of a message change, the sum changes by
 * the remainder of what they differ by, with as many zero bytes behind it as there are in the message. To append zeros
 * is to multiply by a power of x, so this takes hardly more steps for a long message than for a short one.
 */
#pragma once

#include <bpf/bpf_helpers.h>
#include <linux/types.h>

/* Reflected: the highest bit is the coefficient of x^0. */
#define CRC32C_POLYNOMIAL 0x82f63b78
#define CRC32C_POWERS 16

/* x^(8 * 2^k) modulo the polynomial: what appending 2^k bytes of zeros multiplies by. */
static const __u32 crc32c_power[CRC32C_POWERS] = {
	0x00800000, 0x00008000, 0x82f63b78, 0x6ea2d55c, 0x18b8ea18, 0x510ac59a, 0xb82be955, 0xb8fdb1e7,
	0x88e56f72, 0x74c360a4, 0xe4172b16, 0x0d65762a, 0x35d73a62, 0x28461564, 0xbf455269, 0xe2ea32dc,
};

static __always_inline __u32 crc32c_multiply(__u32 a, __u32 b)
{
	__u32 product = 0;

	for (int power = 0; power < 32; power++) {
		product ^= b & -(a >> 31);
		a <<= 1;
		b = (b >> 1) ^ (CRC32C_POLYNOMIAL & -(b & 1));
	}
	return product;
}

/*
 * What the sum of a message of `length` bytes (its lower 16 bits count) changes by when its first four bytes do:
 * `difference` is what these are xored with, as a little-endian number.
 */
static __always_inline __u32 crc32c_change(__u32 difference, __u32 length)
{
	for (int k = 0; k < CRC32C_POWERS; k++)
		if (length >> k & 1)
			difference = crc32c_multiply(crc32c_power[k], difference);
	return difference;
}
