/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The writer's side of the profile page file: made whole under another name, then put in place. */
#include <glib.h>

#include "common/fore-page.h"

/* What the header says from the start. */
typedef struct {
    const char *uuid;     /* canonical text, or NULL */
    const char *target;   /* QEMU's target name */
    uint64_t now_ns;      /* CLOCK_MONOTONIC */
    uint64_t interval_ns; /* between two publications */
    unsigned max_vcpus;   /* 1..FORE_PAGE_MAX_VCPUS */
    ForePageLevel level;
} ForeProfilerPageInfo;

/**
 * fore_profiler_page_create: make the page at @path (mode 0640), replacing an old one
 * Readers of the old file keep it, unchanged; a symbolic link at @path is replaced, not followed.
 * Returns: the mapping, FORE_PAGE_BYTES, for the life of the process; or NULL with G_FILE_ERROR
 */
ForePageHeader *fore_profiler_page_create(const char *path, const ForeProfilerPageInfo *info,
                                          GError **error);

/** fore_profiler_page_block: the block of vCPU @index, below FORE_PAGE_MAX_VCPUS */
static inline ForePageVcpu *fore_profiler_page_block(ForePageHeader *page, unsigned index)
{
    return (ForePageVcpu *)(void *)((char *)page + FORE_PAGE_BLOCKS) + index;
}

/** fore_profiler_page_vm: the VM's section */
static inline ForePageVm *fore_profiler_page_vm(ForePageHeader *page)
{
    return (ForePageVm *)(void *)((char *)page + FORE_PAGE_HEADER);
}
