/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What query-stats may return. */
#include <stdlib.h>

#include "qmp-agent/fore-stats.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(json_t) list = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    ForeStats stats = {.at_ns = 2, .prev_ns = 1};

    if (list == NULL || !fore_stats_parse(list, &stats.now, NULL)) {
        return 0;
    }
    if (stats.now.vcpus > 1024 || (stats.now.vcpus == 0 && stats.now.has != 0)) {
        abort();
    }
    stats.prev.vcpus = stats.now.vcpus;
    stats.prev.has = stats.now.has;
    json_decref(fore_stats_view(&stats));
    return 0;
}
