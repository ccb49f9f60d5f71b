/* SPDX-License-Identifier: Apache-2.0 */
/* Loads of datagrams: of a few flows, and each of a flow of its own. */
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

#define MAX_FLOWS 4096
#define BATCH 32 /* datagrams a system call */

int udp_sink(char **argv)
{
	struct mmsghdr batch[BATCH] = {0}; /* no room for payload: it is cut off, and counted */
	int fd = bind_to(argv[0], SOCK_DGRAM), buffer = 64 << 20;
	uint64_t count = 0;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
	for (;;) {
		int n = recvmmsg(fd, batch, BATCH, MSG_DONTWAIT, NULL);

		if (n > 0)
			count += n;
		else if (stopped)
			break;
		else
			usleep(1000); /* not asleep in recvmmsg: the path under test would pay for waking us at every packet */
	}
	printf("{\"count\": %lu}\n", count);
	return 0;
}

/*
 * Many datagrams a system call, split up by the kernel as they leave (udp(7), UDP_SEGMENT; the device must not take
 * them whole): the socket's part in each is small, and what is timed is the way that packets go.
 */
int udp_blast(char **argv, int servers)
{
	static int sockets[MAX_FLOWS];
	char payload[BATCH * MESSAGE] = {0};
	int flows = number(argv[1], MAX_FLOWS), size = MESSAGE;
	uint64_t count = 0, errors = 0;
	double start, end, cpu;

	for (int i = 0; i < flows; i++) {
		struct sockaddr_storage server = parse_address(argv[3 + i % servers], argv[2]);

		sockets[i] = connect_to(&server, SOCK_DGRAM);
		if (sockets[i] < 0)
			die("connect");
		if (setsockopt(sockets[i], IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)))
			die("UDP_SEGMENT");
	}
	cpu = cpu_now();
	start = now();
	end = start + parse_seconds(argv[0]);
	for (int i = 0; !stopped && now() < end; i = (i + 1) % flows) {
		ssize_t sent = send(sockets[i], payload, sizeof(payload), 0);

		if (sent > 0)
			count += sent / MESSAGE;
		else
			errors++;
	}
	print_sent(count, errors, now() - start, cpu_now() - cpu);
	return 0;
}

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

/* Sources are 10.64.0.0 and fd00:64:: plus the number of the flow, of which 50,000 share an address. */
static void fill_frame(struct frame *frame, const struct sockaddr_storage *to, uint32_t flow)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)to;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)to;
	uint16_t length = htons(sizeof(struct udphdr) + MESSAGE), port = htons(10000 + flow % 50000);
	struct udphdr *udp = (void *)((char *)&frame->network + network_size(to));
	uint32_t host = htonl(flow / 50000);
	uint64_t sum = length + htons(IPPROTO_UDP);

	if (to->ss_family == AF_INET) {
		struct ip *ip = &frame->network.v4;

		*ip = (struct ip){.ip_v = 4, .ip_hl = 5, .ip_ttl = 64, .ip_p = IPPROTO_UDP, .ip_dst = v4->sin_addr};
		ip->ip_len = htons(sizeof(*ip) + sizeof(*udp) + MESSAGE);
		ip->ip_src.s_addr = htonl(0x0a400000) + host;
		ip->ip_sum = ~folded(sum_of(ip, sizeof(*ip)));
		sum += sum_of(&ip->ip_src, 8);
		frame->ethernet.ether_type = htons(ETHERTYPE_IP);
	} else {
		struct ip6_hdr *ip = &frame->network.v6;

		*ip = (struct ip6_hdr){.ip6_flow = htonl(6u << 28), .ip6_plen = length, .ip6_dst = v6->sin6_addr};
		ip->ip6_nxt = IPPROTO_UDP;
		ip->ip6_hlim = 64;
		ip->ip6_src.s6_addr16[0] = htons(0xfd00);
		ip->ip6_src.s6_addr16[1] = htons(0x64);
		ip->ip6_src.s6_addr32[3] = host;
		sum += sum_of(&ip->ip6_src, 32);
		frame->ethernet.ether_type = htons(ETHERTYPE_IPV6);
	}
	*udp = (struct udphdr){.source = port, .dest = v6->sin6_port, .len = length, .check = folded(sum)};
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
		struct frame *frame = &frames[i];
		size_t network = network_size(&to[0]);

		frame->offload.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		frame->offload.csum_start = sizeof(frame->ethernet) + network;
		frame->offload.csum_offset = offsetof(struct udphdr, check);
		if (!ether_aton_r(argv[4], (struct ether_addr *)frame->ethernet.ether_shost) ||
		    !ether_aton_r(argv[5], (struct ether_addr *)frame->ethernet.ether_dhost))
			die("a MAC address");
		parts[i].iov_base = frame;
		parts[i].iov_len = sizeof(*frame) - sizeof(frame->network) + network;
		batch[i].msg_hdr.msg_iov = &parts[i];
		batch[i].msg_hdr.msg_iovlen = 1;
	}
	cpu = cpu_now();
	start = now();
	end = start + parse_seconds(argv[0]);
	while (!stopped && count < packets && now() < end) {
		int sent;

		for (int i = 0; i < BATCH; i++, flow++)
			fill_frame(&frames[i], &to[flow % servers], flow);
		sent = sendmmsg(fd, batch, BATCH, 0);
		count += sent > 0 ? sent : 0;
		errors += sent < BATCH;
	}
	print_sent(count, errors, now() - start, cpu_now() - cpu);
	return 0;
}
