/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The profiler's parsers of /proc/self and of KVM's statistics files. */
#include <stdlib.h>
#include <string.h>

#include "qemu-plugin/fore-profiler-proc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text, size_t size)
{
    ForeProcRange range;
    uint64_t a, b;
    unsigned n;

    if (fore_proc_parse_vcpu_name(text, size, 255, &n) && n >= 255) {
        abort();
    }
    if (fore_proc_parse_ram(text, size, 4096, &range) &&
        (range.end <= range.start || range.end - range.start < 4096)) {
        abort();
    }
    fore_proc_parse_schedstat(text, size, &a, &b);
    fore_proc_parse_resident(text, size, &a);
    fore_proc_parse_stats_link(text, size, &n);
    fore_proc_is_kvm_vm(text, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t block[FORE_PROC_STATS_MAX_DATA];
    ForeProcLayout layout;

    check_text((const char *)data, size);
    if (!fore_proc_parse_layout(data, size, &layout)) {
        return 0;
    }
    if (layout.data_bytes > sizeof(block) || layout.data_offset > FORE_PROC_STATS_MAX_BYTES) {
        abort();
    }
    /* A block of exactly the size that will be read: a counter outside it shows under ASan. */
    g_autofree uint8_t *own = g_memdup2(block, layout.data_bytes);
    for (int i = 0; i < FORE_PROC_N; i++) {
        if (fore_proc_stat(&layout, own, (ForeProcStat)i) != 0) {
            abort();
        }
    }
    return 0;
}
