/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets that the kernel drops, of wanted addresses: for `blixt-backend trace`, which lets bcc compile this on the
 * node. OFFSET_* are what this very kernel's BTF says, so no header of it is needed.
 */

struct event {
	u64 location;
	u32 reason;
	u32 length;
	u8 source[16];
	u8 destination[16];
	u16 source_port;
	u16 destination_port;
	u8 protocol;
	u8 version;
	u8 tcp_flags;
	u8 padding;
	char device[16];
};

/* IPv4 addresses are padded with zeros behind. Port 0: any. Addresses and ports in network byte order. */
struct place {
	u8 address[16];
	u16 port;
};

BPF_PERF_OUTPUT(events);
BPF_HASH(wanted, struct place, u8, 4096);

static inline int is_wanted(u8 *address, u16 port)
{
	struct place place = {};

	__builtin_memcpy(place.address, address, sizeof(place.address));
	if (wanted.lookup(&place))
		return 1;
	place.port = port;
	return wanted.lookup(&place) != 0;
}

/* Where the transport header begins, from the network header's begin; 0: not IP. */
static inline int read_addresses(struct event *event, void *header)
{
	u8 bytes[40] = {};

	if (event->version == 4) {
		bpf_probe_read_kernel(bytes, 20, header);
		__builtin_memcpy(event->source, bytes + 12, 4);
		__builtin_memcpy(event->destination, bytes + 16, 4);
		event->protocol = bytes[9];
		return bytes[0] >> 4 == 4 ? (bytes[0] & 15) * 4 : 0;
	}
	bpf_probe_read_kernel(bytes, 40, header);
	__builtin_memcpy(event->source, bytes + 8, 16);
	__builtin_memcpy(event->destination, bytes + 24, 16);
	event->protocol = bytes[6];
	return bytes[0] >> 4 == 6 ? 40 : 0;
}

RAW_TRACEPOINT_PROBE(kfree_skb)
{
	void *skb = (void *)ctx->args[0];
	struct event event = {};
	u8 transport[14] = {};
	u16 protocol = 0, network = 0;
	void *head = 0, *device = 0;
	int begin;

	event.location = ctx->args[1];
#ifdef HAS_REASON
	event.reason = ctx->args[2];
#endif
	bpf_probe_read_kernel(&protocol, sizeof(protocol), skb + OFFSET_PROTOCOL);
	if (protocol == bpf_htons(0x0800))
		event.version = 4;
	else if (protocol == bpf_htons(0x86dd))
		event.version = 6;
	else
		return 0;
	bpf_probe_read_kernel(&network, sizeof(network), skb + OFFSET_NETWORK_HEADER);
	bpf_probe_read_kernel(&head, sizeof(head), skb + OFFSET_HEAD);
	begin = read_addresses(&event, head + network);
	if (!begin)
		return 0;
	if (event.protocol == 6 || event.protocol == 17) {
		bpf_probe_read_kernel(transport, sizeof(transport), head + network + begin);
		__builtin_memcpy(&event.source_port, transport, 2);
		__builtin_memcpy(&event.destination_port, transport + 2, 2);
		if (event.protocol == 6)
			event.tcp_flags = transport[13];
	}
#ifdef FILTERED
	if (!is_wanted(event.source, event.source_port) && !is_wanted(event.destination, event.destination_port))
		return 0;
#endif
	bpf_probe_read_kernel(&event.length, sizeof(event.length), skb + OFFSET_LENGTH);
	bpf_probe_read_kernel(&device, sizeof(device), skb + OFFSET_DEVICE);
	if (device)
		bpf_probe_read_kernel(&event.device, sizeof(event.device), device + OFFSET_NAME);
	events.perf_submit(ctx, &event, sizeof(event));
	return 0;
}
