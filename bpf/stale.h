/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ends connected sockets whose endpoint left: their programs see ECONNABORTED, and connect anew. Nothing else would
 * tell them, since their packets go by unseen. Run by userspace after endpoints left, once in each network namespace.
 */
#pragma once

#include "count.h"
#include "endpoint.h"
#include "socket.h"
#include <linux/in6.h>

/* As much of the kernel's structures as is read here; the loader finds the fields' places (CO-RE). */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct sock_common {
	__be32 skc_daddr;
	__be16 skc_dport;
	unsigned char skc_state;
	struct in6_addr skc_v6_daddr;
};

struct udp_sock;

struct bpf_iter__tcp {
	struct sock_common *sk_common;
};

struct bpf_iter__udp {
	struct udp_sock *udp_sk;
};
#pragma clang attribute pop

enum tcp_state {
	STATE_TIME_WAIT = 6,
	STATE_NEW_SYN_RECV = 12,
};

/* Linux 6.5. Weak, so that the object's other programs can be loaded without it; these two are left out then. */
extern int bpf_sock_destroy(struct sock_common *socket) __ksym __weak;

static __always_inline bool is_stale(const struct socket_peer *service, bool udp)
{
	struct endpoint *endpoint = same_endpoint(service->endpoint, service->generation);

	return !endpoint || (udp && (endpoint->flags & ENDPOINT_SILENT));
}

static __always_inline int end_if_stale(struct sock_common *socket, bool udp)
{
	struct address address = {};
	struct socket_peer *service;
	struct socket_key key;

#ifdef BLIXT_IPV6
	__builtin_memcpy(&address, &socket->skc_v6_daddr, sizeof(address));
#else
	address.word[0] = socket->skc_daddr;
#endif
	key = socket_key(bpf_get_socket_cookie(socket), &address, socket->skc_dport, SOCKET_ENDPOINT);
	service = bpf_map_lookup_elem(&sockets, &key);
	if (!service || !is_stale(service, udp))
		return 0;
	bpf_map_delete_elem(&sockets, &key);
	count_drop(DROP_ENDPOINT_GONE);
	bpf_sock_destroy(socket);
	return 0;
}
