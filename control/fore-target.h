/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * From a forecast and from usage to a capacity: which quantile of which horizon, the reactive rule
 * that it may never fall below, and rounding to what can be plugged.  Pure functions.
 */
#include "control/fore-policy.h"

/** fore_target_usage_is_sane: finite, not negative, not absurd, capacity known */
bool fore_target_usage_is_sane(const ForeUsage *usage);
/** fore_target_forecast_is_sane: the same of every cell, and a step between 1 ms and 1 h */
bool fore_target_forecast_is_sane(const ForeForecast *forecast);

/**
 * fore_target_horizon: index of the smallest horizon that covers @lead_ns after @now_ns
 * Returns: 0..FORE_N_HORIZON - 1; the last one when none covers it (*ret_covered false)
 */
unsigned fore_target_horizon(const ForeForecast *forecast, uint64_t lead_ns, uint64_t now_ns,
                             bool *ret_covered);

/** fore_target_reactive: what demand alone asks for, in demand's unit: grow as demand / utilisation
 *  passes capacity.  The floor of every target ("never worse than reactive"). */
double fore_target_reactive(double demand);

/**
 * fore_target_combine: max(forecast term + max(adjustment, 0), reactive term)
 * @forecast_term, @adjustment: 0 when no forecast is used
 */
double fore_target_combine(double forecast_term, double adjustment, double reactive_term);

/** fore_target_vcpus: ceil(@target / utilisation - 0.05), within min..max */
unsigned fore_target_vcpus(const ForePolicy *policy, double target);
/** fore_target_mem: @target / utilisation rounded up to base + n blocks of FORE_MEM_BLOCK, within
 *  max(min, base)..max */
uint64_t fore_target_mem(const ForePolicy *policy, double target);
/** fore_target_capacity: either of the two as the resource's number */
double fore_target_capacity(const ForePolicy *policy, ForeResource resource, double target);
/** fore_target_floor / _ceiling: lowest and highest total that policy allows, on the grid */
double fore_target_floor(const ForePolicy *policy, ForeResource resource);
double fore_target_ceiling(const ForePolicy *policy, ForeResource resource);
/** fore_target_unit: the smallest step: 1 vCPU, FORE_MEM_BLOCK bytes */
double fore_target_unit(ForeResource resource);
/** fore_target_fit: @total rounded down to the grid of @resource, not below the floor's base */
double fore_target_fit(const ForePolicy *policy, ForeResource resource, double total);
