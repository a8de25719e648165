/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An event log: read, replayed, and judged against the PCRs that it itself leads to, so that every
 * check behind replay is reached; with one PCR changed it is never accepted. */
#include <string.h>

#include "vtpm/attest/fore-eventlog.h"
#include "vtpm/attest/fore-public.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void judge(GBytes *log, const ForeEventlogReplay *replay, const ForeDbx *dbx)
{
    ForeEventlogPolicy policy = {.pcr_mask = 0xffff,
                                 .require_secure_boot = true,
                                 .allow_missing_separator = true,
                                 .dbx = dbx};
    ForeEventlogResult result;
    uint8_t proved[24][32];

    for (unsigned pcr = 0; pcr < 24; pcr++) {
        memcpy(proved[pcr], replay->pcrs[pcr], 32);
    }
    if (fore_eventlog_judge(log, &policy, (const uint8_t(*)[32])proved, &result) ==
        FORE_EVENTLOG_OK) {
        g_assert(result.secure_boot == FORE_SECURE_BOOT_ON);
    }
    proved[replay->n_events % 16][0] ^= 1;
    g_assert(fore_eventlog_judge(log, &policy, (const uint8_t(*)[32])proved, &result) !=
             FORE_EVENTLOG_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint16_t banks[] = {FORE_ALG_SHA1, FORE_ALG_SHA384, FORE_ALG_SHA256};
    g_autoptr(GBytes) log = g_bytes_new_static(data, size);
    g_autoptr(ForeDbx) dbx = fore_dbx_new();
    ForeEventlogReplay replay;
    ForeEventlogReason reason = FORE_EVENTLOG_MISSING;
    ForeEfiVariable var;

    (void)fore_dbx_add_lists(dbx, data, size, NULL);
    if (fore_efi_variable_init(&var, data, size)) {
        g_assert(var.size + 2 * var.name_chars + 32 + var.tail == size);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(banks); i++) {
        (void)fore_eventlog_replay(log, banks[i], true, true, &replay);
        reason = fore_eventlog_replay(log, banks[i], false, false, &replay);
    }
    if (reason == FORE_EVENTLOG_OK) {
        judge(log, &replay, dbx);
    }
    return 0;
}
