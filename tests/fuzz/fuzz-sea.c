/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest agent's texts: CPU lists, /proc, uevents, configuration.  Any bytes are refused or give
 * an answer within its range. */
#include <stdlib.h>

#include "guest-agent/fore-sea-config.h"
#include "guest-agent/fore-sea-text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void feed_cpus(const char *text, size_t size)
{
    ForeSeaCpus cpus;
    unsigned n = 0;

    if (fore_sea_text_cpus(text, size, &cpus)) {
        for (unsigned i = 0; i < FORE_SEA_CPUS_MAX; i++) {
            n += fore_sea_cpus_has(&cpus, i) ? 1 : 0;
        }
        check(n == cpus.n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_malloc(MAX(size, 1)); /* its own block: ASan sees a read past it */
    g_autoptr(ForeSeaConfig) config = NULL;
    uint64_t value;

    for (size_t i = 0; i < size; i++) {
        text[i] = (char)data[i];
    }
    feed_cpus(text, size);
    if (fore_sea_text_busy(text, size, &value)) {
        check(value <= UINT64_MAX / 16 * 5);
    }
    if (fore_sea_text_runnable(text, size, &value)) {
        check(value <= UINT32_MAX);
    }
    if (fore_sea_text_labelled(text, size, "MemTotal:", &value) ||
        fore_sea_text_labelled(text, size, "pswpout", &value) ||
        fore_sea_text_stalled(text, size, &value)) {
        check(value <= UINT64_MAX / 2);
    }
    if (fore_sea_text_hex(text, size, &value)) {
        check(value > 0);
    }
    fore_sea_text_uevent(text, size);
    config = fore_sea_config_parse(text, size, NULL);
    if (config) {
        check(config->milliseconds >= FORE_SEA_INTERVAL_MIN &&
              config->milliseconds <= FORE_SEA_INTERVAL_MAX && config->pam_key && config->host_pin);
    }
    return 0;
}
