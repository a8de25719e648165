/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/fore-flow.h"

#include <string.h>

const char *const fore_resource_names[FORE_RES_N] = {"vcpu", "mem"};

const char *const fore_field_names[FORE_FIELD_N] = {
    [FORE_FIELD_CPU_BUSY] = "cpu_busy",
    [FORE_FIELD_RUNNABLE] = "runnable",
    [FORE_FIELD_PSI_CPU] = "psi_cpu",
    [FORE_FIELD_PSI_MEM] = "psi_mem",
    [FORE_FIELD_MEM_USED] = "mem_used",
    [FORE_FIELD_MEM_AVAILABLE] = "mem_available",
    [FORE_FIELD_SWAP_OUT] = "swap_out",
    [FORE_FIELD_ONLINE_VCPUS] = "online_vcpus",
    [FORE_FIELD_MEM_TOTAL] = "mem_total",
    [FORE_FIELD_DEMAND_VCPU] = "demand_vcpu",
    [FORE_FIELD_DEMAND_MEM] = "demand_mem",
    [FORE_FIELD_INSNS] = "insns",
    [FORE_FIELD_LOADS] = "loads",
    [FORE_FIELD_STORES] = "stores",
    [FORE_FIELD_SYSCALLS] = "syscalls",
    [FORE_FIELD_IDLE] = "idle",
    [FORE_FIELD_PSI_IO] = "psi_io",
    [FORE_FIELD_UPTIME] = "uptime",
    [FORE_FIELD_MIX_SIMD] = "mix_simd",
    [FORE_FIELD_MIX_STRING] = "mix_string",
    [FORE_FIELD_SYSCALL_FILE] = "syscall_file",
    [FORE_FIELD_SYSCALL_NET] = "syscall_net",
    [FORE_FIELD_SPACE_SWITCHES] = "space_switches",
    [FORE_FIELD_SPACE_TOP] = "space_top",
    [FORE_FIELD_WORKING_SET] = "working_set",
    [FORE_FIELD_SIGNATURE_A] = "signature_a",
    [FORE_FIELD_SIGNATURE_B] = "signature_b",
    [FORE_FIELD_SIGNATURE_C] = "signature_c",
    [FORE_FIELD_NEXT_IN] = "next_in",
    [FORE_FIELD_RESERVED_VCPU] = "reserved_vcpu",
    [FORE_FIELD_RESERVED_MEM] = "reserved_mem",
};
G_STATIC_ASSERT(FORE_FIELD_N <= 32); /* ForeSample.valid */

const unsigned fore_horizons[FORE_N_HORIZON] = {1, 2, 3, 5, 8, 12};
const double fore_quantiles[FORE_N_QUANTILE] = {0.05, 0.50, 0.75, 0.90, 0.95};

static bool demand_vcpus(const ForeSample *s, double *ret)
{
    double busy, online;

    if (!FORE_HAS(s, FORE_FIELD_CPU_BUSY) || !FORE_HAS(s, FORE_FIELD_ONLINE_VCPUS)) {
        return false;
    }
    busy = s->value[FORE_FIELD_CPU_BUSY];
    online = s->value[FORE_FIELD_ONLINE_VCPUS];
    *ret = busy;
    if (busy >= 0.9 * online && FORE_HAS(s, FORE_FIELD_RUNNABLE)) {
        *ret = MAX(busy, s->value[FORE_FIELD_RUNNABLE]);
    }
    return true;
}

static bool demand_mem(const ForeSample *s, double *ret)
{
    double used, total;
    bool short_of_it, stalls;

    if (!FORE_HAS(s, FORE_FIELD_MEM_USED) || !FORE_HAS(s, FORE_FIELD_MEM_TOTAL)) {
        return false;
    }
    used = s->value[FORE_FIELD_MEM_USED];
    total = s->value[FORE_FIELD_MEM_TOTAL];
    short_of_it = total - used < 0.15 * total;
    stalls = (FORE_HAS(s, FORE_FIELD_PSI_MEM) && s->value[FORE_FIELD_PSI_MEM] > 0.05) ||
             (FORE_HAS(s, FORE_FIELD_SWAP_OUT) && s->value[FORE_FIELD_SWAP_OUT] > 0);
    /* What is missing cannot be seen; one block is the least that can be given. */
    *ret = short_of_it || stalls ? MAX(used * 1.25, used + (double)FORE_MEM_BLOCK) : used;
    return true;
}

unsigned fore_usage_demand(const ForeSample *s, double *ret_vcpus, double *ret_mem)
{
    return (demand_vcpus(s, ret_vcpus) ? 1u : 0u) | (demand_mem(s, ret_mem) ? 2u : 0u);
}

bool fore_uuid_is_valid(const char *text)
{
    if (text == NULL || strnlen(text, FORE_UUID_LEN + 1) != FORE_UUID_LEN) {
        return false;
    }
    for (unsigned i = 0; i < FORE_UUID_LEN; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : strchr("0123456789abcdef", text[i]) == NULL) {
            return false;
        }
    }
    return true;
}

bool fore_name_is_valid(const char *text)
{
    size_t n = text != NULL ? strnlen(text, FORE_NAME_MAX + 1) : 0;

    if (n == 0 || n > FORE_NAME_MAX || text[0] == '.' || text[0] == '-') {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!g_ascii_isalnum(text[i]) && strchr("._-", text[i]) == NULL) {
            return false;
        }
    }
    return true;
}
