/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The TCG guest's counters from the scoreboard to the page.
 *
 * How it works: translated code counts, vCPU threads note when they sleep and wake, and a thread of
 * ours reads both every interval, multiplies and adds up, and writes the page.  No vCPU ever waits
 * for it or does its work.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/fore-page.h"
#include "qemu-plugin/fore-profiler-score.h"

typedef struct {
    ForePageHeader *page;      /* mapped for the life of the process */
    ForeProfilerScore *scores; /* [@max_vcpus] */
    uint64_t interval_ns;
    unsigned max_vcpus; /* 1..FORE_PAGE_MAX_VCPUS */
} ForePublishSetup;

/** fore_publish_start: start the thread; once.  Returns: false with G_FILE_ERROR */
bool fore_publish_start(const ForePublishSetup *setup, GError **error);

/** fore_publish_stop: publish once more and end the thread; nothing when none was started.  vCPU
 * threads may still run. */
void fore_publish_stop(void);

/** fore_publish_add_valid: these fields are real from now on.  From any thread */
void fore_publish_add_valid(uint64_t bits);

/* What happens to a vCPU; @index below max_vcpus.  On the vCPU's thread, the last on the thread
 * that unplugs it after that has ended. */
void fore_publish_vcpu_init(unsigned index);
void fore_publish_vcpu_idle(unsigned index);
void fore_publish_vcpu_resume(unsigned index);
void fore_publish_vcpu_exit(unsigned index);

/** fore_publish_count_syscall: on the vCPU's thread.  @number: as the guest gave it */
void fore_publish_count_syscall(unsigned index, uint64_t number);
