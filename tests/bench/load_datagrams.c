/* SPDX-License-Identifier: Apache-2.0 */
/* Loads of datagrams from sockets, of flows that are answered once. Those of frames are in load_frames.c. */
#define _GNU_SOURCE
#include "load.h"
#include <errno.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <unistd.h>

#define MAX_FLOWS 1024
#define GREETING 1 /* bytes of a datagram that is answered */
#define GREETINGS 5

/*
 * Datagrams, but greetings, end at the socket's filter: on the CPU that brought them, and their memory is used again at
 * once. Left for a program on another CPU they would pile up until it gets there, and what would be timed as the way's
 * were fresh pages for those to come. The socket counts what it drops.
 */
static void drop_all_but_greetings(int fd)
{
	struct sock_filter instructions[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, sizeof(struct udphdr) + GREETING, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	struct sock_fprog program = {.len = sizeof(instructions) / sizeof(*instructions), .filter = instructions};

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)))
		die("SO_ATTACH_FILTER");
}

static uint32_t dropped(int fd)
{
	uint32_t values[SK_MEMINFO_VARS];
	socklen_t length = sizeof(values);

	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, values, &length) || length < sizeof(values))
		die("SO_MEMINFO");
	return values[SK_MEMINFO_DROPS];
}

int udp_sink(char **argv)
{
	int fd = bind_to(argv[0], SOCK_DGRAM, drop_all_but_greetings);

	while (!stopped) {
		struct sockaddr_storage from;
		socklen_t length = sizeof(from);
		char greeting;

		if (recvfrom(fd, &greeting, sizeof(greeting), 0, (struct sockaddr *)&from, &length) == GREETING &&
		    sendto(fd, &greeting, GREETING, 0, (struct sockaddr *)&from, length) < 0)
			perror("load: answer");
	}
	printf("{\"count\": %u}\n", dropped(fd));
	return 0;
}

/* A flow is known once it was answered. */
static void greet(int fd)
{
	char answer;

	for (int tries = 0; tries < GREETINGS; tries++)
		if (send(fd, "", GREETING, 0) == GREETING && recv(fd, &answer, GREETING, 0) == GREETING)
			return;
	die("a flow's answer");
}

static int open_flows(int *sockets, int flows, const char *port, char **servers, int count)
{
	for (int i = 0; i < flows; i++) {
		struct sockaddr_storage server = parse_address(servers[i % count], port);

		sockets[i] = connect_to(&server, SOCK_DGRAM);
		if (sockets[i] < 0)
			die("connect");
		greet(sockets[i]);
	}
	return flows;
}

static int send_once(int fd, size_t size)
{
	static char payload[BATCH * MESSAGE];
	ssize_t sent = send(fd, payload, size, 0);

	return sent > 0 ? sent / MESSAGE : 0;
}

/* Sends on one socket after the other, so many bytes each time. */
static int send_in_turn(const int *sockets, int flows, size_t size, double seconds)
{
	uint64_t count = 0, errors = 0;
	double cpu = cpu_now(), start = now(), end = start + seconds;

	while (!stopped && now() < end)
		for (int i = 0; i < flows; i++) {
			int sent = send_once(sockets[i], size);

			count += sent;
			errors += !sent;
		}
	print_sent(count, errors, now() - start, cpu_now() - cpu);
	return 0;
}

/* A system call for each datagram, as most programs have it. */
int udp_sends(char **argv, int servers)
{
	static int sockets[MAX_FLOWS];
	int flows = open_flows(sockets, number(argv[1], MAX_FLOWS), argv[2], argv + 3, servers);

	return send_in_turn(sockets, flows, MESSAGE, parse_seconds(argv[0]));
}

/*
 * Many datagrams a system call, split up by the kernel as they leave (udp(7), UDP_SEGMENT; the device must not take
 * them whole): the sender's part in each is small, and what is timed is the way that packets go.
 */
int udp_bursts(char **argv, int servers)
{
	static int sockets[MAX_FLOWS];
	int flows = open_flows(sockets, number(argv[1], MAX_FLOWS), argv[2], argv + 3, servers), size = MESSAGE;

	for (int i = 0; i < flows; i++)
		if (setsockopt(sockets[i], IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)))
			die("UDP_SEGMENT");
	return send_in_turn(sockets, flows, BATCH * MESSAGE, parse_seconds(argv[0]));
}
