/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What judging one sample costs: the detector of many views, the regression on the execution
 * pattern and the whole watch of a VM, against the exponentially weighted mean in the same round.
 * Prints JSON; see tools/bench.
 */
#include <glib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "profile/fore-anomaly.h"
#include "profile/fore-detect.h"
#include "profile/fore-pattern.h"
#include "profile/fore-watch.h"

#define ROUNDS  7
#define SAMPLES 20000
#define STEP_S  300.0

static double values[SAMPLES];
static volatile double sink; /* keeps what is timed from being left out */

static double cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double run_ewma(void)
{
    const ForeAnomalyConfig config = {600, 3, 120, 0.25};
    ForeAnomaly a;
    double start;

    fore_anomaly_init(&a, &config);
    start = cpu_ns();
    for (unsigned i = 0; i < SAMPLES; i++) {
        sink = fore_anomaly_score(&a, values[i]);
    }
    return (cpu_ns() - start) / SAMPLES;
}

static double run_detect(void)
{
    g_autoptr(ForeDetect) d = fore_detect_new();
    double start = cpu_ns();

    for (unsigned i = 0; i < SAMPLES; i++) {
        sink = fore_detect_score(d, i * STEP_S, values[i]);
    }
    return (cpu_ns() - start) / SAMPLES;
}

static double run_pattern(void)
{
    g_autoptr(ForePattern) p = fore_pattern_new();
    double start = cpu_ns();

    for (unsigned i = 0; i < SAMPLES; i++) {
        const double v = values[i];
        const double in[FORE_PATTERN_N] = {
            v, v * 1e6, v * 8e6, v * 2e9, v * 6.1e8, v * 2.7e8, v * (900 + i % 100)};
        sink = fore_pattern_score(p, in);
    }
    return (cpu_ns() - start) / SAMPLES;
}

static void on_episode(ForeWatchEpisode *episode, gpointer data)
{
    unsigned *n = data;

    (*n)++;
}

static double run_watch(void)
{
    static const ForeField fields[] = {FORE_FIELD_DEMAND_VCPU, FORE_FIELD_DEMAND_MEM,
                                       FORE_FIELD_SYSCALLS,    FORE_FIELD_INSNS,
                                       FORE_FIELD_LOADS,       FORE_FIELD_STORES};
    g_autoptr(ForeWatch) w = fore_watch_new();
    unsigned episodes = 0;
    double start = cpu_ns();

    for (unsigned i = 0; i < SAMPLES; i++) {
        ForeSample s = {.mono_ns = (uint64_t)i * 1000000000, .wall_ms = (int64_t)i * 1000};
        for (unsigned f = 0; f < G_N_ELEMENTS(fields); f++) {
            s.value[fields[f]] = values[i] * (1 + f);
            s.valid |= 1u << fields[f];
        }
        fore_watch_step(w, &s, NULL, on_episode, &episodes);
    }
    return (cpu_ns() - start) / SAMPLES;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(const double *list)
{
    double sorted[ROUNDS];

    for (unsigned i = 0; i < ROUNDS; i++) {
        sorted[i] = list[i];
    }
    qsort(sorted, ROUNDS, sizeof sorted[0], by_value);
    return sorted[ROUNDS / 2];
}

static void bench(const char *what, double (*run)(void), const char *before)
{
    double ours[ROUNDS], anchor[ROUNDS], ratio[ROUNDS], low = INFINITY, high = 0;

    for (unsigned i = 0; i < ROUNDS; i++) {
        ours[i] = run();
        anchor[i] = run_ewma();
        ratio[i] = ours[i] / anchor[i];
        low = fmin(low, ratio[i]);
        high = fmax(high, ratio[i]);
    }
    printf("%s\n  {\"what\": \"%s\", \"ours\": %.6g, \"anchor\": %.6g, \"ratio\": %.6g, "
           "\"spread\": %.6g, \"unit\": \"ns a sample\"}",
           before, what, median(ours), median(anchor), median(ratio), (high - low) / median(ratio));
}

int main(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);

    for (unsigned i = 0; i < SAMPLES; i++) {
        values[i] = 3 + sin(i * 2 * G_PI / 288) + g_rand_double_range(rand, -0.5, 0.5);
    }
    printf("{\"name\": \"anomaly\", \"rows\": [");
    bench("detect-vs-ewma", run_detect, "");
    bench("pattern-vs-ewma", run_pattern, ",");
    bench("watch-of-a-vm-vs-ewma", run_watch, ",");
    printf(",\n  {\"what\": \"bytes-a-series\", \"ours\": %zu, \"anchor\": %zu, \"ratio\": %.6g, "
           "\"spread\": 0, \"unit\": \"bytes\"}\n]}\n",
           fore_detect_bytes(), sizeof(ForeAnomaly),
           (double)fore_detect_bytes() / sizeof(ForeAnomaly));
    return 0;
}
