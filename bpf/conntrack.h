/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flows that the kernel's own connection tracking translates: made by kube-proxy, or by a plane of rules, before this
 * one came. They are left to the kernel until they end.
 *
 * A look-up costs as much as ours (130-160 ns), so only what may be such a flow is looked up; see `kernel_asked`.
 * BLIXT_NO_KERNEL_FUNCTIONS: for kernels that have none to ask by (before 5.18), and can't load what calls one.
 */
#pragma once

#include "connection.h"
#include "packet.h"

/* By userspace: 1 as long as the kernel may translate flows to addresses in `services`. */
MAP(kernel_asked, BPF_MAP_TYPE_ARRAY, __u32, __u32, 1, 0);

enum kernel_direction {
	KERNEL_ORIGINAL = 0, /* IP_CT_DIR_ORIGINAL */
	KERNEL_REPLY = 1,
};

enum kernel_status {
	KERNEL_SOURCE_TRANSLATED = 1 << 4, /* IPS_SRC_NAT */
	KERNEL_DESTINATION_TRANSLATED = 1 << 5,
};

enum kernel_tcp_state {
	KERNEL_TIME_WAIT = 7, /* TCP_CONNTRACK_TIME_WAIT */
	KERNEL_CLOSE = 8,
};

/* What is read of an entry in the kernel's table. */
struct kernel_flow {
	__u64 status;
	__u8 direction; /* of the packet that was looked up */
	__u8 tcp_state;
};

#ifdef BLIXT_NO_KERNEL_FUNCTIONS
static __always_inline struct kernel_flow *find_kernel_flow(struct __sk_buff *skb, const struct flow *flow)
{
	(void)skb, (void)flow;
	return NULL;
}
#else
/* Only the members that are read: the loader finds where this kernel has them. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct ip_ct_tcp {
	__u8 state;
};

union nf_conntrack_proto {
	struct ip_ct_tcp tcp;
};

struct nf_conn {
	unsigned long status;
	union nf_conntrack_proto proto;
};
#pragma clang attribute pop

/* struct bpf_ct_opts as it was at first. Newer kernels have a longer one, and take this one, too. */
struct kernel_look_up {
	__s32 namespace;
	__s32 error;
	__u8 protocol;
	__u8 direction;
	__u8 zero[2];
};

#define THIS_NAMESPACE (-1)

struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 tuple_size,
				  struct kernel_look_up *look_up, __u32 look_up_size) __ksym;
void bpf_ct_release(struct nf_conn *found) __ksym;

/* Put together here: the stack has no room. */
struct kernel_question {
	struct bpf_sock_tuple tuple;
	struct kernel_look_up look_up;
	struct kernel_flow found;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kernel_question);
} kernel_questions SEC(".maps");

#ifdef BLIXT_IPV6
#define TUPLE_SIZE sizeof(((struct bpf_sock_tuple *)0)->ipv6)
#else
#define TUPLE_SIZE sizeof(((struct bpf_sock_tuple *)0)->ipv4)
#endif

static __always_inline void fill_tuple(struct bpf_sock_tuple *tuple, const struct flow *flow)
{
#ifdef BLIXT_IPV6
	__builtin_memcpy(tuple->ipv6.saddr, &flow->source, sizeof(flow->source));
	__builtin_memcpy(tuple->ipv6.daddr, &flow->destination, sizeof(flow->destination));
	tuple->ipv6.sport = flow->source_port;
	tuple->ipv6.dport = flow->destination_port;
#else
	tuple->ipv4.saddr = flow->source.word[0];
	tuple->ipv4.daddr = flow->destination.word[0];
	tuple->ipv4.sport = flow->source_port;
	tuple->ipv4.dport = flow->destination_port;
#endif
}

/* NULL: it knows none. */
static __always_inline struct kernel_flow *find_kernel_flow(struct __sk_buff *skb, const struct flow *flow)
{
	__u32 zero = 0;
	struct kernel_question *question = bpf_map_lookup_elem(&kernel_questions, &zero);
	struct nf_conn *entry;

	if (!question)
		return NULL;
	fill_tuple(&question->tuple, flow);
	question->look_up = (struct kernel_look_up){.namespace = THIS_NAMESPACE, .protocol = flow->protocol};
	entry = bpf_skb_ct_lookup(skb, &question->tuple, TUPLE_SIZE, &question->look_up, sizeof(question->look_up));
	if (!entry)
		return NULL;
	question->found.status = entry->status;
	question->found.tcp_state = entry->proto.tcp.state;
	question->found.direction = question->look_up.direction;
	bpf_ct_release(entry);
	return &question->found;
}
#endif

static __always_inline bool kernel_is_asked(void)
{
	__u32 zero = 0;
	__u32 *asked = bpf_map_lookup_elem(&kernel_asked, &zero);

	return asked && *asked;
}

static __always_inline bool is_over_in_kernel(const struct flow *flow, const struct kernel_flow *found)
{
	return flow->protocol == IPPROTO_TCP &&
	       (found->tcp_state == KERNEL_TIME_WAIT || found->tcp_state == KERNEL_CLOSE);
}

/*
 * Whether a packet to a service, of no flow of ours, is one that the kernel translates the destination of. A TCP packet
 * that opens nothing is of a connection that somebody knows: it is looked up whatever userspace has said. SCTP can't be
 * looked up: as long as the kernel may have flows, what opens nothing is taken for one of them.
 */
static __noinline bool kernel_has(struct __sk_buff *skb, const struct packet *packet)
{
	struct kernel_flow *found;
	__u64 destination;

	if (!packet)
		return false;
	if (packet->flow.protocol == IPPROTO_SCTP)
		return !opens(packet) && kernel_is_asked();
	if ((packet->flow.protocol != IPPROTO_TCP || opens(packet)) && !kernel_is_asked())
		return false;
	found = find_kernel_flow(skb, &packet->flow);
	if (!found || (opens(packet) && is_over_in_kernel(&packet->flow, found)))
		return false;
	destination = found->direction == KERNEL_REPLY ? KERNEL_SOURCE_TRANSLATED : KERNEL_DESTINATION_TRANSLATED;
	return found->status & destination;
}

/* Whether the kernel translates the source of packets with this key: answers of such a flow. */
static __noinline bool kernel_answers_with(struct __sk_buff *skb, const struct flow *key)
{
	struct kernel_flow *found;

	if (!key || key->protocol == IPPROTO_SCTP || !kernel_is_asked())
		return false;
	found = find_kernel_flow(skb, key);
	return found && !is_over_in_kernel(key, found) && found->direction == KERNEL_REPLY &&
	       (found->status & KERNEL_DESTINATION_TRANSLATED);
}
