/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Least connections by the power of two choices: two are drawn by weight, and who has less to do for its weight is taken. */
#pragma once

#include "hash.h"
#include "load.h"
#include "unused.h"

#define SECOND_DRAW 0x9E3779B9U
#define NOBODY_YET 0xFFFFFFFFU

struct candidate {
	__u32 endpoint;
	__u32 weight;
};

/* The one that the coin says of a column's two, unless that is `taken` already. */
static __always_inline bool draw(const struct slot_range *range, __u32 column, __u32 coin, __u32 taken,
				 struct candidate *drawn)
{
	__u32 index = range->first + 2 * column;
	struct slot *slot = bpf_map_lookup_elem(&slots, &index);
	struct slot_weights *weights;
	bool is_own;

	index++;
	weights = bpf_map_lookup_elem(&slots, &index);
	if (!slot || !weights)
		return false;
	is_own = coin < slot->threshold;
	if ((is_own ? slot->endpoint : slot->alias) == taken)
		is_own = !is_own;
	drawn->endpoint = is_own ? slot->endpoint : slot->alias;
	drawn->weight = is_own ? weights->endpoint : weights->alias;
	return true;
}

static __always_inline bool has_less(const struct candidate *one, const struct candidate *other)
{
	return (__u64)load_of(one->endpoint) * other->weight < (__u64)load_of(other->endpoint) * one->weight;
}

/*
 * The endpoint's index, or ENDPOINT_REJECT; that is drawn first or never, so its share is as always. A function of its own,
 * for its caller's stack.
 */
static __noinline UNUSED __u32 least_of_two(const struct slot_range *range, __u64 hash)
{
	struct candidate first = {}, second = {};
	__u32 column = below(range->count, hash), other;

	if (!draw(range, column, hash, NOBODY_YET, &first))
		return NOBODY_YET;
	if (first.endpoint == ENDPOINT_REJECT || range->count < 2)
		return first.endpoint;
	hash = mix(hash, SECOND_DRAW);
	other = below(range->count - 1, hash);
	if (other >= column)
		other++;
	if (!draw(range, other, hash, first.endpoint, &second) || second.endpoint == ENDPOINT_REJECT)
		return first.endpoint;
	return has_less(&second, &first) ? second.endpoint : first.endpoint;
}
