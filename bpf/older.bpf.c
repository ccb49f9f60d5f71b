/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The same programs for kernels before 5.18, which can't load what calls their connection tracking. */
#define BLIXT_NO_KERNEL_FUNCTIONS
#include "blixt.bpf.c"
