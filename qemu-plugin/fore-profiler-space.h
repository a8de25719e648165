/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Which address spaces ran: vCPU time by the value of CR3, in windows. */
#include <glib.h>
#include <stdint.h>

#include "common/fore-page.h"

/* Bits 12 to 51: without the process-context identifier and flags (Intel SDM volume 3, 2.5), and
 * without bit 12, which tells the two halves of Linux' page-table isolation apart. */
#define FORE_SPACE_MASK G_GUINT64_CONSTANT(0x000fffffffffe000)

/** fore_space_start: the first window begins; before any vCPU runs */
void fore_space_start(uint64_t now_ns);

/* On the vCPU's thread.  @index: below FORE_PAGE_MAX_VCPUS; @now_ns: CLOCK_MONOTONIC */
void fore_space_run(unsigned index, uint64_t now_ns);  /* it begins to run */
void fore_space_rest(unsigned index, uint64_t now_ns); /* it ceases to */
/** fore_space_switch: it loads its page-table base with @value */
void fore_space_switch(unsigned index, uint64_t value, uint64_t now_ns);

/**
 * fore_space_collect: end the window and begin the next; on the publishing thread
 * @ret: gets n_spaces, spaces (largest first) and space_ns
 */
void fore_space_collect(unsigned max_vcpus, uint64_t now_ns, ForePageVm *ret);
