/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and replies on one socket, one after the other: their rate, and how long each takes. */
#define _GNU_SOURCE
#include "load.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MAX_EXCHANGES (1 << 20) /* whose times are kept */

static void send_at_once(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

int tcp_echo(char **argv)
{
	char message[MESSAGE];
	int listener = bind_to(argv[0], SOCK_STREAM, NULL);

	while (!stopped) {
		int fd = accept(listener, NULL, NULL);
		ssize_t n;

		if (fd < 0)
			continue;
		send_at_once(fd);
		while ((n = read(fd, message, sizeof(message))) > 0)
			if (write(fd, message, n) != n)
				break;
		close(fd);
	}
	return 0;
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

int exchange_in_turn(char **argv, int type)
{
	static float times[MAX_EXCHANGES];
	char message[MESSAGE] = {0};
	struct sockaddr_storage server = parse_address(argv[2], argv[1]);
	int fd = connect_to(&server, type);
	uint64_t count = 0, errors = 0;
	double start = now(), end = start + parse_seconds(argv[0]), before = start;

	if (fd < 0)
		die("connect");
	if (type == SOCK_STREAM)
		send_at_once(fd);
	while (!stopped && before < end) {
		bool done = write(fd, message, sizeof(message)) == sizeof(message) &&
			    read(fd, message, sizeof(message)) == sizeof(message);
		double after = now();

		if (done)
			times[count++ % MAX_EXCHANGES] = after - before;
		else if (errors++, type == SOCK_STREAM)
			break;
		before = after;
	}
	uint64_t kept = count < MAX_EXCHANGES ? count : MAX_EXCHANGES;

	qsort(times, kept, sizeof(*times), compare);
	printf("{\"count\": %lu, \"errors\": %lu, \"seconds\": %.6f, \"p50\": %.3f, \"p99\": %.3f}\n", count, errors,
	       before - start, kept ? times[kept / 2] * 1e6 : 0, kept ? times[kept * 99 / 100] * 1e6 : 0);
	return 0;
}

int udp_echo(char **argv)
{
	char message[MESSAGE];
	int fd = bind_to(argv[0], SOCK_DGRAM, NULL);

	while (!stopped) {
		struct sockaddr_storage from;
		socklen_t length = sizeof(from);
		ssize_t n = recvfrom(fd, message, sizeof(message), 0, (struct sockaddr *)&from, &length);

		if (n > 0 && sendto(fd, message, n, 0, (struct sockaddr *)&from, length) < 0)
			perror("load: reply");
	}
	return 0;
}
