/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * SCTP (RFC 9260), as far as its packets differ from TCP's and UDP's: what its chunks say of an association, and a
 * checksum that is a CRC32c over its packet and no addresses.
 */
#pragma once

#include "crc32c.h"
#include "types.h"
#include <bpf/bpf_endian.h>
#include <linux/in.h>

/* The common header, and what every chunk begins with. */
struct sctp_header {
	__be16 source_port;
	__be16 destination_port;
	__be32 verification_tag;
	__le32 checksum;
	__u8 chunk;
	__u8 chunk_flags;
	__be16 chunk_length;
};

enum sctp_chunk {
	SCTP_INIT = 1,
	SCTP_INIT_ACK = 2,
	SCTP_ABORT = 6,
	SCTP_SHUTDOWN_ACK = 8,
	SCTP_SHUTDOWN_COMPLETE = 14,
};

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LITTLE_ENDIAN_16(value) ((__u16)(value))
#define LITTLE_ENDIAN_32(value) ((__u32)(value))
#else
#define LITTLE_ENDIAN_16(value) __builtin_bswap16(value)
#define LITTLE_ENDIAN_32(value) __builtin_bswap32(value)
#endif
