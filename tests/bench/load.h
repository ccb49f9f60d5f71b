/* SPDX-License-Identifier: Apache-2.0 */
/* What the loads share: arguments, sockets, time. */
#pragma once

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define PROGRAM "load"
#include "tool.h"

#define MESSAGE 32 /* bytes of a request, a reply and a datagram */
#define MAX_WORKERS 64
#define BATCH 32 /* datagrams a system call */

/* Set by SIGTERM and SIGINT. */
extern volatile sig_atomic_t stopped;

double cpu_now(void);
double parse_seconds(const char *text);
struct sockaddr_storage parse_address(const char *text, const char *port);
int connect_to(const struct sockaddr_storage *to, int type);
int bind_to(const char *port, int type, void (*prepare)(int fd));
void *shared_memory(size_t size);
void print_sent(uint64_t count, uint64_t errors, double seconds, double cpu_seconds);

/* The loads, by what follows their name on the command line. */
int crr_server(char **argv);
int crr_client(char **argv, int servers);
int bulk_server(char **argv);
int bulk_client(char **argv);
int tcp_echo(char **argv);
int udp_echo(char **argv);
int exchange_in_turn(char **argv, int type);
int udp_sink(char **argv);
int udp_sends(char **argv, int servers);
int udp_bursts(char **argv, int servers);
int udp_spray(char **argv, int servers);
