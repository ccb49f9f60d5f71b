/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Building a Maglev table, for userspace, which says who is in it. Endpoints take turns, each at the next slot of its own
 * order that is free; the order follows from nothing but its address and port. A turn costs a member `price`, and
 * each visit brings it its weight: all get their share, however unlike the weights are, in as many visits as slots.
 *
 * Loops are longer than the verifier would walk: they are callbacks for each member in the map, whichever it is, and
 * such callbacks within one another where that isn't enough.
 */
#pragma once

#include "hash.h"
#include "maglev.h"
#include "unused.h"
#include <stdbool.h>

#define MAGLEV_MEMBERS 16384
#define MAGLEV_FREE 0xFFFFFFFFU /* no endpoint's index */
#define PROBES_A_STEP 32

#define HASH_SEED_START 0x243F6A8885A308D3ULL
#define HASH_SEED_SKIP 0x13198A2E03707344ULL

/* Userspace writes endpoint and weight, in the same order on all nodes. */
struct maglev_member {
	__u32 endpoint; /* its index, or ENDPOINT_REJECT */
	__u32 weight;
	__u32 next; /* the slot to try */
	__u32 skip;
	__u64 credit;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAGLEV_MEMBERS);
	__type(key, __u32);
	__type(value, struct maglev_member);
} maglev_members SEC(".maps");

/* What userspace asks for. */
struct maglev_job {
	__u32 first;
	__u32 count; /* a prime: the skips of all members reach every slot */
	__u32 members;
	__u32 zero;
	__u64 price; /* the mean weight, rounded down */
	__u32 digest[MAGLEV_DIGEST];
};

/* In a map, since the verifier would follow what it knows of the stack through every step. */
struct building {
	struct maglev_job job;
	__u32 at; /* an entry, then a member */
	__u32 filled;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct building);
} maglev_building SEC(".maps");

static __always_inline struct building *current_building(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&maglev_building, &zero);
}

static __always_inline __u64 hash_endpoint(__u64 seed, const struct endpoint *endpoint)
{
	__u64 hash = seed;

#pragma unroll
	for (int i = 0; i < ADDRESS_WORDS; i++)
		hash = mix(hash, endpoint->address.word[i]);
	return mix(hash, endpoint->port);
}

static __always_inline struct maglev_member *member_at(__u32 number)
{
	return bpf_map_lookup_elem(&maglev_members, &number);
}

/* Callbacks return 1 to end a loop. */
static long clear_part(UNUSED void *map, UNUSED __u32 *key, UNUSED void *value, UNUSED void *context)
{
	struct building *building = current_building();
	struct maglev_part *part;
	__u32 index;

	if (!building)
		return 1;
	index = building->job.first + building->at;
	part = bpf_map_lookup_elem(&maglev, &index);
	if (!part)
		return 1;
	__builtin_memset(part, 0xff, sizeof(*part));
	return ++building->at * MAGLEV_PART >= building->job.count;
}

static long clear_parts(UNUSED void *map, UNUSED __u32 *key, UNUSED void *value, UNUSED void *context)
{
	struct building *building = current_building();

	bpf_for_each_map_elem(&maglev_members, clear_part, NULL, 0);
	return !building || building->at * MAGLEV_PART >= building->job.count;
}

/* A weight below the price begins with what it lacks: everyone gets a first turn in the first round. */
static long prepare_member(UNUSED void *map, __u32 *key, struct maglev_member *member, UNUSED void *context)
{
	struct building *building = current_building();
	struct endpoint *endpoint;
	__u32 index = member->endpoint;

	if (!building)
		return 1;
	endpoint = bpf_map_lookup_elem(&endpoints, &index);
	if (!endpoint)
		return 1;
	member->next = below(building->job.count, hash_endpoint(HASH_SEED_START, endpoint));
	member->skip = 1 + below(building->job.count - 1, hash_endpoint(HASH_SEED_SKIP, endpoint));
	member->credit = member->weight < building->job.price ? building->job.price - member->weight : 0;
	return *key + 1 >= building->job.members;
}

static __always_inline void visit_next(struct building *building)
{
	struct maglev_member *member;

	building->at = building->at + 1 < building->job.members ? building->at + 1 : 0;
	member = member_at(building->at);
	if (member)
		member->credit += member->weight;
}

/* A few slots tried for the member whose turn it is. */
static long take_turn(UNUSED void *map, UNUSED __u32 *key, UNUSED void *value, UNUSED void *context)
{
	struct building *building = current_building();
	struct maglev_member *member;
	__u32 *slot;

	if (!building)
		return 1;
	member = member_at(building->at);
	if (!member)
		return 1;
	if (member->credit < building->job.price) {
		visit_next(building);
		return 0;
	}
	for (int i = 0; i < PROBES_A_STEP; i++) {
		slot = maglev_slot(building->job.first, member->next);
		if (!slot)
			return 1;
		member->next += member->skip;
		if (member->next >= building->job.count)
			member->next -= building->job.count;
		if (*slot != MAGLEV_FREE)
			continue;
		*slot = member->endpoint;
		member->credit -= building->job.price;
		if (member->credit < building->job.price)
			visit_next(building);
		return ++building->filled >= building->job.count;
	}
	return 0;
}

static long take_turns(UNUSED void *map, UNUSED __u32 *key, UNUSED void *value, UNUSED void *context)
{
	struct building *building = current_building();

	bpf_for_each_map_elem(&maglev_members, take_turn, NULL, 0);
	return !building || building->filled >= building->job.count;
}

/* Whether the table is whole. */
static __always_inline bool build(const struct maglev_job *job)
{
	struct building *building = current_building();

	if (!building)
		return false;
	*building = (struct building){.job = *job};
	bpf_for_each_map_elem(&maglev_members, clear_parts, NULL, 0);
	bpf_for_each_map_elem(&maglev_members, prepare_member, NULL, 0);
	building->at = job->members - 1;
	bpf_for_each_map_elem(&maglev_members, take_turns, NULL, 0);
	return building->filled == job->count;
}
