/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A flood of new flows from random sources, and connections that talk meanwhile. Each prints lines of JSON.
 *
 *   flood echo PORT                               answers every message on TCP connections; "ready", until SIGTERM
 *   flood talk CONNECTIONS INTERVAL PORT ADDRESS  one request each in turn, every INTERVAL ms; "ready" when all are
 *                                                 open; at SIGUSR1 and SIGTERM what was since the last one:
 *                                                 {"open": ..., "lost": ..., "exchanges": ..., "p50": ms, "p99": ms}
 *   flood send PACKETS SECONDS tcp|udp SEED DEVICE MAC ROUTER_MAC PORT ADDRESS
 *                                                 SYNs or datagrams of a flow each, as frames to the router, as fast
 *                                                 as they go, until either is reached: {"sent": ..., "seconds": ...}
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define PROGRAM "flood"
#include "tool.h"

#define MESSAGE 32
#define EVENTS 256
#define MAX_CONNECTIONS 10000
#define MAX_SAMPLES (1 << 22)
#define BATCH 64
/* TCP gives up on a packet much later; this is lost to whoever waits. */
#define PATIENCE 20.0

static struct sockaddr_in6 parse_address(const char *text, const char *port)
{
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(number(port, 65535))};
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1) { /* ::ffff:a.b.c.d is spoken as IPv4 */
		v6.sin6_addr.s6_addr16[5] = 0xffff;
		v6.sin6_addr.s6_addr32[3] = v4.s_addr;
	} else if (inet_pton(AF_INET6, text, &v6.sin6_addr) != 1) {
		fprintf(stderr, "flood: '%s' is not an IP address\n", text);
		exit(2);
	}
	return v6;
}

static void watch(int epoll, int fd, uint32_t events, uint32_t index)
{
	struct epoll_event event = {.events = events, .data.u64 = (uint64_t)index << 32 | (uint32_t)fd};

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		die("epoll_ctl");
}

static int catch_signals(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGUSR1);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	return signalfd(-1, &signals, SFD_CLOEXEC);
}

static void ready(void)
{
	puts("ready");
	fflush(stdout);
}

static int echo(char **argv)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(number(argv[0], 65535))};
	int listener = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), zero = 0;
	int datagrams = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event events[EVENTS];
	char message[MESSAGE];

	setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(listener, (struct sockaddr *)&any, sizeof(any)) || listen(listener, 4096))
		die("listening");
	/* Datagrams are taken, and nothing answers: nor does the kernel, by ICMP. */
	if (bind(datagrams, (struct sockaddr *)&any, sizeof(any)))
		die("binding");
	watch(epoll, listener, EPOLLIN, 0);
	ready();
	for (;;) {
		int count = epoll_wait(epoll, events, EVENTS, -1);

		for (int i = 0; i < count; i++) {
			int fd = (uint32_t)events[i].data.u64;
			ssize_t size;

			if (fd == listener) {
				while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
					watch(epoll, fd, EPOLLIN, 0);
				continue;
			}
			size = read(fd, message, sizeof(message));
			if (size <= 0 || write(fd, message, size) != size)
				close(fd);
		}
	}
}

struct connection {
	int fd;
	double asked; /* 0: it waits for its turn */
	bool lost;
};

static struct connection connections[MAX_CONNECTIONS];
static float samples[MAX_SAMPLES];
static uint32_t sampled;

static int by_size(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void tell(int count)
{
	int lost = 0;

	for (int i = 0; i < count; i++)
		lost += connections[i].lost;
	qsort(samples, sampled, sizeof(*samples), by_size);
	printf("{\"open\": %d, \"lost\": %d, \"exchanges\": %u, \"p50\": %.3f, \"p99\": %.3f}\n", count - lost, lost,
	       sampled, sampled ? samples[sampled / 2] : 0.0, sampled ? samples[(uint64_t)sampled * 99 / 100] : 0.0);
	fflush(stdout);
	sampled = 0;
}

static void lose(struct connection *connection)
{
	connection->lost = true;
	close(connection->fd);
}

/* Those in turn ask; one that has not been answered waits for that. */
static void ask(struct connection *connection)
{
	char message[MESSAGE] = {0};

	if (connection->lost)
		return;
	if (connection->asked) {
		if (now() - connection->asked > PATIENCE)
			lose(connection);
		return;
	}
	connection->asked = now();
	if (write(connection->fd, message, sizeof(message)) != sizeof(message))
		lose(connection);
}

static void take_answer(struct connection *connection)
{
	char message[MESSAGE];

	if (connection->lost)
		return;
	if (read(connection->fd, message, sizeof(message)) != sizeof(message)) {
		lose(connection);
		return;
	}
	if (connection->asked && sampled < MAX_SAMPLES)
		samples[sampled++] = (now() - connection->asked) * 1e3;
	connection->asked = 0;
}

static int talk(char **argv)
{
	int count = number(argv[0], MAX_CONNECTIONS), turn = 0;
	long interval = number(argv[1], 60000);
	struct sockaddr_in6 server = parse_address(argv[3], argv[2]);
	int epoll = epoll_create1(EPOLL_CLOEXEC), signals = catch_signals();
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	long step = interval * 1000000 / count;
	struct timespec each = {.tv_sec = step / 1000000000, .tv_nsec = step % 1000000000};
	struct itimerspec period = {.it_interval = each, .it_value = each};
	struct epoll_event events[EVENTS];

	for (int i = 0; i < count; i++) {
		int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (connect(fd, (struct sockaddr *)&server, sizeof(server)))
			die("connect");
		connections[i].fd = fd;
		watch(epoll, fd, EPOLLIN, i);
	}
	watch(epoll, signals, EPOLLIN, 0);
	watch(epoll, timer, EPOLLIN, 0);
	timerfd_settime(timer, 0, &period, NULL);
	ready();
	for (;;) {
		int found = epoll_wait(epoll, events, EVENTS, -1);

		for (int i = 0; i < found; i++) {
			int fd = (uint32_t)events[i].data.u64;
			struct signalfd_siginfo signal;
			uint64_t ticks;

			if (fd == timer && read(timer, &ticks, sizeof(ticks)) == sizeof(ticks)) {
				for (; ticks; ticks--, turn = (turn + 1) % count)
					ask(&connections[turn]);
			} else if (fd == signals && read(signals, &signal, sizeof(signal)) == sizeof(signal)) {
				tell(count);
				if (signal.ssi_signo == SIGTERM)
					return 0;
			} else {
				take_answer(&connections[events[i].data.u64 >> 32]);
			}
		}
	}
}

static uint64_t random_state;

/* xorshift64* (Vigna 2016): quick, and the same sources for the same seed. */
static uint64_t random_bits(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545F4914F6CDD1DULL;
}

static uint64_t sum_of(const void *data, size_t size)
{
	const uint16_t *words = data;
	uint64_t sum = 0;

	for (size_t i = 0; i < size / 2; i++)
		sum += words[i];
	return sum;
}

static uint16_t folded(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

struct frame {
	uint16_t not_sent; /* so that all that follows the Ethernet header is aligned */
	struct ether_header ethernet;
	union {
		struct ip v4;
		struct ip6_hdr v6;
	} network; /* the transport header follows the header of the family */
	char rest[sizeof(struct tcphdr)];
};

static bool is_v4(const struct sockaddr_in6 *to)
{
	return IN6_IS_ADDR_V4MAPPED(&to->sin6_addr);
}

/* Addresses of 10.128.0.0/9 and fd00:f100::/32; the sum over both addresses. */
static uint64_t fill_network(struct frame *frame, const struct sockaddr_in6 *to, uint8_t protocol, uint16_t size)
{
	uint64_t random = random_bits();

	if (is_v4(to)) {
		struct ip *ip = &frame->network.v4;

		*ip = (struct ip){.ip_v = 4, .ip_hl = 5, .ip_ttl = 64, .ip_p = protocol};
		ip->ip_len = htons(sizeof(*ip) + size);
		ip->ip_src.s_addr = htonl(0x0a800000 | (random & 0x7fffff));
		ip->ip_dst.s_addr = to->sin6_addr.s6_addr32[3];
		ip->ip_sum = ~folded(sum_of(ip, sizeof(*ip)));
		frame->ethernet.ether_type = htons(ETHERTYPE_IP);
		return sum_of(&ip->ip_src, 8);
	}
	struct ip6_hdr *ip = &frame->network.v6;

	*ip = (struct ip6_hdr){.ip6_flow = htonl(6u << 28), .ip6_plen = htons(size), .ip6_dst = to->sin6_addr};
	ip->ip6_nxt = protocol;
	ip->ip6_hlim = 64;
	ip->ip6_src.s6_addr32[0] = htonl(0xfd00f100);
	memcpy(&ip->ip6_src.s6_addr32[2], &random, sizeof(random));
	frame->ethernet.ether_type = htons(ETHERTYPE_IPV6);
	return sum_of(&ip->ip6_src, 32);
}

static size_t fill_frame(struct frame *frame, const struct sockaddr_in6 *to, uint8_t protocol)
{
	size_t network = is_v4(to) ? sizeof(struct ip) : sizeof(struct ip6_hdr);
	uint16_t size = protocol == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr);
	uint64_t sum = fill_network(frame, to, protocol, size) + htons(protocol) + htons(size);
	uint64_t random = random_bits();
	void *transport = (char *)&frame->network + network;
	uint16_t port = htons(1024 + random % 64512);

	if (protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = transport;

		*tcp = (struct tcphdr){.source = port, .dest = to->sin6_port, .doff = 5, .syn = 1};
		tcp->seq = random >> 32;
		tcp->window = htons(65535);
		tcp->check = ~folded(sum + sum_of(tcp, sizeof(*tcp)));
	} else {
		struct udphdr *udp = transport;

		*udp = (struct udphdr){.source = port, .dest = to->sin6_port, .len = htons(size)};
		udp->check = ~folded(sum + sum_of(udp, sizeof(*udp)));
	}
	return sizeof(frame->ethernet) + network + size;
}

static int open_device(const char *name)
{
	struct sockaddr_ll device = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(name)};
	int one = 1, fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd < 0 || !device.sll_ifindex || bind(fd, (struct sockaddr *)&device, sizeof(device)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)))
		die(name);
	return fd;
}

static int send_flood(char **argv)
{
	static struct frame frames[BATCH];
	struct mmsghdr batch[BATCH] = {0};
	struct iovec parts[BATCH];
	uint64_t packets = number(argv[0], 1 << 30), sent = 0;
	double start = now(), end = start + number(argv[1], 600);
	uint8_t protocol = !strcmp(argv[2], "tcp") ? IPPROTO_TCP : IPPROTO_UDP;
	int fd = open_device(argv[4]);
	struct sockaddr_in6 to = parse_address(argv[8], argv[7]);

	random_state = number(argv[3], INT32_MAX);
	for (int i = 0; i < BATCH; i++) {
		if (!ether_aton_r(argv[5], (struct ether_addr *)frames[i].ethernet.ether_shost) ||
		    !ether_aton_r(argv[6], (struct ether_addr *)frames[i].ethernet.ether_dhost))
			die("a MAC address");
		parts[i].iov_base = &frames[i].ethernet;
		batch[i].msg_hdr.msg_iov = &parts[i];
		batch[i].msg_hdr.msg_iovlen = 1;
	}
	while (sent < packets && now() < end) {
		int count;

		for (int i = 0; i < BATCH; i++)
			parts[i].iov_len = fill_frame(&frames[i], &to, protocol);
		count = sendmmsg(fd, batch, BATCH, 0);
		sent += count > 0 ? count : 0;
	}
	printf("{\"sent\": %lu, \"seconds\": %.6f}\n", sent, now() - start);
	return 0;
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";

	signal(SIGPIPE, SIG_IGN);
	if (!strcmp(command, "echo") && argc == 3)
		return echo(argv + 2);
	if (!strcmp(command, "talk") && argc == 6)
		return talk(argv + 2);
	if (!strcmp(command, "send") && argc == 11)
		return send_flood(argv + 2);
	fprintf(stderr, "flood: usage is at the top of tests/bench/flood.c\n");
	return 2;
}
