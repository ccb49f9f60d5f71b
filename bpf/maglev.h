/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Maglev tables (Eisenbud et al., NSDI 2016): every slot names an endpoint, and all nodes' tables name the same. */
#pragma once

#include "maps.h"

/* A slot of the table that begins at entry `first` of the array. */
static __always_inline __u32 *maglev_slot(__u32 first, __u32 number)
{
	__u32 index = first + number / MAGLEV_PART;
	struct maglev_part *part = bpf_map_lookup_elem(&maglev, &index);

	return part ? &part->endpoint[number % MAGLEV_PART] : NULL;
}
