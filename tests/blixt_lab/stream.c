/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Traffic that shows what becomes of connections while something is done to the way between: echo servers, and a
 * client with connections that stay, new ones at a steady rate, and numbered datagrams. One thread each.
 *
 *   stream serve TCP_PORT UDP_PORT                    prints "ready", and runs until SIGTERM
 *   stream load ADDRESS TCP_PORT UDP_PORT HELD RATE DATAGRAMS
 *
 * HELD connections are opened first, then "ready" is printed. Each asks INTERVAL_MS after it was answered; RATE
 * connections a second ask once and close; DATAGRAMS a second are sent by turns from UDP_SOCKETS sockets. On SIGTERM
 * nothing new is begun, what is under way gets GRACE_MS, and one line of JSON tells what was lost.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define INTERVAL_MS 50
#define PATIENCE_MS 10000
#define GRACE_MS 3000
#define UDP_SOCKETS 16
#define MAX_EVENTS 256
#define MAX_FDS 65536

struct message {
	uint64_t number;
	uint64_t turn;
};

enum kind { NOBODY, HELD, BRIEF, DATAGRAM };

/* What a descriptor is, by its number. */
struct talk {
	enum kind kind;
	bool waits; /* for an answer, or to be connected */
	bool connected;
	uint64_t since; /* ms: began to wait, or was answered */
	struct message sent;
};

static struct {
	unsigned long held, lost, exchanges, opened, answered, failed, sent, echoed, slowest_ms;
	char reason[64];
} tally;

static struct talk talks[MAX_FDS];
static volatile sig_atomic_t stopped;
static int poller, top;
static uint64_t serial;
static struct sockaddr_storage tcp_address, udp_address;
static int udp_sockets[UDP_SOCKETS];

static void on_signal(int number)
{
	(void)number;
	stopped = 1;
}

static void die(const char *what)
{
	fprintf(stderr, "stream: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ULL + now.tv_nsec / 1000000;
}

static void watch(int fd, uint32_t events, int operation)
{
	struct epoll_event event = {.events = events, .data.fd = fd};

	if (epoll_ctl(poller, operation, fd, &event))
		die("epoll_ctl");
}

static struct sockaddr_storage parse(const char *text, const char *port)
{
	struct sockaddr_storage storage = {0};
	struct sockaddr_in *v4 = (struct sockaddr_in *)&storage;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&storage;

	v6->sin6_port = htons(atoi(port)); /* the port is at the same place in both */
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1)
		v4->sin_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1)
		v6->sin6_family = AF_INET6;
	else
		die(text);
	return storage;
}

/* --- the server --- */

static int listener(int type, const char *port)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(atoi(port))};
	int fd = socket(AF_INET6, type | SOCK_NONBLOCK, 0), off = 0, on = 1;

	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) || (type == SOCK_STREAM && listen(fd, 4096)))
		die("listening");
	watch(fd, EPOLLIN, EPOLL_CTL_ADD);
	return fd;
}

static void accept_all(int from)
{
	int fd;

	while ((fd = accept4(from, NULL, NULL, SOCK_NONBLOCK)) >= 0)
		watch(fd, EPOLLIN, EPOLL_CTL_ADD);
}

static void echo_datagrams(int fd)
{
	struct sockaddr_storage from;
	socklen_t length = sizeof(from);
	char buffer[2048];
	ssize_t size;

	while ((size = recvfrom(fd, buffer, sizeof(buffer), 0, (struct sockaddr *)&from, &length)) >= 0) {
		sendto(fd, buffer, size, 0, (struct sockaddr *)&from, length);
		length = sizeof(from);
	}
}

static void echo_stream(int fd)
{
	char buffer[2048];
	ssize_t size = recv(fd, buffer, sizeof(buffer), 0);

	if (size < 0 && errno == EAGAIN)
		return;
	if (size <= 0 || send(fd, buffer, size, MSG_NOSIGNAL) != size)
		close(fd);
}

static int serve(char **arguments)
{
	int tcp = listener(SOCK_STREAM, arguments[0]), udp = listener(SOCK_DGRAM, arguments[1]);
	struct epoll_event events[MAX_EVENTS];

	puts("ready");
	fflush(stdout);
	while (!stopped) {
		int count = epoll_wait(poller, events, MAX_EVENTS, 1000);

		for (int i = 0; i < count; i++) {
			int fd = events[i].data.fd;

			if (fd == tcp)
				accept_all(fd);
			else if (fd == udp)
				echo_datagrams(fd);
			else
				echo_stream(fd);
		}
	}
	return 0;
}

/* --- the client --- */

static void end(int fd, const char *reason)
{
	struct talk *talk = &talks[fd];

	if (reason) {
		*(talk->kind == HELD ? &tally.lost : &tally.failed) += 1;
		if (!tally.reason[0])
			snprintf(tally.reason, sizeof(tally.reason), "%s: %s", talk->kind == HELD ? "held" : "new",
				 reason);
	}
	talk->kind = NOBODY;
	close(fd);
}

static void begin(enum kind kind)
{
	int fd = socket(tcp_address.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;

	if (fd < 0 || fd >= MAX_FDS)
		die("socket");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	talks[fd] = (struct talk){.kind = kind, .waits = true, .since = now_ms()};
	top = fd > top ? fd : top;
	*(kind == HELD ? &tally.held : &tally.opened) += 1;
	if (connect(fd, (struct sockaddr *)&tcp_address, sizeof(tcp_address)) && errno != EINPROGRESS) {
		end(fd, strerror(errno));
		return;
	}
	watch(fd, EPOLLOUT, EPOLL_CTL_ADD);
}

static void ask(int fd)
{
	struct talk *talk = &talks[fd];

	talk->sent = (struct message){.number = serial++, .turn = talk->sent.turn + 1};
	talk->waits = true;
	talk->since = now_ms();
	if (send(fd, &talk->sent, sizeof(talk->sent), MSG_NOSIGNAL) != sizeof(talk->sent))
		end(fd, strerror(errno));
}

static void connected(int fd)
{
	int error = 0;
	socklen_t size = sizeof(error);

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error) {
		end(fd, strerror(error));
		return;
	}
	talks[fd].connected = true;
	watch(fd, EPOLLIN, EPOLL_CTL_MOD);
	ask(fd);
}

static void hear(int fd)
{
	struct talk *talk = &talks[fd];
	struct message heard;
	ssize_t size = recv(fd, &heard, sizeof(heard), 0);
	uint64_t now = now_ms();

	if (size != sizeof(heard) || memcmp(&heard, &talk->sent, sizeof(heard))) {
		end(fd, size < 0 ? strerror(errno) : size ? "another answer" : "closed");
		return;
	}
	if (now - talk->since > tally.slowest_ms)
		tally.slowest_ms = now - talk->since;
	talk->waits = false;
	talk->since = now;
	if (talk->kind == HELD) {
		tally.exchanges++;
	} else {
		tally.answered++;
		end(fd, NULL);
	}
}

static void hear_datagrams(int fd)
{
	struct message heard;
	ssize_t size;

	/* An ICMP error is told once, and is no answer. */
	while ((size = recv(fd, &heard, sizeof(heard), 0)) >= 0 || errno == ECONNREFUSED)
		tally.echoed += size >= 0;
}

static void handle(const struct epoll_event *event)
{
	int fd = event->data.fd;

	if (talks[fd].kind == DATAGRAM)
		hear_datagrams(fd);
	else if (talks[fd].kind == NOBODY)
		return;
	else if (!talks[fd].connected)
		connected(fd);
	else
		hear(fd);
}

static void look_round(bool asks)
{
	uint64_t now = now_ms();

	for (int fd = 0; fd <= top; fd++) {
		struct talk *talk = &talks[fd];

		if (talk->kind != HELD && talk->kind != BRIEF)
			continue;
		if (talk->waits && now - talk->since > PATIENCE_MS)
			end(fd, talk->connected ? "no answer" : "not connected");
		else if (asks && !talk->waits && now - talk->since >= INTERVAL_MS)
			ask(fd);
	}
}

static void wait_some(int ms)
{
	struct epoll_event events[MAX_EVENTS];
	int count = epoll_wait(poller, events, MAX_EVENTS, ms);

	for (int i = 0; i < count; i++)
		handle(&events[i]);
}

static bool under_way(void)
{
	for (int fd = 0; fd <= top; fd++)
		if ((talks[fd].kind == HELD || talks[fd].kind == BRIEF) && talks[fd].waits)
			return true;
	return tally.echoed < tally.sent;
}

static void open_udp(void)
{
	for (int i = 0; i < UDP_SOCKETS; i++) {
		int fd = socket(udp_address.ss_family, SOCK_DGRAM | SOCK_NONBLOCK, 0);

		if (fd < 0 || connect(fd, (struct sockaddr *)&udp_address, sizeof(udp_address)))
			die("UDP socket");
		talks[fd].kind = DATAGRAM;
		watch(fd, EPOLLIN, EPOLL_CTL_ADD);
		udp_sockets[i] = fd;
	}
}

static void send_datagram(void)
{
	struct message message = {.number = tally.sent};

	if (send(udp_sockets[tally.sent % UDP_SOCKETS], &message, sizeof(message), 0) == sizeof(message) ||
	    errno == ECONNREFUSED)
		tally.sent++;
}

/* As many as are due; what a busy machine was late for is made up for, but not in one burst. */
static double due(double owed, uint64_t passed_ms, double rate)
{
	owed += passed_ms * rate / 1000;
	return owed > rate / 4 ? rate / 4 : owed;
}

static uint64_t run(double rate, double datagrams)
{
	uint64_t started = now_ms(), last = started;
	double connections_owed = 0, datagrams_owed = 0;

	while (!stopped) {
		uint64_t now = now_ms();

		connections_owed = due(connections_owed, now - last, rate);
		datagrams_owed = due(datagrams_owed, now - last, datagrams);
		last = now;
		for (; connections_owed >= 1; connections_owed--)
			begin(BRIEF);
		for (; datagrams_owed >= 1; datagrams_owed--)
			send_datagram();
		look_round(true);
		wait_some(2);
	}
	return now_ms() - started;
}

static int load(char **arguments)
{
	unsigned long held = strtoul(arguments[3], NULL, 10);
	uint64_t ran, deadline;

	tcp_address = parse(arguments[0], arguments[1]);
	udp_address = parse(arguments[0], arguments[2]);
	open_udp();
	for (unsigned long i = 0; i < held && !stopped; i++) {
		begin(HELD);
		wait_some(1);
	}
	while (tally.exchanges < held && !tally.lost && !stopped) {
		look_round(false);
		wait_some(10);
	}
	puts("ready");
	fflush(stdout);
	ran = run(strtod(arguments[4], NULL), strtod(arguments[5], NULL));
	for (deadline = now_ms() + GRACE_MS; under_way() && now_ms() < deadline;)
		wait_some(10);
	for (int fd = 0; fd <= top; fd++)
		if ((talks[fd].kind == HELD || talks[fd].kind == BRIEF) && talks[fd].waits)
			end(fd, talks[fd].connected ? "no answer" : "not connected");
	printf("{\"held\": %lu, \"lost\": %lu, \"exchanges\": %lu, \"opened\": %lu, \"failed\": %lu, "
	       "\"sent\": %lu, \"unanswered\": %lu, \"slowest_ms\": %lu, \"seconds\": %.3f, \"reason\": \"%s\"}\n",
	       tally.held, tally.lost, tally.exchanges, tally.opened, tally.failed, tally.sent,
	       tally.sent - tally.echoed, tally.slowest_ms, ran / 1000.0, tally.reason);
	return 0;
}

int main(int count, char **arguments)
{
	struct rlimit files = {MAX_FDS, MAX_FDS};
	struct sigaction action = {.sa_handler = on_signal};

	setrlimit(RLIMIT_NOFILE, &files);
	sigaction(SIGTERM, &action, NULL);
	poller = epoll_create1(0);
	if (count == 4 && !strcmp(arguments[1], "serve"))
		return serve(arguments + 2);
	if (count == 8 && !strcmp(arguments[1], "load"))
		return load(arguments + 2);
	fprintf(stderr, "usage: stream serve TCP_PORT UDP_PORT\n"
			"       stream load ADDRESS TCP_PORT UDP_PORT HELD RATE DATAGRAMS\n");
	return 2;
}
