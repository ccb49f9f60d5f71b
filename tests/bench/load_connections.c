/* SPDX-License-Identifier: Apache-2.0 */
/* Loads of TCP connections: many short ones, and one that is full. */
#define _GNU_SOURCE
#include "load.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERVER_WORKERS 4
#define BULK_BUFFER (256 * 1024)

int crr_server(char **argv)
{
	char message[MESSAGE];
	int listener = bind_to(argv[0], SOCK_STREAM, NULL);

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

static void exchange_connections(const struct sockaddr_storage *server, double end, struct tally *tally)
{
	while (!stopped && now() < end) {
		if (exchange(server))
			tally->count++;
		else
			tally->errors++;
	}
}

int crr_client(char **argv, int servers)
{
	double start = now(), end = start + parse_seconds(argv[0]);
	int workers = number(argv[1], MAX_WORKERS);
	struct tally *tallies = shared_memory(workers * sizeof(*tallies)), sum = {0};

	for (int i = 0; i < workers; i++) {
		struct sockaddr_storage server = parse_address(argv[3 + i % servers], argv[2]);

		if (fork())
			continue;
		exchange_connections(&server, end, &tallies[i]);
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

static uint64_t drain(int fd)
{
	static char buffer[BULK_BUFFER];
	uint64_t bytes = 0;
	ssize_t n;

	while ((n = read(fd, buffer, sizeof(buffer))) > 0)
		bytes += n;
	return bytes;
}

int bulk_server(char **argv)
{
	int listener = bind_to(argv[0], SOCK_STREAM, NULL);

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

int bulk_client(char **argv)
{
	static char buffer[BULK_BUFFER];
	struct sockaddr_storage server = parse_address(argv[2], argv[1]);
	int fd = connect_to(&server, SOCK_STREAM);
	double start = now(), end = start + parse_seconds(argv[0]);
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
