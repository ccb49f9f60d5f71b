/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is remembered of translated sockets: their endpoints, and what their programs take these for. */
#pragma once

#include "choose.h"
#include "endpoint.h"
#include "maps.h"
#include "tick.h"

MAP(sockets, BPF_MAP_TYPE_LRU_HASH, struct socket_key, struct socket_peer, 131072, 0);

static __always_inline struct socket_key socket_key(__u64 cookie, const struct address *address, __be16 port, __u8 side)
{
	return (struct socket_key){.cookie = cookie, .address = *address, .port = port, .side = side};
}

/* So that answers of the endpoint are taken for the service's. False: there was no room. */
static __always_inline bool remember_service(__u64 cookie, const struct flow *flow, const struct socket_peer *to)
{
	struct socket_key key = socket_key(cookie, &to->address, to->port, SOCKET_ENDPOINT);
	struct socket_peer peer = {
		.address = flow->destination,
		.port = flow->destination_port,
		.endpoint = to->endpoint,
		.generation = to->generation,
	};

	return !bpf_map_update_elem(&sockets, &key, &peer, BPF_ANY);
}

/* So that the socket's next datagram to this service goes to the same endpoint. */
static __always_inline bool remember_endpoint(__u64 cookie, const struct flow *flow, const struct socket_peer *to)
{
	struct socket_key key = socket_key(cookie, &flow->destination, flow->destination_port, SOCKET_SERVICE);

	return !bpf_map_update_elem(&sockets, &key, to, BPF_ANY);
}

/* The endpoint that this socket's datagrams to a service go to; NULL: none yet, or one that must not go on. */
static __always_inline struct socket_peer *find_endpoint(__u64 cookie, const struct flow *flow)
{
	struct socket_key key = socket_key(cookie, &flow->destination, flow->destination_port, SOCKET_SERVICE);
	struct socket_peer *to = bpf_map_lookup_elem(&sockets, &key);
	struct endpoint *endpoint;

	if (!to)
		return NULL;
	endpoint = same_endpoint(to->endpoint, to->generation);
	return endpoint && !(endpoint->flags & ENDPOINT_SILENT) ? to : NULL;
}

/* Once a tick: the LRU may have thrown out what only answers use, while there were none. */
static __always_inline void keep_service(__u64 cookie, const struct flow *flow, struct socket_peer *to, __u32 tick)
{
	struct socket_key key = socket_key(cookie, &to->address, to->port, SOCKET_ENDPOINT);

	to->seen_tick = tick;
	if (!bpf_map_lookup_elem(&sockets, &key))
		remember_service(cookie, flow, to);
}

/* What the program takes this endpoint for. */
static __always_inline struct socket_peer *find_service_of(__u64 cookie, const struct address *address, __be16 port)
{
	struct socket_key key = socket_key(cookie, address, port, SOCKET_ENDPOINT);

	return bpf_map_lookup_elem(&sockets, &key);
}
