/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A log of launches: the first 32 bytes are a head that somebody claims.  Then the log with the
 * head that its own lines lead to, which reaches the judge behind it: what it finds is a line that
 * this code would have written, and another head never finds it.
 */
#include <openssl/sha.h>
#include <string.h>

#include "vtpm/attest/fore-launch.h"

#define VM "adc097a6-911f-4414-aaa9-b9016da511d0" /* as the seeds have it */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The head that a TPM has after these lines; a last line without its end is not one. */
static void head_of(const uint8_t *log, size_t size, uint8_t ret[32])
{
    uint8_t both[64] = {0};
    const uint8_t *end;

    memset(ret, 0, 32);
    while (size > 0 && (end = memchr(log, '\n', size)) != NULL) {
        size_t n = (size_t)(end - log);

        memcpy(both, ret, 32);
        fore_launch_entry((const char *)log, n, both + 32);
        SHA256(both, sizeof(both), ret);
        log += n + 1;
        size -= n + 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GBytes) log = NULL;
    uint8_t head[32];
    ForeLaunch launch = {0}, other = {0};

    if (size < 32) {
        return 0;
    }
    log = g_bytes_new(data + 32, size - 32);
    fore_launch_find(log, data, VM, &launch);
    head_of(data + 32, size - 32, head);
    if (fore_launch_find(log, head, VM, &launch) == FORE_LAUNCH_OK) {
        g_autofree char *line = fore_launch_line(&launch);

        g_assert_cmpstr(launch.vm, ==, VM);
        g_assert_nonnull(g_strstr_len((const char *)data + 32, (gssize)size - 32, line));
        head[0] ^= 1;
        g_assert_cmpint(fore_launch_find(log, head, VM, &other), !=, FORE_LAUNCH_OK);
    }
    return 0;
}
