/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The forecaster: speed beside PyTorch on one thread where /usr/bin/python3 can import it (else
 * those rows are left out, and stderr says so), and accuracy beside last value and seasonal naive
 * on the synthetic bursts of tests/lib.  Prints JSON; see tools/bench.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "forecast/fore-adam.h"
#include "forecast/fore-baseline.h"
#include "forecast/fore-model.h"
#include "tests/lib/synthetic-bursts.h"

#define ROUNDS   7
#define SEEDS    7
#define HIDDEN   64
#define BATCH    256
#define CONTEXT  72
#define RECORD_S 200
#define LIVE_S   900
#define SEASON   26 /* steps: the mean length of a cycle of the synthetic process */

/*
 * The same in PyTorch: LSTM, linear head, pinball loss on non-crossing quantiles, Adam with
 * clipping; once with a loss at the last step of the context only, as learned forecasters are
 * mostly trained there, and once at every step, as ours is.  Inference runs the context again,
 * since nothing carries the state from call to call.
 */
enum { TORCH_TRAIN_LAST, TORCH_TRAIN, TORCH_INFER_1, TORCH_INFER_MANY, N_TORCH };
static const char torch_script[] =
    "import sys, time\n"
    "import torch\n"
    "torch.set_num_threads(1)\n"
    "n_in, hidden, batch, context, groups, rounds = map(int, sys.argv[1:])\n"
    "tau = torch.tensor([.05, .5, .75, .9, .95])\n"
    "lstm = torch.nn.LSTM(n_in, hidden)\n"
    "head = torch.nn.Linear(hidden, groups * 5)\n"
    "params = list(lstm.parameters()) + list(head.parameters())\n"
    "adam = torch.optim.Adam(params, 1e-3)\n"
    "x = torch.randn(context, batch, n_in)\n"
    "y = torch.rand(context, batch, groups, 1)\n"
    "def quantiles(x, last):\n"
    "    h = lstm(x)[0]\n"
    "    z = head(h[-1:] if last else h).view(-1, x.shape[1], groups, 5)\n"
    "    up = torch.nn.functional.softplus(z[..., 1:])\n"
    "    return torch.cat([z[..., :1], up], -1).cumsum(-1)\n"
    "def train(last):\n"
    "    adam.zero_grad()\n"
    "    e = (y[-1:] if last else y) - quantiles(x, last)\n"
    "    torch.maximum(tau * e, (tau - 1) * e).mean().backward()\n"
    "    torch.nn.utils.clip_grad_norm_(params, 1.0)\n"
    "    adam.step()\n"
    "one, many = torch.randn(context, 1, n_in), torch.randn(context, 1024, n_in)\n"
    "def infer(x):\n"
    "    with torch.no_grad():\n"
    "        quantiles(x, True)\n"
    "def timed(n, f, a):\n"
    "    t = time.process_time()\n"
    "    for _ in range(n): f(a)\n"
    "    return (time.process_time() - t) / n\n"
    "for n, f, a in ((1, train, True), (1, train, False), (20, infer, one), (1, infer, many)):\n"
    "    timed(2, f, a)\n"
    "    print(*(timed(n, f, a) for _ in range(rounds)))\n";

typedef struct {
    double median, spread; /* spread: (most - least) / median */
} Summary;

static double cpu_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static Summary summarise(double *v, unsigned n)
{
    Summary s;

    qsort(v, n, sizeof(*v), by_value);
    s.median = n % 2 == 1 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
    s.spread = s.median > 0.0 ? (v[n - 1] - v[0]) / s.median : 0.0;
    return s;
}

static bool first_row = true;

static void print_row(const char *what, const char *unit, Summary ours, double anchor)
{
    printf("%s\n  {\"what\": \"%s\", \"unit\": \"%s\", \"ours\": %.4g, \"anchor\": %.4g, "
           "\"ratio\": %.4g, \"spread\": %.3g}",
           first_row ? "" : ",", what, unit, ours.median, anchor, ours.median / anchor,
           ours.spread);
    first_row = false;
}

/* --- speed --- */

/* @all: a loss at every step of the context; else at its last step only */
static Summary time_training_step(bool all)
{
    unsigned first = all ? 0 : CONTEXT - 1;
    size_t from = (size_t)first * BATCH * FORE_N_GROUP;
    ForeLstmShape shape = fore_model_shape(HIDDEN);
    size_t n = fore_lstm_layout(&shape).n, rows = (size_t)CONTEXT * BATCH;
    g_autoptr(ForeLstmTape) tape = fore_lstm_tape_new(&shape, CONTEXT, BATCH);
    g_autoptr(ForeAdam) adam = fore_adam_new(n);
    g_autofree ForeReal *params = g_new0(ForeReal, n), *grad = g_new0(ForeReal, n);
    g_autofree ForeReal *dy = g_new0(ForeReal, rows * shape.n_out);
    g_autofree ForeReal *target = g_new0(ForeReal, rows * FORE_N_GROUP);
    g_autofree ForeReal *weight = g_new0(ForeReal, rows * FORE_N_GROUP);
    ForeRandom rng = {.state = 1};
    double took[ROUNDS + 1];

    fore_lstm_init(&shape, &rng, params);
    for (size_t i = 0; i < rows * shape.n_in; i++) {
        tape->x[i] = (ForeReal)fore_random_normal(&rng);
    }
    for (size_t i = 0; i < rows * FORE_N_GROUP; i++) {
        target[i] = (ForeReal)fore_random_unit(&rng);
        weight[i] = 1;
    }
    for (unsigned r = 0; r < ROUNDS + 1; r++) {
        double start = cpu_s();

        fore_lstm_forward_from(tape, params, CONTEXT, first);
        (void)fore_quantile_loss(tape->y + from * FORE_N_QUANTILE, target + from, weight + from,
                                 rows * FORE_N_GROUP - from,
                                 1.0 / (double)(rows * FORE_N_GROUP - from),
                                 dy + from * FORE_N_QUANTILE);
        memset(grad, 0, n * sizeof(ForeReal));
        fore_lstm_backward_from(tape, params, CONTEXT, first, dy, grad);
        g_assert_true(fore_adam_step(adam, params, grad, 1e-3));
        took[r] = cpu_s() - start;
    }
    return summarise(took + 1, ROUNDS);
}

/* A whole step of one VM: features, network, quantiles, scoring, calibration, baseline. */
static Summary time_inference(unsigned hidden)
{
    const unsigned n = 2000;
    SyntheticConfig process = {.seed = 9, .n = n};
    g_autoptr(Synthetic) s = synthetic_new(&process);
    ForeWindow window = {.samples = s->samples, .n = 200, .step_ns = FORE_NS_PER_S};
    ForeTrainConfig config = {.hidden = hidden, .max_epochs = 2, .seed = 1};
    g_autoptr(ForeModel) model = fore_model_train(&window, 1, &config, NULL, NULL, NULL);
    g_autoptr(ForeForecaster) fc = fore_forecaster_new(model, FORE_NS_PER_S);
    double took[ROUNDS];

    for (unsigned r = 0; r < ROUNDS; r++) {
        double start = cpu_s();

        for (unsigned t = 0; t < n; t++) {
            ForeForecast forecast;

            fore_forecaster_step(fc, &s->samples[t], &forecast);
        }
        took[r] = (cpu_s() - start) / n;
    }
    return summarise(took, ROUNDS);
}

/* @n VMs at once, every one a whole step: us a VM. */
static Summary time_many(unsigned hidden, unsigned n)
{
    const unsigned steps = MAX(16, 2048 / n);
    SyntheticConfig process = {.seed = 9, .n = 2000};
    g_autoptr(Synthetic) s = synthetic_new(&process);
    ForeWindow window = {.samples = s->samples, .n = 200, .step_ns = FORE_NS_PER_S};
    ForeTrainConfig config = {.hidden = hidden, .max_epochs = 2, .seed = 1};
    g_autoptr(ForeModel) model = fore_model_train(&window, 1, &config, NULL, NULL, NULL);
    g_autoptr(GPtrArray) fc = g_ptr_array_new_with_free_func((GDestroyNotify)fore_forecaster_free);
    g_autofree const ForeSample **samples = g_new(const ForeSample *, n);
    g_autofree ForeForecast *forecasts = g_new(ForeForecast, n);
    g_autofree ForeForecast **ret = g_new(ForeForecast *, n);
    double took[ROUNDS + 1]; /* the first round is let go */

    for (unsigned i = 0; i < n; i++) {
        g_ptr_array_add(fc, fore_forecaster_new(model, FORE_NS_PER_S));
        ret[i] = &forecasts[i];
    }
    for (unsigned r = 0; r < ROUNDS + 1; r++) {
        double start = cpu_s();

        for (unsigned t = 0; t < steps; t++) {
            for (unsigned i = 0; i < n; i++) {
                samples[i] = &s->samples[(r * steps + t + 17 * i) % s->n];
            }
            fore_forecaster_step_many((ForeForecaster *const *)fc->pdata, samples, ret, n);
        }
        took[r] = (cpu_s() - start) / steps / n;
    }
    return summarise(took + 1, ROUNDS);
}

/* The network and its quantiles alone, which is what PyTorch does: us a series. */
static Summary time_network(unsigned n)
{
    const unsigned steps = MAX(16, 20000 / n);
    ForeLstmShape shape = fore_model_shape(HIDDEN);
    g_autofree ForeReal *params = g_new0(ForeReal, fore_lstm_layout(&shape).n);
    g_autofree ForeReal *x = g_new0(ForeReal, (size_t)n * shape.n_in);
    g_autofree ForeReal *h = g_new0(ForeReal, (size_t)n * HIDDEN);
    g_autofree ForeReal *c = g_new0(ForeReal, (size_t)n * HIDDEN);
    g_autofree ForeReal *scratch = g_new0(ForeReal, (size_t)n * 5 * HIDDEN);
    g_autofree ForeReal *y = g_new0(ForeReal, (size_t)n * shape.n_out);
    ForeRandom rng = {.state = 1};
    double took[ROUNDS];

    fore_lstm_init(&shape, &rng, params);
    for (size_t i = 0; i < (size_t)n * shape.n_in; i++) {
        x[i] = (ForeReal)fore_random_normal(&rng);
    }
    for (unsigned r = 0; r < ROUNDS; r++) {
        double start = cpu_s();

        for (unsigned t = 0; t < steps; t++) {
            fore_lstm_step_batch(&shape, params, n, x, h, c, scratch, y);
            fore_quantile_from_raw(y, (size_t)n * FORE_N_GROUP, y);
        }
        took[r] = (cpu_s() - start) / steps / n;
    }
    return summarise(took, ROUNDS);
}

/* PyTorch's times, or false when it is not there; ret: seconds, see the end of the script. */
static bool torch_times(double ret[N_TORCH])
{
    g_autofree char *in = g_strdup_printf("%u", FORE_FEATURE_N_IN);
    g_autofree char *groups = g_strdup_printf("%u", FORE_N_GROUP);
    const char *argv[] = {"/usr/bin/python3",   "-c",
                          torch_script,         in,
                          G_STRINGIFY(HIDDEN),  G_STRINGIFY(BATCH),
                          G_STRINGIFY(CONTEXT), groups,
                          G_STRINGIFY(ROUNDS),  NULL};
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;
    g_auto(GStrv) lines = NULL;
    double took[ROUNDS];
    int status = 1;

    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &out, &err, &status,
                      NULL) ||
        status != 0) {
        fprintf(stderr,
                "bench-forecast: no PyTorch for /usr/bin/python3 (python3-torch): the rows beside "
                "it have no anchor\n");
        return false;
    }
    lines = g_strsplit(out, "\n", N_TORCH + 1);
    for (unsigned i = 0; i < N_TORCH; i++) {
        g_auto(GStrv) cells = g_strsplit(lines[i] != NULL ? lines[i] : "", " ", ROUNDS);

        if (g_strv_length(cells) != ROUNDS) {
            fprintf(stderr, "bench-forecast: PyTorch printed '%s'\n", out);
            return false;
        }
        for (unsigned r = 0; r < ROUNDS; r++) {
            took[r] = g_ascii_strtod(cells[r], NULL);
        }
        ret[i] = summarise(took, ROUNDS).median;
    }
    return true;
}

static Summary scaled(Summary s, double by)
{
    s.median *= by;
    return s;
}

/* Rows whose anchor is PyTorch's; none of them without it. */
static void bench_speed(void)
{
    double torch[N_TORCH] = {0.0}, one, many;

    if (!torch_times(torch)) {
        return;
    }
    one = 1e6 * torch[TORCH_INFER_1];
    many = 1e6 * torch[TORCH_INFER_MANY] / 1024.0;
    print_row("train-step", "ms CPU", scaled(time_training_step(false), 1e3),
              1e3 * torch[TORCH_TRAIN_LAST]);
    print_row("train-step-all-outputs", "ms CPU", scaled(time_training_step(true), 1e3),
              1e3 * torch[TORCH_TRAIN]);
    print_row("infer-batch-1", "us CPU", scaled(time_network(1), 1e6), one);
    print_row("infer-batch-1024", "us CPU a series", scaled(time_network(1024), 1e6), many);
    print_row("whole-step-batch-1", "us CPU", scaled(time_inference(HIDDEN), 1e6), one);
    print_row("whole-step-batch-1024", "us CPU a VM", scaled(time_many(HIDDEN, 1024), 1e6), many);
}

/* --- gradients --- */

#define G_STEPS  20
#define G_BATCH  8
#define G_HIDDEN 16

/* The same network and loss in PyTorch in double precision; reads what write_case() wrote. */
static const char gradient_script[] =
    "import sys, torch\n"
    "path, n_in, n_skip, hidden, groups, steps, batch = sys.argv[1], *map(int, sys.argv[2:])\n"
    "v = torch.frombuffer(bytearray(open(path, 'rb').read()), dtype=torch.float32).double()\n"
    "def take(*shape):\n"
    "    global v\n"
    "    n = 1\n"
    "    for k in shape: n *= k\n"
    "    part, v = v[:n].view(*shape).clone(), v[n:]\n"
    "    return part\n"
    "q = groups * 5\n"
    "shapes = [(4 * hidden, n_in), (4 * hidden, hidden), (4 * hidden,), (q, hidden), (q, n_skip),\n"
    "          (q,)]\n"
    "p = [take(*s).requires_grad_() for s in shapes]\n"
    "x, y = take(steps, batch, n_in), take(steps, batch, groups)\n"
    "ours = torch.cat([take(*s).flatten() for s in shapes])\n"
    "lstm = torch.nn.LSTM(n_in, hidden).double()\n"
    "cell = [lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0]\n"
    "with torch.no_grad():\n"
    "    lstm.bias_hh_l0.zero_()\n"
    "    for to, k in zip(cell, p): to.copy_(k)\n"
    "p[:3] = cell\n"
    "h = lstm(x)[0]\n"
    "z = (h @ p[3].T + x[..., :n_skip] @ p[4].T + p[5]).view(steps, batch, groups, 5)\n"
    "f = torch.cat([z[..., :1], torch.nn.functional.softplus(z[..., 1:])], -1).cumsum(-1)\n"
    "tau = torch.tensor([.05, .5, .75, .9, .95], dtype=torch.double)\n"
    "e = y[..., None] - f\n"
    "torch.maximum(tau * e, (tau - 1) * e).sum().backward()\n"
    "want = torch.cat([k.grad.flatten() for k in p])\n"
    "print(((ours - want).abs().max() / want.abs().max()).item())\n";

static void put_reals(GByteArray *out, const ForeReal *v, size_t n)
{
    g_byte_array_append(out, (const guint8 *)v, (guint)(n * sizeof(ForeReal)));
}

/* Parameters, inputs, targets and our gradient, as PyTorch is to read them. */
static GByteArray *gradient_case(const ForeLstmShape *shape)
{
    size_t n = fore_lstm_layout(shape).n, rows = (size_t)G_STEPS * G_BATCH;
    size_t n_groups = rows * FORE_N_GROUP;
    g_autoptr(ForeLstmTape) tape = fore_lstm_tape_new(shape, G_STEPS, G_BATCH);
    g_autofree ForeReal *params = g_new0(ForeReal, n), *grad = g_new0(ForeReal, n);
    g_autofree ForeReal *dy = g_new0(ForeReal, rows * shape->n_out);
    g_autofree ForeReal *target = g_new0(ForeReal, n_groups), *weight = g_new0(ForeReal, n_groups);
    GByteArray *out = g_byte_array_new();
    ForeRandom rng = {.state = 11};

    for (size_t i = 0; i < n; i++) {
        params[i] = (ForeReal)(0.3 * fore_random_normal(&rng));
    }
    for (size_t i = 0; i < rows * shape->n_in; i++) {
        tape->x[i] = (ForeReal)fore_random_normal(&rng);
    }
    for (size_t i = 0; i < n_groups; i++) {
        target[i] = (ForeReal)(3.0 * fore_random_unit(&rng));
        weight[i] = 1;
    }
    fore_lstm_forward(tape, params, G_STEPS);
    (void)fore_quantile_loss(tape->y, target, weight, n_groups, 1.0, dy);
    fore_lstm_backward(tape, params, G_STEPS, dy, grad);
    put_reals(out, params, n);
    put_reals(out, tape->x, rows * shape->n_in);
    put_reals(out, target, n_groups);
    put_reals(out, grad, n);
    return out;
}

/*
 * Largest difference of a gradient from PyTorch's in double precision, over the largest gradient.
 * Sums of 20 * 8 * 120 terms in single precision: a few 1e-6 are its rounding; a wrong term shows
 * as 1e-2.  Above 1e-4 the bench fails.
 */
static void bench_gradient(void)
{
    const ForeLstmShape shape = fore_model_shape(G_HIDDEN);
    g_autoptr(GByteArray) bytes = gradient_case(&shape);
    g_autofree char *dir = g_dir_make_tmp("bench-forecast-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "case", NULL), *out = NULL, *err = NULL;
    g_autofree char *in = g_strdup_printf("%u", shape.n_in);
    g_autofree char *skip = g_strdup_printf("%u", shape.n_skip);
    g_autofree char *groups = g_strdup_printf("%u", FORE_N_GROUP);
    const char *argv[] = {"/usr/bin/python3",
                          "-c",
                          gradient_script,
                          path,
                          in,
                          skip,
                          G_STRINGIFY(G_HIDDEN),
                          groups,
                          G_STRINGIFY(G_STEPS),
                          G_STRINGIFY(G_BATCH),
                          NULL};
    Summary error = {0};
    int status = 1;

    g_assert_true(g_file_set_contents(path, (const char *)bytes->data, bytes->len, NULL));
    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &out, &err, &status,
                      NULL) ||
        status != 0) {
        fprintf(stderr, "bench-forecast: gradients are not compared with PyTorch: %s\n", err);
    } else {
        error.median = g_ascii_strtod(out, NULL);
        print_row("gradient-vs-pytorch", "largest error, share of the largest", error, 1e-4);
        if (!(error.median < 1e-4)) {
            fprintf(stderr, "bench-forecast: a gradient is off by %g\n", error.median);
            exit(1);
        }
    }
    (void)remove(path);
    (void)remove(dir);
}

/* --- accuracy --- */

enum { OURS, LAST_VALUE, SEASONAL, N_RIVALS };

typedef struct {
    ForeScore score[N_RIVALS][FORE_RES_N];
    SyntheticVerdict verdict;
    double train_s;
} Trial;

typedef double Quantiles[FORE_N_GROUP][FORE_N_QUANTILE];

static void score_step(const ForeTruth *truth, unsigned t, Quantiles issued[][FORE_MAX_HORIZON],
                       Trial *trial)
{
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        for (unsigned h = 0; h < FORE_N_HORIZON; h++) {
            double y = fore_truth_get(truth, (ForeResource)r, FORE_KIND_PEAK, h);
            unsigned then = (t + FORE_MAX_HORIZON - fore_horizons[h]) % FORE_MAX_HORIZON;
            unsigned g = FORE_GROUP(r, FORE_KIND_PEAK, h);

            for (unsigned i = 0; i < N_RIVALS && isfinite(y); i++) {
                fore_score_add(&trial->score[i][r], issued[i][then][g], y);
            }
        }
    }
}

static void run_live(ForeModel *model, uint64_t seed, Trial *trial)
{
    SyntheticConfig process = {.seed = seed, .n = LIVE_S, .elastic = true, .ahead_s = 3.0};
    g_autoptr(Synthetic) s = synthetic_new(&process);
    g_autoptr(ForeForecaster) fc = fore_forecaster_new(model, FORE_NS_PER_S);
    g_autoptr(ForeBaseline) last = fore_baseline_new(0), seasonal = fore_baseline_new(SEASON);
    g_autofree double *p95_5 = g_new0(double, LIVE_S), *p95_3 = g_new0(double, LIVE_S);
    static Quantiles issued[N_RIVALS][FORE_MAX_HORIZON];
    ForeTruth truth;

    fore_truth_init(&truth);
    for (unsigned t = 0; t < s->n; t++) {
        unsigned slot = t % FORE_MAX_HORIZON;
        double demand[FORE_RES_N];
        ForeForecast forecast;

        fore_features_demand(&s->samples[t], demand);
        fore_truth_push(&truth, demand);
        score_step(&truth, t, issued, trial);
        fore_forecaster_step(fc, &s->samples[t], &forecast);
        for (unsigned i = 0; i < FORE_RES_N * FORE_N_HORIZON; i++) {
            unsigned r = i / FORE_N_HORIZON, h = i % FORE_N_HORIZON;

            memcpy(issued[OURS][slot][FORE_GROUP(r, FORE_KIND_PEAK, h)], forecast.peak[r][h],
                   sizeof(forecast.peak[r][h]));
        }
        fore_baseline_step(last, demand, issued[LAST_VALUE][slot]);
        fore_baseline_step(seasonal, demand, issued[SEASONAL][slot]);
        p95_3[t] = forecast.peak[FORE_RES_VCPU][2][FORE_Q95];
        p95_5[t] = forecast.peak[FORE_RES_VCPU][3][FORE_Q95];
    }
    synthetic_judge(s, p95_5, p95_3, &trial->verdict);
}

static void run_trial(unsigned seed, Trial *trial)
{
    SyntheticConfig process = {.seed = 1000 * seed, .n = RECORD_S};
    g_autoptr(Synthetic) s = synthetic_new(&process);
    ForeWindow window = {.samples = s->samples, .n = s->n, .step_ns = FORE_NS_PER_S};
    ForeTrainConfig config = {.seed = seed};
    g_autoptr(ForeModel) model = NULL;
    double start = cpu_s();

    memset(trial, 0, sizeof(*trial));
    model = fore_model_train(&window, 1, &config, NULL, NULL, NULL);
    trial->train_s = cpu_s() - start;
    run_live(model, 1000 * seed + 7, trial);
}

static Summary over_trials(const Trial *trials, double (*value)(const Trial *, unsigned),
                           unsigned arg)
{
    double v[SEEDS];

    for (unsigned i = 0; i < SEEDS; i++) {
        v[i] = value(&trials[i], arg);
    }
    return summarise(v, SEEDS);
}

static double wql(const Trial *t, unsigned arg)
{
    return fore_score_wql(&t->score[arg / FORE_RES_N][arg % FORE_RES_N]);
}

static double coverage(const Trial *t, unsigned res)
{
    return fore_score_coverage95(&t->score[OURS][res]);
}

static double seconds(const Trial *t, unsigned unused)
{
    return t->train_s;
}

static double led(const Trial *t, unsigned unused)
{
    return (double)t->verdict.led / t->verdict.bursts;
}

static double lead(const Trial *t, unsigned unused)
{
    double v[SYNTHETIC_MAX_BURST];

    memcpy(v, t->verdict.lead_s, sizeof(v));
    return summarise(v, t->verdict.bursts).median;
}

static double false_alarms(const Trial *t, unsigned unused)
{
    return t->verdict.false_alarms / t->verdict.idle_steps;
}

static void bench_accuracy(void)
{
    static const char *const names[N_RIVALS] = {"", "last-value", "seasonal-naive"};
    static Trial trials[SEEDS];

    for (unsigned i = 0; i < SEEDS; i++) {
        run_trial(i + 1, &trials[i]);
    }
    print_row("train-200-samples", "s CPU, beside the s that they took to record",
              over_trials(trials, seconds, 0), RECORD_S);
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        for (unsigned i = LAST_VALUE; i < N_RIVALS; i++) {
            g_autofree char *what =
                g_strdup_printf("peak-loss-%s-vs-%s", fore_resource_names[r], names[i]);

            print_row(what, "wQL", over_trials(trials, wql, r),
                      over_trials(trials, wql, i * FORE_RES_N + r).median);
        }
        {
            g_autofree char *what = g_strdup_printf("coverage-p95-%s", fore_resource_names[r]);

            print_row(what, "share, beside the share wanted", over_trials(trials, coverage, r),
                      0.95);
        }
    }
    print_row("bursts-announced-2s-ahead", "share, beside all", over_trials(trials, led, 0), 1.0);
    print_row("median-lead", "s, beside the 2 s that a resize needs", over_trials(trials, lead, 0),
              2.0);
    print_row("false-alarms", "share of idle s, beside all", over_trials(trials, false_alarms, 0),
              1.0);
}

int main(void)
{
    printf("{\"name\": \"forecast\", \"rows\": [");
    bench_speed();
    bench_gradient();
    bench_accuracy();
    printf("\n]}\n");
    return 0;
}
