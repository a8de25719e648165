/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Settings "key=value", one a line.  What is taken must read back as the same text, and the numbers
 * that follow from it must stay within limits. */
#include <string.h>

#include "control/fore-target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void set_and_read_back(ForePolicy *policy, const char *key, const char *value)
{
    ForePolicy copy = *policy;

    if (!fore_policy_set(policy, key, value, NULL)) {
        g_assert_true(memcmp(policy, &copy, sizeof copy) == 0);
        return;
    }
    g_autofree char *text = fore_policy_get(policy, key);
    g_assert_true(fore_policy_set(&copy, key, text, NULL));
    g_autofree char *again = fore_policy_get(&copy, key);
    g_assert_cmpstr(text, ==, again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, MIN(size, 4096));
    g_auto(GStrv) lines = g_strsplit(text, "\n", 64);
    ForePolicy policy;

    fore_policy_init(&policy);
    for (char **line = lines; *line; line++) {
        char *value = strchr(*line, '=');
        if (value) {
            *value++ = 0;
            set_and_read_back(&policy, *line, value);
        }
    }
    if (fore_policy_check(&policy, NULL)) {
        unsigned vcpus = fore_target_vcpus(&policy, 3.5);
        uint64_t mem = fore_target_mem(&policy, 1e9);
        g_assert_true(vcpus >= policy.min_vcpus && vcpus <= policy.max_vcpus);
        g_assert_true(mem <= MAX(policy.max_mem_bytes, policy.base_mem_bytes));
    }
    return 0;
}
