/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * How fast the guest dirties its memory, by sampling: a fixed number of random pages of QEMU's
 * large mappings is hashed, and hashed again a while later.  No dirty log is switched on, nothing
 * is write-protected, and no page of the guest leaves this process.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "qemu-plugin/fore-profiler-proc.h"

#define FORE_RAM_SAMPLES    256
#define FORE_RAM_MAX_RANGES 64
#define FORE_RAM_MIN_BYTES                                                                         \
    (G_GUINT64_CONSTANT(16) << 20) /* of a mapping that counts as guest's                          \
                                    */

typedef struct {
    int mem, pagemap; /* of this process; -1: may not be opened */
    uint64_t page_bytes;
    uint64_t random;
    unsigned n_ranges;
    ForeProcRange ranges[FORE_RAM_MAX_RANGES];
    uint64_t total_pages; /* of all ranges */
    uint64_t taken_ns;    /* when the samples were hashed; 0: there are none */
    struct {
        uint64_t address, hash;
    } samples[FORE_RAM_SAMPLES];
} ForeRam;

/** fore_ram_init: @random: a seed, not 0 */
void fore_ram_init(ForeRam *ram, uint64_t random);
void fore_ram_done(ForeRam *ram);

/**
 * fore_ram_step: compare the samples with what their pages hold now, then take new ones
 * @now_ns: CLOCK_MONOTONIC, above that of the call before
 * @ret_bytes_per_s: memory that got another content, estimated; a page written twice counts once,
 * and one that got its old content back not at all
 * Returns: false when there is no estimate: no earlier samples, or memory that cannot be read
 */
bool fore_ram_step(ForeRam *ram, uint64_t now_ns, uint64_t *ret_bytes_per_s);
