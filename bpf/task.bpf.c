/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs that are on no packet's way: work that userspace has the kernel do. Compiled once for each family. */
#include "build.h"

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

char _license[] SEC("license") = "Dual BSD/GPL";
