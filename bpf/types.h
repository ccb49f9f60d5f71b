/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the maps hold. Compiled once for each family: an IPv4 key must not pay for IPv6's length.
 * Userspace has the same layouts (backend/blixt_backend/planes/ebpf/layout.py); a test compares both through BTF.
 * Fields named *_port, address and word are in network byte order, everything else in the machine's.
 */
#pragma once

#include <linux/types.h>

#ifdef BLIXT_IPV6
#define ADDRESS_WORDS 4
#else
#define ADDRESS_WORDS 1
#endif

#define SIZED(type, v4, v6) _Static_assert(sizeof(type) == (ADDRESS_WORDS == 1 ? (v4) : (v6)), #type)

struct address {
	__be32 word[ADDRESS_WORDS];
};

/* A packet's five-tuple as it stands on the wire. */
struct flow {
	struct address source;
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 zero[3];
};
SIZED(struct flow, 16, 40);

/* Where clients connect to. */
struct frontend {
	struct address address;
	__be16 port;
	__u8 protocol;
	__u8 zero;
};
SIZED(struct frontend, 8, 20);

/* A service's slots: `count` of them from index `first` of the slots array; by Maglev, see struct maglev_part. */
struct slot_range {
	__u32 first;
	__u32 count;
};

enum service_flag {
	SERVICE_SOURCE_RANGES = 1 << 0,     /* clients from outside must be in one of them */
	SERVICE_DROP_INSIDE = 1 << 1,       /* no slot for clients inside: drop (policy Local), else refuse */
	SERVICE_DROP_OUTSIDE = 1 << 2,      /* the same for clients outside */
	SERVICE_DROP_UDP_REJECTS = 1 << 3,  /* a reject share of UDP is dropped, not answered (Gateway API) */
	SERVICE_MAGLEV = 1 << 4,            /* its ranges are tables of the maglev array */
	SERVICE_LEAST_CONNECTIONS = 1 << 5, /* its columns have weights, see struct slot_weights */
};

struct service {
	__u32 id;
	__u32 flags;
	struct slot_range inside;  /* for clients of this node: its pods and itself */
	struct slot_range outside; /* for whoever comes in from the network */
	__u32 affinity_ticks;      /* 0: no affinity */
};
SIZED(struct service, 28, 28);

/* One column of an alias table (Walker 1977): `endpoint` when the coin is below `threshold`, else `alias`. */
struct slot {
	__u32 threshold;
	__u32 endpoint;
	__u32 alias;
};
SIZED(struct slot, 12, 12);

/* Of a service by least connections, the slot behind each column: the weights of the two that it names. */
struct slot_weights {
	__u32 endpoint;
	__u32 alias;
	__u32 zero;
};
SIZED(struct slot_weights, 12, 12);

#define MAGLEV_PART 16

/*
 * Maglev tables stand in one array, 16 slots an entry, so that no slot takes more than its 4 bytes. A table's slots begin
 * with entry `first` of its range; the entry before that is its head.
 */
struct maglev_part {
	__u32 endpoint[MAGLEV_PART];
};
SIZED(struct maglev_part, 64, 64);

#define MAGLEV_DIGEST 4

/* Of what the table was built from, by userspace, so that a table is known again; all zero while it is being built. */
struct maglev_head {
	__u32 digest[MAGLEV_DIGEST];
	__u32 count;
	__u32 zero[MAGLEV_PART - MAGLEV_DIGEST - 1];
};
SIZED(struct maglev_head, 64, 64);

#define ENDPOINT_REJECT 0         /* in a slot: refuse the connection; never a real endpoint's index */
#define ENDPOINT_LEFT 0xFFFFFFFFU /* one that is not there any more */

enum endpoint_flag {
	ENDPOINT_LIVE = 1 << 0,      /* unset: the index is free */
	ENDPOINT_LOCAL = 1 << 1,     /* on this node */
	ENDPOINT_DRAINING = 1 << 2,  /* keeps its connections, gets no new ones */
	ENDPOINT_SILENT = 1 << 3,    /* answers nobody: UDP flows choose another, TCP may wait */
	ENDPOINT_COUNTED = 1 << 4,   /* its open connections are counted, for a service by least connections */
	ENDPOINT_TUNNELLED = 1 << 5, /* what comes in from the network goes there as it is, in a tunnel */
};

/* The index is remembered by connections; the generation tells them when it was given to another endpoint. */
struct endpoint {
	struct address address;
	__be16 port;
	__u16 flags;
	__u32 generation;
	__u32 service;
};
SIZED(struct endpoint, 16, 28);

/* By endpoint: its open connections, more or less (load.h). Another generation's count is nobody's. */
struct load {
	__u32 generation;
	__s32 open;
};
SIZED(struct load, 8, 8);

/* How a translated packet goes on. */
enum via {
	VIA_STACK = 0,     /* the kernel's own routing */
	VIA_DEVICE = 1,    /* out of a device, link-layer addresses known */
	VIA_NEIGHBOUR = 2, /* out of a device, the kernel finds the neighbour */
	VIA_PEER = 3,      /* into the pod at the other end of a veth */
};

struct way {
	__u32 device; /* ifindex */
	__u16 mtu;    /* 0: unknown */
	__u16 via;
	__u8 to_mac[6]; /* all zero: both are unknown */
	__u8 from_mac[6];
};
SIZED(struct way, 20, 20);

enum connection_flag {
	CONNECTION_REPLY = 1 << 0,       /* the entry of the endpoint's packets */
	CONNECTION_MASQUERADED = 1 << 1, /* the source is not the client's own */
	CONNECTION_FIN_CLIENT = 1 << 2,
	CONNECTION_FIN_ENDPOINT = 1 << 3,
	CONNECTION_RESET = 1 << 4,
	CONNECTION_ANSWERED = 1 << 5,  /* of an embryo: the endpoint has sent something */
	CONNECTION_COUNTED = 1 << 6,   /* among its endpoint's open ones, until it is over */
	CONNECTION_TUNNELLED = 1 << 7, /* of a client, without a partner: answers go another way */
	CONNECTION_CLOSED_BY_BOTH = CONNECTION_FIN_CLIENT | CONNECTION_FIN_ENDPOINT,
};

/* What a packet of a flow becomes. Every connection has two: the client's packets' and the endpoint's. */
struct connection {
	struct address source; /* after translation */
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	__u16 address_difference; /* folded sum to add to a checksum that covers addresses */
	__u16 port_difference;    /* the same for ports */
	__u32 endpoint;
	__u32 generation;
	__u32 service;
	__u32 flags;
	__u32 seen_tick; /* when the way on was last looked up; see TICK_SHIFT */
	struct way way;
	__u64 packets;
	__u64 bytes;
};
SIZED(struct connection, 72, 96);

/*
 * A flow whose client has not yet sent on after an answer, under the key of the packets that answer it. It has all
 * that a connection's two entries are made of: what the client's packets are, and what its flow has come to.
 */
struct embryo {
	struct address source; /* of the client's packets, before translation */
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	__u32 endpoint;
	__u32 generation;
	__u32 service;
	__u32 born_tick;
	__u32 seen_tick; /* of the client's last packet */
	struct way way;  /* to the endpoint */
	__u16 flags;     /* enum connection_flag */
	__u8 packets;    /* of the client; neither this nor the next goes over 255 */
	__u8 answers;
	__u32 bytes;
	__u32 answer_bytes;
};
SIZED(struct embryo, 64, 88);

/*
 * Which endpoint, and which source, an unanswered flow was given: an array by the client's flow's hash, where later
 * flows write over earlier ones. Only where the embryo is found that it leads to does it count.
 */
struct hint {
	__u32 endpoint;
	__u32 device; /* the one whose address the client is masqueraded as; 0: its own */
	__be16 source_port;
	__u16 tag; /* of the hash */
	__u32 zero;
};
SIZED(struct hint, 16, 16);

/* Time in ticks of 2^30 ns (1.07 s): a shift, where seconds were a division for every packet. */
#define TICK_SHIFT 30

enum device_flag {
	DEVICE_UPLINK = 1 << 0,     /* --interface */
	DEVICE_POD = 1 << 1,        /* --pod-interface */
	DEVICE_PEER = 1 << 2,       /* a veth whose other end is another network namespace */
	DEVICE_MASQUERADE = 1 << 3, /* `address` is set */
};

struct device {
	struct address address; /* what clients from elsewhere are masqueraded as on their way out of it */
	__u32 flags;
};
SIZED(struct device, 8, 20);

struct source_range {
	__u32 prefix_length; /* 32 bits of service, then the address's: LPM trie */
	__be32 service;
	struct address address;
};
SIZED(struct source_range, 12, 24);

enum vacancy_answer {
	VACANCY_REFUSED = 1, /* a cluster IP: no service has that port */
	VACANCY_DROPPED = 2, /* in the range of cluster IPs: no service has that address */
};

/* Addresses where a flow to no service ends; the longest prefix counts. */
struct vacancy {
	__u32 prefix_length; /* LPM trie */
	struct address address;
};
SIZED(struct vacancy, 8, 20);

struct affinity_key {
	__u32 service;
	struct address client;
};
SIZED(struct affinity_key, 8, 20);

struct affinity {
	__u32 endpoint;
	__u32 generation;
	__u32 seen_tick;
};
SIZED(struct affinity, 12, 12);

/* A fragmented datagram on its way. */
struct datagram {
	struct address source;
	struct address destination;
	__be32 id;     /* IPv4's 16 bits are its first ones */
	__u8 protocol; /* of IPv4 only */
	__u8 zero[3];
};
SIZED(struct datagram, 16, 40);

/* What a later fragment lacks to know its flow by. */
struct datagram_flow {
	__be16 source_port;
	__be16 destination_port;
	__u32 seen_tick; /* of the first fragment */
	__u8 protocol;
	__u8 zero[3];
};
SIZED(struct datagram_flow, 12, 12);

enum socket_side {
	SOCKET_SERVICE = 0,  /* where the program sends to; the peer is the endpoint that it gets */
	SOCKET_ENDPOINT = 1, /* where answers come from; the peer is the service that the program knows */
};

/* A socket that is translated, by its cookie, and one of the addresses that it deals with. */
struct socket_key {
	__u64 cookie;
	struct address address;
	__be16 port;
	__u8 side;
	__u8 zero[ADDRESS_WORDS == 1 ? 1 : 5];
};
SIZED(struct socket_key, 16, 32);

struct socket_peer {
	struct address address;
	__be16 port;
	__u16 zero;
	__u32 endpoint;
	__u32 generation;
	__u32 seen_tick;
};
SIZED(struct socket_peer, 20, 32);

/* Per CPU, one for each service id. */
struct service_counters {
	__u64 connections;
	__u64 refused; /* answered with a reset or an ICMP error */
	__u64 packets_in;
	__u64 bytes_in;
	__u64 packets_out;
	__u64 bytes_out;
};
SIZED(struct service_counters, 48, 48);

/* Why a packet of ours went no further, or was answered in the endpoint's stead: index of the drops array. */
enum drop_reason {
	DROP_NONE = 0,
	DROP_NO_ENDPOINT,           /* refused: a service without endpoints */
	DROP_REJECT_SHARE,          /* refused, or for UDP routes dropped: the share of a backend that is not there */
	DROP_POLICY_LOCAL,          /* no endpoint on this node, and the traffic policy is Local */
	DROP_SOURCE_RANGE,          /* the client is in none of the service's source ranges */
	DROP_ENDPOINT_GONE,         /* TCP to an endpoint that left: reset */
	DROP_PORTS_EXHAUSTED,       /* no free source port for masquerading */
	DROP_NO_MASQUERADE_ADDRESS, /* the way out has no address of this family */
	DROP_CONNECTIONS_FULL,      /* the connection could not be recorded */
	DROP_TOO_BIG,               /* answered with "fragmentation needed" or "packet too big" */
	DROP_FRAGMENT,              /* a later fragment of a datagram whose connection or endpoint is gone */
	DROP_UNDEFINED_PORT,        /* refused: a cluster IP, and no service has that port */
	DROP_UNALLOCATED,           /* in the range of cluster IPs, and no service has that address */
	DROP_NO_WAY,                /* nothing leads to the endpoint's node, for what goes there in a tunnel */
	DROP_NO_NODE,               /* came in a tunnel from an address that is no node's */
	DROP_REASONS,
};
