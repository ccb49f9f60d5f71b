/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load generators of the benchmarks. Each ends by itself after SECONDS (a decimal) and prints one line of JSON;
 * servers print "ready" and run until SIGTERM. ADDRESSes are IPv4 or IPv6; the work is spread over them evenly.
 *
 *   load crr-server PORT                            one request, one reply, the server closes first
 *   load crr-client SECONDS WORKERS PORT ADDRESS... {"count": ..., "errors": ..., "seconds": ...}
 *   load tcp-echo PORT                              one reply to each request, one connection at a time
 *   load tcp-rr SECONDS PORT ADDRESS                one connection; as crr-client, and "p50", "p99" in microseconds
 *   load udp-echo PORT                              one reply to each datagram
 *   load udp-rr SECONDS PORT ADDRESS                like tcp-rr, on one connected socket
 *   load udp-sink PORT                              answers to greetings; on SIGTERM: {"count": ...} of the others
 *   load udp-sends SECONDS FLOWS PORT ADDRESS...    greets on each flow and sends one datagram a system call;
 *                                                   {"count": ..., "errors": ..., "seconds": ..., "cpu_seconds": ...}
 *   load udp-bursts SECONDS FLOWS PORT ADDRESS...   like udp-sends, with many datagrams of a flow a system call
 *   load udp-spray SECONDS PACKETS FIRST DEVICE MAC MAC PORT ADDRESS...
 *                                                   without greetings, at most PACKETS, each of a flow of its own: the
 *                                                   flows from number FIRST on; the MACs are the sender's and the router's
 *   load bulk-server PORT
 *   load bulk-client SECONDS PORT ADDRESS           {"bytes": ..., "seconds": ...}, as the receiver counted
 */
#define _GNU_SOURCE
#include "load.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

volatile sig_atomic_t stopped;

static void on_signal(int signal)
{
	(void)signal;
	stopped = 1;
}

double parse_seconds(const char *text)
{
	char *end;
	double seconds = strtod(text, &end);

	if (*end || !(seconds > 0) || seconds > 600) {
		fprintf(stderr, "load: '%s' is not a number of seconds from 0 to 600\n", text);
		exit(2);
	}
	return seconds;
}

/* Of this process; what the kernel does in its name, softirqs included, is in it unless it accounts for those apart. */
double cpu_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

struct sockaddr_storage parse_address(const char *text, const char *port)
{
	struct sockaddr_storage storage = {0};
	struct sockaddr_in *v4 = (struct sockaddr_in *)&storage;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&storage;

	v6->sin6_port = htons(number(port, 65535)); /* the port is at the same place in both */
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
	} else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
	} else {
		fprintf(stderr, "load: '%s' is not an IP address\n", text);
		exit(2);
	}
	return storage;
}

/* Blocking calls on it give up after a second, so that a lost packet shows as an error and not as a hang. */
static int open_socket(int family, int type)
{
	struct timeval timeout = {.tv_sec = 1};
	int fd = socket(family, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	return fd;
}

int connect_to(const struct sockaddr_storage *to, int type)
{
	int fd = open_socket(to->ss_family, type);

	if (connect(fd, (const struct sockaddr *)to, sizeof(*to))) {
		close(fd);
		return -1;
	}
	return fd;
}

/* For both families at once, with a socket that is prepared. Says so on standard output, for whoever waits to send. */
int bind_to(const char *port, int type, void (*prepare)(int fd))
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(number(port, 65535))};
	int one = 1, zero = 0, fd = open_socket(AF_INET6, type);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (prepare)
		prepare(fd);
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)))
		die("bind");
	if (type == SOCK_STREAM && listen(fd, 4096))
		die("listen");
	puts("ready");
	fflush(stdout);
	return fd;
}

void *shared_memory(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		die("mmap");
	return memory;
}

void print_sent(uint64_t count, uint64_t errors, double seconds, double cpu_seconds)
{
	printf("{\"count\": %lu, \"errors\": %lu, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n", count, errors, seconds,
	       cpu_seconds);
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: blocking calls must return */
	const char *command = argc > 1 ? argv[1] : "";
	char **rest = argv + 2;

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (!strcmp(command, "crr-server") && argc == 3)
		return crr_server(rest);
	if (!strcmp(command, "crr-client") && argc >= 6)
		return crr_client(rest, argc - 5);
	if (!strcmp(command, "tcp-echo") && argc == 3)
		return tcp_echo(rest);
	if (!strcmp(command, "tcp-rr") && argc == 5)
		return exchange_in_turn(rest, SOCK_STREAM);
	if (!strcmp(command, "udp-echo") && argc == 3)
		return udp_echo(rest);
	if (!strcmp(command, "udp-rr") && argc == 5)
		return exchange_in_turn(rest, SOCK_DGRAM);
	if (!strcmp(command, "udp-sink") && argc == 3)
		return udp_sink(rest);
	if (!strcmp(command, "udp-sends") && argc >= 6)
		return udp_sends(rest, argc - 5);
	if (!strcmp(command, "udp-bursts") && argc >= 6)
		return udp_bursts(rest, argc - 5);
	if (!strcmp(command, "udp-spray") && argc >= 10)
		return udp_spray(rest, argc - 9);
	if (!strcmp(command, "bulk-server") && argc == 3)
		return bulk_server(rest);
	if (!strcmp(command, "bulk-client") && argc == 5)
		return bulk_client(rest);
	fprintf(stderr, "load: usage is at the top of tests/bench/load.c\n");
	return 2;
}
