/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Of what the kernel gives a callback, some is not wanted; of a header's functions, some not by every object. */
#pragma once

#define UNUSED __attribute__((unused))
