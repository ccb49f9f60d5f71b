/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps, all pinned by name. Userspace sets max_entries before loading; what stands here is for tests.
 * services, slots, endpoints, source_ranges and devices are written by userspace only, the rest by the programs (maglev
 * by one that userspace runs, see build.h).
 */
#pragma once

#include "types.h"
#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>

#define MAP(name_, type_, key_, value_, entries_, flags_)                                                              \
	struct {                                                                                                       \
		__uint(type, type_);                                                                                   \
		__uint(max_entries, entries_);                                                                         \
		__uint(map_flags, flags_);                                                                             \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                                                                   \
		__type(key, key_);                                                                                     \
		__type(value, value_);                                                                                 \
	} name_ SEC(".maps")

MAP(services, BPF_MAP_TYPE_HASH, struct frontend, struct service, 65536, 0);
MAP(slots, BPF_MAP_TYPE_ARRAY, __u32, struct slot, 524288, 0);
MAP(maglev, BPF_MAP_TYPE_ARRAY, __u32, struct maglev_part, 65536, 0);
MAP(endpoints, BPF_MAP_TYPE_ARRAY, __u32, struct endpoint, 262144, 0);
MAP(loads, BPF_MAP_TYPE_ARRAY, __u32, struct load, 262144, 0);
MAP(source_ranges, BPF_MAP_TYPE_LPM_TRIE, struct source_range, __u32, 65536, BPF_F_NO_PREALLOC);
MAP(devices, BPF_MAP_TYPE_HASH, __u32, struct device, 4096, 0);
MAP(connections, BPF_MAP_TYPE_LRU_HASH, struct flow, struct connection, 524288, 0);
MAP(embryos, BPF_MAP_TYPE_LRU_HASH, struct flow, struct embryo, 65536, 0);
MAP(affinities, BPF_MAP_TYPE_LRU_HASH, struct affinity_key, struct affinity, 65536, 0);
MAP(fragments, BPF_MAP_TYPE_LRU_HASH, struct datagram, struct datagram_flow, 16384, 0);
MAP(counters, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct service_counters, 65536, 0);
MAP(drops, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, DROP_REASONS, 0);
