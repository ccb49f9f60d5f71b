/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs that are on no packet's way: work that userspace has the kernel do. Compiled once for each family. */
#include "build.h"
#include "recount.h"
#include "remaining.h"

/* 0, or 1: not done, and nothing may point at the table. */
SEC("syscall")
int build_maglev(struct maglev_job *job)
{
	struct maglev_head *head;
	__u32 index = job->first - 1;

	head = bpf_map_lookup_elem(&maglev, &index);
	if (!head)
		return 1;
	__builtin_memset(head, 0, sizeof(*head));
	if (!build(job))
		return 1;
	__builtin_memcpy(head->digest, job->digest, sizeof(head->digest));
	head->count = job->count;
	return 0;
}

SEC("syscall")
int recount_connections(UNUSED void *context)
{
	/* Not the coarse clock, which such a program may not read: its ticks are the same. */
	__u32 tick = bpf_ktime_get_ns() >> TICK_SHIFT;

	bpf_for_each_map_elem(&connections, recount_connection, &tick, 0);
	bpf_for_each_map_elem(&embryos, recount_embryo, &tick, 0);
	bpf_for_each_map_elem(&loads, publish, NULL, 0);
	return 0;
}

/* How many flows go on; entries of the others are deleted. */
SEC("syscall")
int count_remaining(UNUSED void *context)
{
	struct remaining remaining = {.tick = bpf_ktime_get_ns() >> TICK_SHIFT};

	bpf_for_each_map_elem(&connections, remaining_connection, &remaining, 0);
	bpf_for_each_map_elem(&embryos, remaining_embryo, &remaining, 0);
	return remaining.count;
}

char _license[] SEC("license") = "Dual BSD/GPL";
