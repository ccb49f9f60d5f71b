/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams that are written as frames, each of a flow of its own: sockets have no part in them. */
#define _GNU_SOURCE
#include "load.h"
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <unistd.h>

struct frame {
	struct virtio_net_hdr offload; /* the checksum is left to whoever comes after, as a pod's veth has it */
	struct ether_header ethernet;
	union {
		struct ip v4;
		struct ip6_hdr v6;
	} network; /* UDP and payload follow the header of the family */
	char rest[sizeof(struct udphdr) + MESSAGE];
};

static uint16_t folded(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static uint64_t sum_of(const void *data, size_t size)
{
	const uint16_t *words = data;
	uint64_t sum = 0;

	for (size_t i = 0; i < size / 2; i++)
		sum += words[i];
	return sum;
}

static size_t network_size(const struct sockaddr_storage *to)
{
	return to->ss_family == AF_INET ? sizeof(struct ip) : sizeof(struct ip6_hdr);
}

static void fill_frame(struct frame *frame, const struct sockaddr_storage *from, const struct sockaddr_storage *to)
{
	const struct sockaddr_in *from4 = (const struct sockaddr_in *)from, *to4 = (const struct sockaddr_in *)to;
	const struct sockaddr_in6 *from6 = (const struct sockaddr_in6 *)from, *to6 = (const struct sockaddr_in6 *)to;
	struct udphdr *udp = (void *)((char *)&frame->network + network_size(to));
	uint16_t length = htons(sizeof(*udp) + MESSAGE);
	uint64_t sum = length + htons(IPPROTO_UDP);

	if (to->ss_family == AF_INET) {
		struct ip *ip = &frame->network.v4;

		*ip = (struct ip){.ip_v = 4, .ip_hl = 5, .ip_ttl = 64, .ip_p = IPPROTO_UDP, .ip_dst = to4->sin_addr};
		ip->ip_len = htons(sizeof(*ip) + sizeof(*udp) + MESSAGE);
		ip->ip_src = from4->sin_addr;
		ip->ip_sum = ~folded(sum_of(ip, sizeof(*ip)));
		sum += sum_of(&ip->ip_src, 8);
		frame->ethernet.ether_type = htons(ETHERTYPE_IP);
	} else {
		struct ip6_hdr *ip = &frame->network.v6;

		*ip = (struct ip6_hdr){.ip6_flow = htonl(6u << 28), .ip6_plen = length, .ip6_dst = to6->sin6_addr};
		ip->ip6_nxt = IPPROTO_UDP;
		ip->ip6_hlim = 64;
		ip->ip6_src = from6->sin6_addr;
		sum += sum_of(&ip->ip6_src, 32);
		frame->ethernet.ether_type = htons(ETHERTYPE_IPV6);
	}
	/* Ports are at the same place in both families' addresses. */
	*udp = (struct udphdr){.source = from6->sin6_port, .dest = to6->sin6_port, .len = length, .check = folded(sum)};
}

/* 10.64.0.0 or fd00:64:: plus the number of the flow, of which 50,000 share an address. */
static struct sockaddr_storage source_of(uint32_t flow, int family)
{
	struct sockaddr_storage storage = {.ss_family = family};
	struct sockaddr_in *v4 = (struct sockaddr_in *)&storage;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&storage;
	uint32_t host = htonl(flow / 50000);

	v6->sin6_port = htons(10000 + flow % 50000);
	if (family == AF_INET) {
		v4->sin_addr.s_addr = htonl(0x0a400000) + host;
	} else {
		v6->sin6_addr.s6_addr16[0] = htons(0xfd00);
		v6->sin6_addr.s6_addr16[1] = htons(0x64);
		v6->sin6_addr.s6_addr32[3] = host;
	}
	return storage;
}

static int open_device(const char *name)
{
	struct sockaddr_ll device = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(name)};
	int one = 1, fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd < 0 || !device.sll_ifindex || bind(fd, (struct sockaddr *)&device, sizeof(device)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)))
		die(name);
	return fd;
}

/* All but network and transport. */
static void prepare_frame(struct frame *frame, struct iovec *part, char **macs, int family)
{
	size_t network = family == AF_INET ? sizeof(struct ip) : sizeof(struct ip6_hdr);

	frame->offload.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	frame->offload.csum_start = sizeof(frame->ethernet) + network;
	frame->offload.csum_offset = offsetof(struct udphdr, check);
	if (!ether_aton_r(macs[0], (struct ether_addr *)frame->ethernet.ether_shost) ||
	    !ether_aton_r(macs[1], (struct ether_addr *)frame->ethernet.ether_dhost))
		die("a MAC address");
	part->iov_base = frame;
	part->iov_len = sizeof(*frame) - sizeof(frame->network) + network;
}

int udp_spray(char **argv, int servers)
{
	static struct frame frames[BATCH];
	struct mmsghdr batch[BATCH] = {0};
	struct iovec parts[BATCH];
	struct sockaddr_storage to[MAX_WORKERS];
	uint64_t packets = number(argv[1], 1 << 30), count = 0, errors = 0;
	uint32_t flow = number(argv[2], INT32_MAX);
	int fd = open_device(argv[3]);
	double start, end, cpu;

	if (servers > MAX_WORKERS)
		servers = MAX_WORKERS;
	for (int i = 0; i < servers; i++)
		to[i] = parse_address(argv[7 + i], argv[6]);
	for (int i = 0; i < BATCH; i++) {
		prepare_frame(&frames[i], &parts[i], argv + 4, to[0].ss_family);
		batch[i].msg_hdr.msg_iov = &parts[i];
		batch[i].msg_hdr.msg_iovlen = 1;
	}
	cpu = cpu_now();
	start = now();
	end = start + parse_seconds(argv[0]);
	while (!stopped && count < packets && now() < end) {
		int sent;

		for (int i = 0; i < BATCH; i++, flow++) {
			struct sockaddr_storage from = source_of(flow, to[0].ss_family);

			fill_frame(&frames[i], &from, &to[flow % servers]);
		}
		sent = sendmmsg(fd, batch, BATCH, 0);
		count += sent > 0 ? sent : 0;
		errors += sent < BATCH;
	}
	print_sent(count, errors, now() - start, cpu_now() - cpu);
	return 0;
}
