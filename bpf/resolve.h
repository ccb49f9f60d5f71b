/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The rules of a socket (docs/socket-lb.md): a service's address becomes an endpoint's, and back. */
#pragma once

#include "choose.h"
#include "count.h"
#include "opening.h"
#include "sockaddr.h"
#include "socket.h"
#include "whose.h"
#include <asm/errno.h>
#include <bpf/bpf_core_read.h>

#define SOCKET_PROCEED 1
#define SOCKET_DENY 0 /* the program is told EPERM, unless deny() tells another error */

/* As the packet that this socket would send, without a source yet. False: not of this family. */
static __always_inline bool read_flow(struct bpf_sock_addr *context, bool mapped, struct flow *flow)
{
	*flow = (struct flow){.destination_port = context->user_port, .protocol = context->protocol};
	return read_address(context, mapped, &flow->destination);
}

/*
 * Nobody knows a socket's source before the kernel has looked up the way, so the client is its network namespace: a
 * pod, or this node. Written as an address of 0.0.0.0/8, or of ::/64, that no packet comes from, it does not meet the
 * affinities of packets.
 */
static __always_inline void name_client(struct bpf_sock_addr *context, struct flow *flow)
{
	flow->source.word[ADDRESS_WORDS - 1] = bpf_htonl(bpf_get_netns_cookie(context));
}

/*
 * All of a UDP socket's datagrams to a service have one hash: what the map has thrown out is chosen again, and
 * connect() and sendto() agree. Each TCP connection has another.
 */
static __always_inline __u64 hash_socket(__u64 cookie, const struct flow *flow)
{
	if (flow->protocol == IPPROTO_UDP)
		return mix(mix(hash_flow(flow), cookie), cookie >> 32);
	return (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
}

/* Linux before 5.18 has no way to say which error. */
static __always_inline int deny(int error)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_set_retval))
		bpf_set_retval(-error);
	return SOCKET_DENY;
}

/* What is refused on the wire is refused here; what would be dropped is EPERM, as of a local firewall. */
static __always_inline int turn_away(const struct service *service, const struct flow *flow, enum drop_reason reason)
{
	count_drop(reason);
	if (!is_refused(service, flow, reason))
		return SOCKET_DENY;
	count_refused(service->id);
	return deny(ECONNREFUSED);
}

/* DROP_NONE, and the endpoint is in `to` and remembered. */
static __always_inline enum drop_reason choose_for_socket(const struct service *service, const struct flow *flow,
							  __u64 cookie, struct socket_peer *to)
{
	struct choice choice = {};
	__u32 tick = current_tick();
	enum drop_reason reason = choose(service, flow, false, hash_socket(cookie, flow), tick, &choice);

	*to = (struct socket_peer){
		.address = choice.address,
		.port = choice.port,
		.endpoint = choice.endpoint,
		.generation = choice.generation,
		.seen_tick = tick,
	};
	if (reason != DROP_NONE)
		return reason;
	if (!remember_service(cookie, flow, to))
		return DROP_CONNECTIONS_FULL;
	if (flow->protocol == IPPROTO_UDP && !remember_endpoint(cookie, flow, to))
		return DROP_CONNECTIONS_FULL;
	return DROP_NONE;
}

static __always_inline int resolve(struct bpf_sock_addr *context, bool mapped, const struct service *service,
				   struct flow *flow, __u64 cookie)
{
	enum drop_reason reason;
	struct socket_peer to;

	name_client(context, flow);
	reason = choose_for_socket(service, flow, cookie, &to);
	if (reason != DROP_NONE)
		return turn_away(service, flow, reason);
	count_opened(service->id);
	write_address(context, mapped, &to.address, to.port);
	return SOCKET_PROCEED;
}

static __always_inline int resolve_connect(struct bpf_sock_addr *context, bool mapped)
{
	struct service *service;
	struct flow flow;

	if (!read_flow(context, mapped, &flow) || !is_looked_after(context, &flow.destination))
		return SOCKET_PROCEED;
	service = find_service(&flow);
	if (!service || !may_open(true))
		return SOCKET_PROCEED;
	return resolve(context, mapped, service, &flow, bpf_get_socket_cookie(context));
}

/* A datagram with an address of its own. Mapped ones come by IPv4's hook. */
static __always_inline int resolve_datagram(struct bpf_sock_addr *context)
{
	struct service *service;
	struct socket_peer *to;
	struct flow flow;
	__u64 cookie;
	__u32 tick;

	if (!read_flow(context, false, &flow) || !is_looked_after(context, &flow.destination))
		return SOCKET_PROCEED;
	service = find_service(&flow);
	if (!service)
		return SOCKET_PROCEED;
	cookie = bpf_get_socket_cookie(context);
	to = find_endpoint(cookie, &flow);
	if (!to)
		return may_open(true) ? resolve(context, false, service, &flow, cookie) : SOCKET_PROCEED;
	tick = current_tick();
	if (to->seen_tick != tick)
		keep_service(cookie, &flow, to, tick);
	write_address(context, false, &to->address, to->port);
	return SOCKET_PROCEED;
}

/* Whom a datagram came from, or whom a socket is connected to, as the program knows them. */
static __always_inline int name_service(struct bpf_sock_addr *context, bool mapped)
{
	struct socket_peer *service;
	struct address address;

	if (!read_address(context, mapped, &address))
		return SOCKET_PROCEED;
	service = find_service_of(bpf_get_socket_cookie(context), &address, context->user_port);
	if (service)
		write_address(context, mapped, &service->address, service->port);
	return SOCKET_PROCEED;
}
