/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Does it help a forecast to know what the guest executes?  The same recording of real programs
 * (tests/data/README.md) is forecast with more and less of its fields.
 *
 * How it works.  The recording is cut into thirds; each is forecast by a model that was trained on
 * the other two, so every job is judged once.  That is done for each set of fields and each seed.
 * A set's error is compared with that of usage alone, same seed; the spread is over seeds, and is
 * what chance in training does.  Chance in which jobs were recorded is not in it.
 *
 * Sets without a way into the product show what there would be to win: eight principal components
 * of the signature (learned on the training part) instead of its three foldings, and the kind of
 * job itself, which no profiler could tell better.  They go in by fields that this recording
 * leaves free or that are not used beside.
 *
 *   tools/bench ablation [-- [FILE.csv.gz] [SEEDS]]
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "forecast/fore-baseline.h"
#include "forecast/fore-features.h"
#include "forecast/fore-forecaster.h"
#include "forecast/fore-score.h"
#include "tests/lib/fore-test-corpus.h"

#define FOLDS        3
#define MAX_SEEDS    16
#define SEEDS        7
#define N_COMPONENT  8
#define ITERATIONS   300 /* of the power method; the spectrum of this recording is well apart */
#define BEFORE_S     12  /* seconds before a parallel part that are judged by themselves */
#define ALARM_VCPUS  2.5 /* above a preparation (2 at most), below a parallel part (2.8 on) */
#define ALARM_H      3   /* index of the horizon of 5 steps */
#define FIRST_JUDGED 1   /* second of a part from which on alarms count: 0 straddles its start */

typedef enum { SET_USAGE, SET_COUNTERS, SET_ALL, SET_FOLDS, SET_COMPONENTS, SET_TOLD, N_SETS } Set;
static const char *const set_names[N_SETS] = {"usage",       "counters",    "all",
                                              "signature-3", "signature-8", "told"};

#define BIT(f)    (1u << FORE_FIELD_##f)
#define USAGE     (BIT(CPU_BUSY) | BIT(ONLINE_VCPUS) | BIT(DEMAND_VCPU))
#define COUNTERS  (BIT(INSNS) | BIT(LOADS) | BIT(STORES) | BIT(SYSCALLS))
#define SIGNATURE (BIT(SIGNATURE_A) | BIT(SIGNATURE_B) | BIT(SIGNATURE_C))
#define DEEP                                                                                       \
    (BIT(MIX_SIMD) | BIT(MIX_STRING) | BIT(SYSCALL_FILE) | BIT(SYSCALL_NET) |                      \
     BIT(SPACE_SWITCHES) | BIT(SPACE_TOP) | BIT(WORKING_SET) | SIGNATURE)
static const uint32_t set_fields[N_SETS] = {
    USAGE, USAGE | COUNTERS, USAGE | COUNTERS | DEEP, USAGE | SIGNATURE, USAGE, USAGE};
/* Fields that take any number from 0 to 1. */
static const ForeField free_fields[N_COMPONENT] = {
    FORE_FIELD_MIX_SIMD,  FORE_FIELD_MIX_STRING,  FORE_FIELD_SYSCALL_FILE, FORE_FIELD_SYSCALL_NET,
    FORE_FIELD_SPACE_TOP, FORE_FIELD_SIGNATURE_A, FORE_FIELD_SIGNATURE_B,  FORE_FIELD_SIGNATURE_C};
static const char *const kinds[] = {"compression", "database", "compiler",
                                    "batch",       "web",      "report"};

/* Which seconds a score is of. */
typedef enum { WHEN_ALWAYS, WHEN_BEFORE, WHEN_PREPARING, N_WHEN } When;
static const char *const when_names[N_WHEN] = {"", "-before-run", "-preparing"};

typedef struct {
    ForeScore score[FORE_KIND_N][N_WHEN];
    unsigned runs, announced;      /* parallel parts; those with an alarm in their preparation */
    unsigned report_s, false_s;    /* seconds of reports; those with an alarm */
    unsigned prepare_s, prepare_a; /* seconds of preparations; those with an alarm */
} Result;

typedef double Components[N_COMPONENT][FORE_TEST_SIGNATURE];

typedef struct {
    const ForeTestCorpus *corpus;
    unsigned from, to; /* the part that is forecast */
} Fold;

static bool in_training(const Fold *fold, unsigned t)
{
    return t < fold->from || t >= fold->to;
}

static void covariance(const Fold *fold, double c[][FORE_TEST_SIGNATURE], double *mean)
{
    double n = 0.0;

    memset(c, 0, FORE_TEST_SIGNATURE * sizeof(c[0]));
    memset(mean, 0, FORE_TEST_SIGNATURE * sizeof(mean[0]));
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned t = 0; t < fold->corpus->n; t++) {
            const double *s = fold->corpus->seconds[t].signature;

            if (!in_training(fold, t)) {
                continue;
            }
            n += pass == 0 ? 1.0 : 0.0;
            for (unsigned i = 0; i < FORE_TEST_SIGNATURE; i++) {
                mean[i] += pass == 0 ? s[i] : 0.0;
                for (unsigned j = 0; pass == 1 && j < FORE_TEST_SIGNATURE; j++) {
                    c[i][j] += (s[i] - mean[i]) * (s[j] - mean[j]);
                }
            }
        }
        for (unsigned i = 0; pass == 0 && i < FORE_TEST_SIGNATURE; i++) {
            mean[i] /= n;
        }
    }
}

/* The directions in which signatures differ most: power iteration, each found is taken out. */
static void principal(const Fold *fold, Components ret, double *ret_mean)
{
    double c[FORE_TEST_SIGNATURE][FORE_TEST_SIGNATURE];

    covariance(fold, c, ret_mean);
    for (unsigned k = 0; k < N_COMPONENT; k++) {
        double *v = ret[k], size = 0.0;

        for (unsigned i = 0; i < FORE_TEST_SIGNATURE; i++) {
            v[i] = 1.0 + (double)(i * (k + 7) % 13); /* in no direction of its own */
        }
        for (unsigned turn = 0; turn < ITERATIONS; turn++) {
            double next[FORE_TEST_SIGNATURE] = {0};

            size = 0.0;
            for (unsigned i = 0; i < FORE_TEST_SIGNATURE; i++) {
                for (unsigned j = 0; j < FORE_TEST_SIGNATURE; j++) {
                    next[i] += c[i][j] * v[j];
                }
                size += next[i] * next[i];
            }
            size = sqrt(size);
            for (unsigned i = 0; i < FORE_TEST_SIGNATURE; i++) {
                v[i] = size > 0.0 ? next[i] / size : 0.0;
            }
        }
        for (unsigned i = 0; i < FORE_TEST_SIGNATURE; i++) {
            for (unsigned j = 0; j < FORE_TEST_SIGNATURE; j++) {
                c[i][j] -= size * v[i] * v[j];
            }
        }
    }
}

static void put(ForeSample *sample, ForeField field, double value)
{
    sample->value[field] = value;
    sample->valid |= 1u << field;
}

static void put_components(const double *share, Components v, const double *mean, ForeSample *s)
{
    for (unsigned k = 0; k < N_COMPONENT; k++) {
        double sum = 0.0;

        for (unsigned i = 0; i < FORE_TEST_SIGNATURE; i++) {
            sum += v[k][i] * (share[i] - mean[i]);
        }
        /* shares lie at most sqrt(2) apart, so this is within 0..1 */
        put(s, free_fields[k], 0.5 + 0.35 * sum);
    }
}

static void put_told(const ForeTestSecond *second, ForeSample *s)
{
    for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++) {
        put(s, free_fields[k], g_strcmp0(second->kind, kinds[k]) == 0 ? 1.0 : 0.0);
    }
}

/* The recording as a forecaster sees it that has the fields of @set. */
static ForeSample *samples_of(const Fold *fold, Set set)
{
    const ForeTestCorpus *corpus = fold->corpus;
    ForeSample *samples = g_memdup2(corpus->samples, corpus->n * sizeof(ForeSample));
    Components components;
    double mean[FORE_TEST_SIGNATURE];

    if (set == SET_COMPONENTS) {
        principal(fold, components, mean);
    }
    for (unsigned t = 0; t < corpus->n; t++) {
        samples[t].valid &= set_fields[set];
        if (set == SET_COMPONENTS) {
            put_components(corpus->seconds[t].signature, components, mean, &samples[t]);
        } else if (set == SET_TOLD) {
            put_told(&corpus->seconds[t], &samples[t]);
        }
    }
    return samples;
}

static bool starts(const ForeTestCorpus *corpus, unsigned t, ForeTestPart part)
{
    return t > 0 && t < corpus->n && corpus->seconds[t].part == part &&
           corpus->seconds[t - 1].part != part;
}

static void find_when(const ForeTestCorpus *corpus, unsigned t, bool ret[N_WHEN])
{
    ret[WHEN_ALWAYS] = true;
    ret[WHEN_PREPARING] = corpus->seconds[t].part == FORE_TEST_PART_PREPARE;
    ret[WHEN_BEFORE] = false;
    for (unsigned k = 1; k <= BEFORE_S; k++) {
        ret[WHEN_BEFORE] |= starts(corpus, t + k, FORE_TEST_PART_RUN);
    }
}

static double truth_of(const ForeTestCorpus *corpus, unsigned t, ForeKind kind, unsigned h)
{
    double most = 0.0;

    for (unsigned k = 1; k <= fore_horizons[h]; k++) {
        double v = corpus->samples[t + k].value[FORE_FIELD_DEMAND_VCPU];

        most = kind == FORE_KIND_PEAK || k == fore_horizons[h] ? MAX(most, v) : most;
    }
    return most;
}

/* The quantiles issued at @t against what came, as far as it came within the part. */
static void score_second(const Fold *fold, unsigned t, double q[][FORE_N_QUANTILE], Result *result)
{
    bool when[N_WHEN];

    find_when(fold->corpus, t, when);
    for (unsigned i = 0; i < FORE_KIND_N * FORE_N_HORIZON; i++) {
        ForeKind kind = (ForeKind)(i / FORE_N_HORIZON);
        unsigned h = i % FORE_N_HORIZON;

        if (t + fore_horizons[h] >= fold->to) {
            continue;
        }
        for (unsigned w = 0; w < N_WHEN; w++) {
            if (when[w]) {
                fore_score_add(&result->score[kind][w], q[FORE_GROUP(FORE_RES_VCPU, kind, h)],
                               truth_of(fold->corpus, t, kind, h));
            }
        }
    }
}

/* Is capacity for a parallel part asked for by the P90 of the peak, while it is not used yet? */
static void judge_alarms(const Fold *fold, const bool *alarm, Result *result)
{
    const ForeTestCorpus *corpus = fold->corpus;
    bool announced = false;
    unsigned age = 0;

    for (unsigned t = fold->from; t < fold->to; t++) {
        const ForeTestSecond *second = &corpus->seconds[t];
        double demand = corpus->samples[t].value[FORE_FIELD_DEMAND_VCPU];
        bool report = g_strcmp0(second->kind, "report") == 0;

        age = t > fold->from && second->part == corpus->seconds[t - 1].part ? age + 1 : 0;
        if (starts(corpus, t, FORE_TEST_PART_RUN) && t > fold->from) {
            result->runs++;
            result->announced += announced ? 1 : 0;
        }
        if (second->part != FORE_TEST_PART_PREPARE) {
            announced = false;
            continue;
        }
        announced |= alarm[t] && demand < ALARM_VCPUS;
        if (age < FIRST_JUDGED) {
            continue;
        }
        result->report_s += report ? 1 : 0;
        result->false_s += report && alarm[t] ? 1 : 0;
        result->prepare_s += report ? 0 : 1;
        result->prepare_a += !report && alarm[t] ? 1 : 0;
    }
}

static ForeModel *train(const Fold *fold, const ForeSample *samples, uint64_t seed)
{
    ForeTrainConfig config = {.seed = seed};
    ForeWindow windows[2];
    size_t n = 0;
    g_autoptr(GError) error = NULL;
    ForeModel *model;

    if (fold->from > 0) {
        windows[n++] = (ForeWindow){samples, fold->from, FORE_NS_PER_S};
    }
    if (fold->to < fold->corpus->n) {
        windows[n++] = (ForeWindow){samples + fold->to, fold->corpus->n - fold->to, FORE_NS_PER_S};
    }
    model = fore_model_train(windows, n, &config, NULL, NULL, &error);
    if (model == NULL) {
        fprintf(stderr, "bench-ablation: %s\n", error->message);
        exit(1);
    }
    return model;
}

static void run_fold(const Fold *fold, Set set, uint64_t seed, Result *result)
{
    g_autofree ForeSample *samples = samples_of(fold, set);
    g_autoptr(ForeModel) model = train(fold, samples, seed);
    g_autoptr(ForeForecaster) fc = fore_forecaster_new(model, FORE_NS_PER_S);
    g_autofree bool *alarm = g_new0(bool, fold->corpus->n);

    for (unsigned t = fold->from; t < fold->to; t++) {
        double q[FORE_N_GROUP][FORE_N_QUANTILE];
        ForeForecast f;

        fore_forecaster_step(fc, &samples[t], &f);
        g_assert_true(f.valid);
        memcpy(q[FORE_GROUP(FORE_RES_VCPU, FORE_KIND_POINT, 0)], f.point[FORE_RES_VCPU],
               sizeof(f.point[0]));
        memcpy(q[FORE_GROUP(FORE_RES_VCPU, FORE_KIND_PEAK, 0)], f.peak[FORE_RES_VCPU],
               sizeof(f.peak[0]));
        score_second(fold, t, q, result);
        alarm[t] = f.peak[FORE_RES_VCPU][ALARM_H][FORE_Q90] >= ALARM_VCPUS;
    }
    judge_alarms(fold, alarm, result);
}

static void run_last_value(const Fold *fold, Result *result)
{
    g_autoptr(ForeBaseline) base = fore_baseline_new(0);

    for (unsigned t = fold->from; t < fold->to; t++) {
        double q[FORE_N_GROUP][FORE_N_QUANTILE], demand[FORE_RES_N];

        fore_features_demand(&fold->corpus->samples[t], demand);
        if (fore_baseline_step(base, demand, q)) {
            score_second(fold, t, q, result);
        }
    }
}

typedef double (*Measure)(const Result *result, unsigned arg);

static double wql(const Result *r, unsigned arg)
{
    return fore_score_wql(&r->score[arg / N_WHEN][arg % N_WHEN]);
}

static double coverage(const Result *r, unsigned kind)
{
    return fore_score_coverage95(&r->score[kind][WHEN_ALWAYS]);
}

static double announced(const Result *r, unsigned unused)
{
    return (double)r->announced / r->runs;
}

static double alarmed(const Result *r, unsigned unused)
{
    return (double)r->prepare_a / r->prepare_s;
}

static double false_alarms(const Result *r, unsigned unused)
{
    return (double)r->false_s / r->report_s;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(double *v, unsigned n)
{
    qsort(v, n, sizeof(*v), by_value);
    return n % 2 == 1 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

/* Each seed of ours beside the same seed of the anchor. */
static void print_row(const char *what, const char *unit, const Result *ours, const Result *anchor,
                      unsigned n, Measure measure, unsigned arg)
{
    double a[MAX_SEEDS] = {0}, b[MAX_SEEDS] = {0}, ratio[MAX_SEEDS] = {0}, middle;
    static bool later;

    for (unsigned i = 0; i < n; i++) {
        a[i] = measure(&ours[i], arg);
        b[i] = measure(&anchor[i], arg);
        ratio[i] = a[i] / MAX(b[i], 1e-9);
    }
    middle = median(ratio, n);
    printf("%s\n  {\"what\": \"%s\", \"unit\": \"%s\", \"ours\": %.4g, \"anchor\": %.4g, "
           "\"ratio\": %.4g, \"spread\": %.3g}",
           later ? "," : "", what, unit, median(a, n), median(b, n), middle,
           (ratio[n - 1] - ratio[0]) / (middle > 0.01 ? middle : 1.0));
    later = true;
}

static void print_set(const char *name, const Result *ours, const Result *anchor, unsigned n)
{
    static const char *const kind_names[FORE_KIND_N] = {"point", "peak"};
    static const struct {
        const char *name, *unit;
        Measure measure;
    } shares[] = {
        {"announced", "share of parallel parts", announced},
        {"alarm-in-preparation", "share of seconds", alarmed},
        {"alarm-in-report", "share of seconds, false", false_alarms},
    };

    for (unsigned i = 0; i < FORE_KIND_N * N_WHEN; i++) {
        g_autofree char *what =
            g_strdup_printf("%s: %s%s", name, kind_names[i / N_WHEN], when_names[i % N_WHEN]);

        print_row(what, "wQL", ours, anchor, n, wql, i);
    }
    for (unsigned k = 0; k < FORE_KIND_N; k++) {
        g_autofree char *what = g_strdup_printf("%s: coverage-p95-%s", name, kind_names[k]);

        print_row(what, "share, wanted 0.95", ours, anchor, n, coverage, k);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(shares) && ours->runs > 0; i++) {
        g_autofree char *what = g_strdup_printf("%s: %s", name, shares[i].name);

        print_row(what, shares[i].unit, ours, anchor, n, shares[i].measure, 0);
    }
}

int main(int argc, char **argv)
{
    static Result results[N_SETS][MAX_SEEDS], last[MAX_SEEDS];
    const char *path = argc > 1 ? argv[1] : FORE_TEST_CORPUS;
    unsigned seeds = argc > 2 ? (unsigned)CLAMP(strtol(argv[2], NULL, 10), 1, MAX_SEEDS) : SEEDS;
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeTestCorpus) corpus = fore_test_corpus_new(path, &error);

    if (corpus == NULL) {
        fprintf(stderr, "bench-ablation: %s\n", error->message);
        return 1;
    }
    for (unsigned i = 0; i < seeds; i++) {
        for (unsigned f = 0; f < FOLDS; f++) {
            Fold fold = {corpus, corpus->n * f / FOLDS, corpus->n * (f + 1) / FOLDS};

            for (unsigned set = 0; set < N_SETS; set++) {
                run_fold(&fold, (Set)set, i + 1, &results[set][i]);
            }
            run_last_value(&fold, &last[i]);
            fprintf(stderr, "bench-ablation: seed %u of %u, part %u of %u\n", i + 1, seeds, f + 1,
                    FOLDS);
        }
    }
    printf("{\"name\": \"ablation\", \"rows\": [");
    print_set("last-value", last, results[SET_USAGE], seeds);
    for (unsigned set = 0; set < N_SETS; set++) {
        print_set(set_names[set], results[set], results[SET_USAGE], seeds);
    }
    printf("\n]}\n");
    return 0;
}
