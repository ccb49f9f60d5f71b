/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The programs on sockets, for a cgroup. Compiled once for each family, like those on devices, and with the same maps.
 * IPv4's object has three more, for IPv6 sockets that speak IPv4; each passes on what isn't its family's.
 */
#include "resolve.h"
#include "stale.h"

#ifdef BLIXT_IPV6
#define SOCKET_HOOK(name) SEC("cgroup/" name "6")
#else
#define SOCKET_HOOK(name) SEC("cgroup/" name "4")
#endif

SOCKET_HOOK("connect")
int socket_connect(struct bpf_sock_addr *context)
{
	return resolve_connect(context, false);
}

SOCKET_HOOK("sendmsg")
int socket_sendmsg(struct bpf_sock_addr *context)
{
	return resolve_datagram(context);
}

SOCKET_HOOK("recvmsg")
int socket_recvmsg(struct bpf_sock_addr *context)
{
	return name_service(context, false);
}

SOCKET_HOOK("getpeername")
int socket_getpeername(struct bpf_sock_addr *context)
{
	return name_service(context, false);
}

#ifndef BLIXT_IPV6
SEC("cgroup/connect6")
int mapped_connect(struct bpf_sock_addr *context)
{
	return resolve_connect(context, true);
}

SEC("cgroup/recvmsg6")
int mapped_recvmsg(struct bpf_sock_addr *context)
{
	return name_service(context, true);
}

SEC("cgroup/getpeername6")
int mapped_getpeername(struct bpf_sock_addr *context)
{
	return name_service(context, true);
}
#endif

SEC("iter/tcp")
int end_tcp(struct bpf_iter__tcp *context)
{
	struct sock_common *socket = context->sk_common;

	if (!socket || socket->skc_state == STATE_TIME_WAIT || socket->skc_state == STATE_NEW_SYN_RECV)
		return 0;
	return end_if_stale(socket, false);
}

SEC("iter/udp")
int end_udp(struct bpf_iter__udp *context)
{
	struct sock_common *socket = (struct sock_common *)context->udp_sk;

	return socket ? end_if_stale(socket, true) : 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
