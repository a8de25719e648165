/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/fore-target.h"

#include <math.h>

#define MAX_VCPUS     4096.0
#define MAX_MEM_BYTES ((double)(G_GUINT64_CONSTANT(1) << 50)) /* 1 PiB */
/* A target this little above a whole vCPU is that vCPU: forecasts are not exact to 5 %. */
#define VCPU_SLACK 0.05

static bool is_sane(ForeResource resource, double value)
{
    double max = resource == FORE_RES_VCPU ? MAX_VCPUS : MAX_MEM_BYTES;

    return isfinite(value) && value >= 0 && value <= max;
}

bool fore_target_usage_is_sane(const ForeUsage *usage)
{
    const ForeCapacity *c = &usage->capacity;

    for (int r = 0; r < FORE_RES_N; r++) {
        if (!is_sane(r, usage->demand[r]) || !is_sane(r, usage->used[r])) {
            return false;
        }
    }
    return c->vcpus_online >= 1 && c->vcpus_plugged >= 1 && c->mem_online_bytes > 0 &&
           c->mem_plugged_bytes > 0 && is_sane(FORE_RES_VCPU, c->vcpus_online) &&
           is_sane(FORE_RES_VCPU, c->vcpus_plugged) && is_sane(FORE_RES_VCPU, c->vcpus_requested) &&
           is_sane(FORE_RES_MEM, (double)c->mem_online_bytes) &&
           is_sane(FORE_RES_MEM, (double)c->mem_plugged_bytes) &&
           is_sane(FORE_RES_MEM, (double)c->mem_requested_bytes);
}

bool fore_target_forecast_is_sane(const ForeForecast *forecast)
{
    if (forecast->step_ns < FORE_NS_PER_S / 1000 || forecast->step_ns > 3600 * FORE_NS_PER_S) {
        return false;
    }
    for (int r = 0; r < FORE_RES_N; r++) {
        for (int h = 0; h < FORE_N_HORIZON; h++) {
            for (int q = 0; q < FORE_N_QUANTILE; q++) {
                if (!is_sane(r, forecast->point[r][h][q]) || !is_sane(r, forecast->peak[r][h][q])) {
                    return false;
                }
            }
        }
    }
    return true;
}

unsigned fore_target_horizon(const ForeForecast *forecast, uint64_t lead_ns, uint64_t now_ns,
                             bool *ret_covered)
{
    uint64_t age_ns = now_ns > forecast->mono_ns ? now_ns - forecast->mono_ns : 0;

    for (unsigned h = 0; h < FORE_N_HORIZON; h++) {
        if (fore_horizons[h] * forecast->step_ns >= lead_ns + age_ns) {
            *ret_covered = true;
            return h;
        }
    }
    *ret_covered = false;
    return FORE_N_HORIZON - 1;
}

double fore_target_reactive(double demand)
{
    return demand;
}

double fore_target_combine(double forecast_term, double adjustment, double reactive_term)
{
    return MAX(forecast_term + MAX(adjustment, 0), reactive_term);
}

double fore_target_unit(ForeResource resource)
{
    return resource == FORE_RES_VCPU ? 1 : (double)FORE_MEM_BLOCK;
}

static double grid_up(const ForePolicy *policy, double bytes)
{
    double base = (double)policy->base_mem_bytes;

    return bytes <= base ? base : base + ceil((bytes - base) / FORE_MEM_BLOCK) * FORE_MEM_BLOCK;
}

double fore_target_fit(const ForePolicy *policy, ForeResource resource, double total)
{
    double base = (double)policy->base_mem_bytes;

    if (resource == FORE_RES_VCPU) {
        return floor(total + 1e-6);
    }
    return total <= base ? base : base + floor((total - base) / FORE_MEM_BLOCK) * FORE_MEM_BLOCK;
}

double fore_target_ceiling(const ForePolicy *policy, ForeResource resource)
{
    if (resource == FORE_RES_VCPU) {
        return policy->max_vcpus;
    }
    return fore_target_fit(policy, FORE_RES_MEM, (double)policy->max_mem_bytes);
}

double fore_target_floor(const ForePolicy *policy, ForeResource resource)
{
    double top = fore_target_ceiling(policy, resource);

    if (resource == FORE_RES_VCPU) {
        return MIN(policy->min_vcpus, top);
    }
    return MIN(grid_up(policy, (double)policy->min_mem_bytes), top);
}

double fore_target_capacity(const ForePolicy *policy, ForeResource resource, double target)
{
    double share = CLAMP(policy->utilisation[resource], 0.01, 1);
    double want = target / share;

    want = resource == FORE_RES_VCPU ? ceil(want - VCPU_SLACK) : grid_up(policy, want);
    return CLAMP(want, fore_target_floor(policy, resource), fore_target_ceiling(policy, resource));
}

unsigned fore_target_vcpus(const ForePolicy *policy, double target)
{
    return (unsigned)fore_target_capacity(policy, FORE_RES_VCPU, target);
}

uint64_t fore_target_mem(const ForePolicy *policy, double target)
{
    return (uint64_t)fore_target_capacity(policy, FORE_RES_MEM, target);
}
