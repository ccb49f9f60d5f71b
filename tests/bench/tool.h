/* SPDX-License-Identifier: Apache-2.0 */
/* What each load generator does alike. PROGRAM is its name, as a string. */
#pragma once

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline void die(const char *what)
{
	fprintf(stderr, PROGRAM ": %s: %s\n", what, strerror(errno));
	exit(1);
}

static inline double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static inline long number(const char *text, long max)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (*end || n < 1 || n > max) {
		fprintf(stderr, PROGRAM ": '%s' is not a number from 1 to %ld\n", text, max);
		exit(2);
	}
	return n;
}
