/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load generators of the benchmarks. Each ends by itself after SECONDS and prints one line of JSON;
 * servers print "ready" and run until SIGTERM. ADDRESSes are IPv4 or IPv6; the work is spread over them evenly.
 *
 *   load crr-server PORT                            one request, one reply, the server closes first
 *   load crr-client SECONDS WORKERS PORT ADDRESS... {"count": ..., "errors": ..., "seconds": ...}
 *   load udp-sink PORT                              on SIGTERM: {"count": ...}
 *   load udp-blast SECONDS FLOWS PORT ADDRESS...    {"count": ..., "errors": ..., "seconds": ...}
 *   load udp-echo PORT                              one reply to each datagram
 *   load udp-client SECONDS WORKERS PORT ADDRESS... like crr-client; sockets that are not connected
 *   load bulk-server PORT
 *   load bulk-client SECONDS PORT ADDRESS           {"bytes": ..., "seconds": ...}, as the receiver counted
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROGRAM "load"
#include "tool.h"

#define SERVER_WORKERS 4
#define MAX_WORKERS 64
#define MAX_FLOWS 4096
#define MESSAGE 32   /* bytes of a request, a reply and a datagram */
#define UDP_BATCH 32 /* datagrams a system call */
#define BULK_BUFFER (256 * 1024)

static volatile sig_atomic_t stopped;

static void on_signal(int signal)
{
	(void)signal;
	stopped = 1;
}

static struct sockaddr_storage parse_address(const char *text, const char *port)
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

static int connect_to(const struct sockaddr_storage *to, int type)
{
	int fd = open_socket(to->ss_family, type);

	if (connect(fd, (const struct sockaddr *)to, sizeof(*to))) {
		close(fd);
		return -1;
	}
	return fd;
}

/* For both families at once. Says so on standard output, for whoever waits to send. */
static int bind_to(const char *port, int type)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(number(port, 65535))};
	int one = 1, zero = 0, fd = open_socket(AF_INET6, type);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)))
		die("bind");
	if (type == SOCK_STREAM && listen(fd, 4096))
		die("listen");
	puts("ready");
	fflush(stdout);
	return fd;
}

static void *shared_memory(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		die("mmap");
	return memory;
}

static int crr_server(char **argv)
{
	char message[MESSAGE];
	int listener = bind_to(argv[0], SOCK_STREAM);

	for (int i = 1; i < SERVER_WORKERS; i++)
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGTERM);
			break;
		}
	while (!stopped) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			continue;
		if (read(fd, message, sizeof(message)) > 0 && write(fd, message, sizeof(message)) < 0)
			perror("load: reply");
		close(fd);
	}
	return 0;
}

static int exchange(const struct sockaddr_storage *server)
{
	char message[MESSAGE] = {0};
	int fd = connect_to(server, SOCK_STREAM), ok;

	if (fd < 0)
		return 0;
	ok = write(fd, message, sizeof(message)) == sizeof(message) && read(fd, message, sizeof(message)) > 0 &&
	     read(fd, message, sizeof(message)) == 0;
	close(fd);
	return ok;
}

struct tally {
	uint64_t count;
	uint64_t errors;
	uint64_t padding[6]; /* a cache line for each worker */
};

/* Datagrams there and back, on a socket that is not connected, until the time is up. */
static void exchange_datagrams(const struct sockaddr_storage *server, double end, struct tally *tally)
{
	char message[MESSAGE] = {0};
	int fd = open_socket(server->ss_family, SOCK_DGRAM);

	while (!stopped && now() < end) {
		struct sockaddr_storage from;
		socklen_t length = sizeof(from);

		if (sendto(fd, message, sizeof(message), 0, (const struct sockaddr *)server, sizeof(*server)) > 0 &&
		    recvfrom(fd, message, sizeof(message), 0, (struct sockaddr *)&from, &length) > 0)
			tally->count++;
		else
			tally->errors++;
	}
}

static void exchange_connections(const struct sockaddr_storage *server, double end, struct tally *tally)
{
	while (!stopped && now() < end) {
		if (exchange(server))
			tally->count++;
		else
			tally->errors++;
	}
}

static int run_clients(char **argv, int servers, void (*work)(const struct sockaddr_storage *, double, struct tally *))
{
	double start = now(), end = start + number(argv[0], 600);
	int workers = number(argv[1], MAX_WORKERS);
	struct tally *tallies = shared_memory(workers * sizeof(*tallies)), sum = {0};

	for (int i = 0; i < workers; i++) {
		struct sockaddr_storage server = parse_address(argv[3 + i % servers], argv[2]);

		if (fork())
			continue;
		work(&server, end, &tallies[i]);
		_exit(0);
	}
	while (wait(NULL) > 0 || errno == EINTR)
		;
	for (int i = 0; i < workers; i++) {
		sum.count += tallies[i].count;
		sum.errors += tallies[i].errors;
	}
	printf("{\"count\": %lu, \"errors\": %lu, \"seconds\": %.6f}\n", sum.count, sum.errors, now() - start);
	return 0;
}

static int udp_echo(char **argv)
{
	char message[MESSAGE];
	int fd = bind_to(argv[0], SOCK_DGRAM);

	while (!stopped) {
		struct sockaddr_storage from;
		socklen_t length = sizeof(from);
		ssize_t n = recvfrom(fd, message, sizeof(message), 0, (struct sockaddr *)&from, &length);

		if (n > 0 && sendto(fd, message, n, 0, (struct sockaddr *)&from, length) < 0)
			perror("load: reply");
	}
	return 0;
}

static int udp_sink(char **argv)
{
	struct mmsghdr batch[UDP_BATCH] = {0}; /* no room for payload: it is cut off, and counted */
	int fd = bind_to(argv[0], SOCK_DGRAM), buffer = 16 << 20;
	uint64_t count = 0;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
	for (;;) {
		int n = recvmmsg(fd, batch, UDP_BATCH, MSG_DONTWAIT, NULL);

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
static int udp_blast(char **argv, int servers)
{
	static int sockets[MAX_FLOWS];
	char payload[UDP_BATCH * MESSAGE] = {0};
	int flows = number(argv[1], MAX_FLOWS), size = MESSAGE;
	uint64_t count = 0, errors = 0;
	double start, end;

	for (int i = 0; i < flows; i++) {
		struct sockaddr_storage server = parse_address(argv[3 + i % servers], argv[2]);

		sockets[i] = connect_to(&server, SOCK_DGRAM);
		if (sockets[i] < 0)
			die("connect");
		if (setsockopt(sockets[i], IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)))
			die("UDP_SEGMENT");
	}
	start = now();
	end = start + number(argv[0], 600);
	for (int i = 0; !stopped && now() < end; i = (i + 1) % flows) {
		ssize_t sent = send(sockets[i], payload, sizeof(payload), 0);

		if (sent > 0)
			count += sent / MESSAGE;
		else
			errors++;
	}
	printf("{\"count\": %lu, \"errors\": %lu, \"seconds\": %.6f}\n", count, errors, now() - start);
	return 0;
}

static uint64_t drain(int fd)
{
	static char buffer[BULK_BUFFER];
	uint64_t bytes = 0;
	ssize_t n;

	while ((n = read(fd, buffer, sizeof(buffer))) > 0)
		bytes += n;
	return bytes;
}

static int bulk_server(char **argv)
{
	int listener = bind_to(argv[0], SOCK_STREAM);

	while (!stopped) {
		int fd = accept(listener, NULL, NULL);
		uint64_t bytes;

		if (fd < 0)
			continue;
		bytes = drain(fd);
		if (write(fd, &bytes, sizeof(bytes)) != sizeof(bytes))
			perror("load: report");
		close(fd);
	}
	return 0;
}

static int bulk_client(char **argv)
{
	static char buffer[BULK_BUFFER];
	struct sockaddr_storage server = parse_address(argv[2], argv[1]);
	int fd = connect_to(&server, SOCK_STREAM);
	double start = now(), end = start + number(argv[0], 600);
	uint64_t bytes;

	if (fd < 0)
		die("connect");
	while (!stopped && now() < end)
		if (write(fd, buffer, sizeof(buffer)) < 0)
			die("write");
	shutdown(fd, SHUT_WR);
	if (recv(fd, &bytes, sizeof(bytes), MSG_WAITALL) != sizeof(bytes))
		die("the receiver's report");
	printf("{\"bytes\": %lu, \"seconds\": %.6f}\n", bytes, now() - start);
	return 0;
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
		return run_clients(rest, argc - 5, exchange_connections);
	if (!strcmp(command, "udp-echo") && argc == 3)
		return udp_echo(rest);
	if (!strcmp(command, "udp-client") && argc >= 6)
		return run_clients(rest, argc - 5, exchange_datagrams);
	if (!strcmp(command, "udp-sink") && argc == 3)
		return udp_sink(rest);
	if (!strcmp(command, "udp-blast") && argc >= 6)
		return udp_blast(rest, argc - 5);
	if (!strcmp(command, "bulk-server") && argc == 3)
		return bulk_server(rest);
	if (!strcmp(command, "bulk-client") && argc == 5)
		return bulk_client(rest);
	fprintf(stderr, "load: usage is at the top of tests/bench/load.c\n");
	return 2;
}
