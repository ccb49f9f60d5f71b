/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where nobody is: a port that no service has at a cluster IP, and an address of the services' range that none has.
 * Node ports' and outside addresses are not among these: other ports of theirs may be the node's, or another host's.
 */
#pragma once

#include "maps.h"

MAP(vacancies, BPF_MAP_TYPE_LPM_TRIE, struct vacancy, __u32, 65536, BPF_F_NO_PREALLOC);

/* For a flow to no service. Most destinations differ from all that is in the trie in its very first node. */
static __always_inline enum drop_reason vacancy_of(const struct flow *flow)
{
	struct vacancy key = {.prefix_length = 32 * ADDRESS_WORDS, .address = flow->destination};
	__u32 *answer = bpf_map_lookup_elem(&vacancies, &key);

	if (!answer)
		return DROP_NONE;
	return *answer == VACANCY_REFUSED ? DROP_UNDEFINED_PORT : DROP_UNALLOCATED;
}
