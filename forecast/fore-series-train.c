/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  One pass over the traces gathers rows (fore-series-set).  Then one job trains the
 * network and one job each forest, on as many threads as asked; each has its own random numbers
 * from the seed, so the outcome is the same on any number of threads.  Network: segments of 48
 * steps from a zero state, Adam on a cosine, average of the weights kept; dropout of opinions
 * (whole numbers of them are missing in the life of a VM too) and of the first hidden layer,
 * without which the short series are learned by heart.
 */
#include "forecast/fore-series-train.h"

#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "forecast/fore-adam.h"
#include "forecast/fore-series-set.h"

#define SEGMENT         48
#define BATCH           192
#define RATE            3e-3
#define DECAY           0.02
#define AVERAGING       0.99
#define DROPOUT         0.15
#define DROPOUT_OPINION 0.15
#define FOREST_ROWS     150000
#define FOREST_LEAVES   31
#define FOREST_MIN_ROWS 100
#define FOREST_RATE     0.08
#define FOREST_SHARE    0.6

/* Rough share of the whole work, for the progress bar. */
#define WORK_GATHER 0.15
#define WORK_NET    0.45

typedef struct {
    const ForeSeriesTrainConfig *config;
    ForeSeriesSet *set;
    ForeSeriesModel *model;
    size_t n_forest_row;
    size_t *forest_row; /* [n_forest_row] rows that the forests learn from */
    GMutex lock;        /* progress, and the two below */
    double done, loss;
    gint stopped;
    guint n_trace;
    ForeBinned *binned[FORE_SERIES_MAX_TARGET]; /* made by the first job that needs it */
    GMutex binned_lock[FORE_SERIES_MAX_TARGET];
    ForeSeriesProgress progress;
    gpointer data;
} Job;

/* Returns: false when the caller wants to stop. */
static bool advance(Job *job, double by, const char *what)
{
    g_mutex_lock(&job->lock);
    job->done += by;
    if (job->progress != NULL && !job->progress(MIN(job->done, 1.0), what, job->loss, job->data)) {
        g_atomic_int_set(&job->stopped, 1);
    }
    g_mutex_unlock(&job->lock);
    return !g_atomic_int_get(&job->stopped);
}

static bool gathered_one(gpointer data)
{
    Job *job = data;

    return advance(job, WORK_GATHER / job->n_trace, "members");
}

/* Fills stream @b of the batch with one segment. */
static void fill_segment(const ForeSeriesSet *set, ForeNetBatch *batch, unsigned b, ForeRandom *rng)
{
    unsigned streams = batch->tape->batch;
    size_t row = fore_series_set_pick(set, rng, SEGMENT);
    const ForeReal unit = (ForeReal)(1.0 / (double)FORE_SERIES_SET_UNIT);
    const ForeReal kept = (ForeReal)(1.0 / (1.0 - DROPOUT_OPINION));

    for (unsigned step = 0; step < SEGMENT; step++) {
        size_t to = (size_t)step * streams + b;
        ForeReal *x = batch->tape->x + to * FORE_SERIES_N_FEATURE;
        ForeReal *e = batch->e + to * set->n_e;
        const int16_t *from_x, *from_e;

        for (unsigned t = 0; t < set->n_target; t++) {
            float y = row == SIZE_MAX ? NAN : set->y[(row + step) * set->n_target + t];

            batch->weight[to * set->n_target + t] =
                isnan(y) ? 0 : (ForeReal)set->weight[row + step];
            batch->target[to * set->n_target + t] = isnan(y) ? 0 : (ForeReal)y;
        }
        if (row == SIZE_MAX) {
            memset(x, 0, FORE_SERIES_N_FEATURE * sizeof(ForeReal));
            memset(e, 0, set->n_e * sizeof(ForeReal));
            continue;
        }
        from_x = set->x + (row + step) * FORE_SERIES_N_FEATURE;
        from_e = set->e + (row + step) * set->n_e;
        for (unsigned i = 0; i < FORE_SERIES_N_FEATURE; i++) {
            x[i] = from_x[i] * unit;
        }
        fore_net_hide(x);
        for (unsigned i = 0; i < set->n_e; i++) {
            e[i] = fore_random_unit(rng) < DROPOUT_OPINION ? 0 : from_e[i] * unit * kept;
        }
    }
}

static void train_net(Job *job)
{
    const ForeSeriesTrainConfig *c = job->config;
    ForeSeriesModel *model = job->model;
    size_t n = fore_net_layout(&model->shape).n;
    g_autoptr(ForeNetBatch) batch = fore_net_batch_new(&model->shape, SEGMENT, BATCH);
    g_autoptr(ForeAdam) adam = fore_adam_new(n);
    g_autofree ForeReal *params = g_new(ForeReal, n);
    g_autofree ForeReal *grad = g_new(ForeReal, n);
    ForeRandom rng = {.state = c->seed};
    unsigned updates = c->epochs * c->updates;
    double smooth = NAN;

    fore_net_init(&model->shape, &rng, params);
    adam->decay = DECAY;
    adam->averaging = AVERAGING;
    for (unsigned u = 0; u < updates; u++) {
        double loss;

        for (unsigned b = 0; b < BATCH; b++) {
            fill_segment(job->set, batch, b, &rng);
        }
        memset(grad, 0, n * sizeof(ForeReal));
        loss = fore_net_batch_loss(batch, params, c->series.level, DROPOUT, &rng, grad);
        fore_adam_step(adam, params, grad, RATE * 0.5 * (1.0 + cos(G_PI * u / updates)));
        smooth = isnan(smooth) ? loss : 0.98 * smooth + 0.02 * loss;
        job->loss = smooth;
        if (!advance(job, WORK_NET / updates, "lstm")) {
            return;
        }
    }
    model->loss = smooth;
    memcpy(model->params, adam->mean, n * sizeof(ForeReal));
}

static void choose_forest_rows(Job *job)
{
    ForeRandom rng = {.state = job->config->seed ^ UINT64_C(0x5f0e57)};
    size_t n = MIN((size_t)FOREST_ROWS, 4 * job->set->n_row);

    job->forest_row = g_new(size_t, n);
    for (size_t i = 0; i < n; i++) {
        size_t row = fore_series_set_pick(job->set, &rng, 1);
        bool known = row != SIZE_MAX;

        for (unsigned t = 0; known && t < job->set->n_target; t++) {
            known = !isnan(job->set->y[row * job->set->n_target + t]);
        }
        if (known) {
            job->forest_row[job->n_forest_row++] = row;
        }
    }
}

static ForeBinned *make_binned(const Job *job, unsigned target)
{
    const ForeSeriesSet *set = job->set;
    unsigned n_level = job->config->series.n_level;
    unsigned n_feature = fore_series_model_forest_features(n_level);
    unsigned n_opinion = FORE_MEMBER_N * n_level;
    g_autofree float *input = g_new(float, job->n_forest_row *n_feature);
    float x[FORE_SERIES_N_FEATURE], e[FORE_NET_MAX_E];

    for (size_t i = 0; i < job->n_forest_row; i++) {
        const int16_t *from_x = set->x + job->forest_row[i] * FORE_SERIES_N_FEATURE;
        const int16_t *from_e = set->e + job->forest_row[i] * set->n_e + target * n_opinion;

        for (unsigned k = 0; k < FORE_SERIES_N_FEATURE; k++) {
            x[k] = from_x[k] / FORE_SERIES_SET_UNIT;
        }
        for (unsigned k = 0; k < n_opinion; k++) {
            e[k] = from_e[k] / FORE_SERIES_SET_UNIT;
        }
        fore_series_model_forest_input(x, e, n_level, input + i * n_feature);
    }
    return fore_binned_new(input, job->n_forest_row, n_feature);
}

static void train_forest(Job *job, unsigned slot)
{
    const ForeSeriesTrainConfig *c = job->config;
    unsigned n_level = c->series.n_level;
    unsigned target = slot / n_level;
    g_autofree float *y = g_new(float, job->n_forest_row);
    ForeForestConfig forest = {.level = c->series.level[slot % n_level],
                               .n_tree = c->n_tree,
                               .n_leaf = FOREST_LEAVES,
                               .min_rows = FOREST_MIN_ROWS,
                               .rate = FOREST_RATE,
                               .share = FOREST_SHARE,
                               .seed = c->seed + 1000 + slot};

    g_mutex_lock(&job->binned_lock[target]);
    if (job->binned[target] == NULL) {
        job->binned[target] = make_binned(job, target);
    }
    g_mutex_unlock(&job->binned_lock[target]);
    for (size_t i = 0; i < job->n_forest_row; i++) {
        y[i] = job->set->y[job->forest_row[i] * job->set->n_target + target];
    }
    job->model->forest[slot] = fore_forest_fit(job->binned[target], y, &forest);
    advance(job, (1.0 - WORK_GATHER - WORK_NET) / (c->series.n_target * n_level), "forests");
}

static void run_job(gpointer item, gpointer user)
{
    guint number = GPOINTER_TO_UINT(item);
    Job *job = user;

    if (g_atomic_int_get(&job->stopped)) {
        return;
    }
    if (number == 1) {
        train_net(job);
    } else {
        train_forest(job, number - 2);
    }
}

static ForeSeriesModel *new_model(const ForeSeriesTrainConfig *c)
{
    ForeSeriesModel *model = g_new0(ForeSeriesModel, 1);

    g_atomic_ref_count_init(&model->ref);
    model->shape = (ForeNetShape){
        .hidden = c->hidden, .n_target = c->series.n_target, .n_level = c->series.n_level};
    memcpy(model->target, c->series.target, sizeof(model->target));
    memcpy(model->level, c->series.level, sizeof(model->level));
    model->params = g_new0(ForeReal, fore_net_layout(&model->shape).n);
    model->seed = c->seed;
    return model;
}

static void run_jobs(Job *job)
{
    const ForeSeriesConfig *series = &job->config->series;
    unsigned n = 1 + series->n_target * series->n_level;
    GThreadPool *pool = g_thread_pool_new(run_job, job, (gint)job->config->threads, TRUE, NULL);

    for (guint i = 1; i <= n; i++) {
        g_thread_pool_push(pool, GUINT_TO_POINTER(i), NULL);
    }
    g_thread_pool_free(pool, FALSE, TRUE);
}

static void job_done(Job *job)
{
    for (unsigned t = 0; t < FORE_SERIES_MAX_TARGET; t++) {
        fore_binned_free(job->binned[t]);
        g_mutex_clear(&job->binned_lock[t]);
    }
    g_mutex_clear(&job->lock);
    g_free(job->forest_row);
    fore_series_set_free(job->set);
}

ForeSeriesModel *fore_series_train(GPtrArray *traces, const ForeSeriesTrainConfig *config,
                                   ForeSeriesProgress progress, gpointer data, GError **error)
{
    ForeSeriesTrainConfig c = *config;
    Job job = {.config = &c, .progress = progress, .data = data, .loss = NAN};
    g_autoptr(ForeSeriesModel) model = NULL;

    g_assert(c.threads >= 1 && fore_series_config_is_valid(&c.series));
    c.hidden = c.hidden > 0 ? c.hidden : 64;
    c.epochs = c.epochs > 0 ? c.epochs : 20;
    c.updates = c.updates > 0 ? c.updates : 100;
    c.n_tree = c.n_tree > 0 ? c.n_tree : 150;
    c.rows = c.rows > 0 ? c.rows : 600000;
    job.n_trace = MAX(traces->len, 1);
    g_mutex_init(&job.lock);
    for (unsigned t = 0; t < FORE_SERIES_MAX_TARGET; t++) {
        g_mutex_init(&job.binned_lock[t]);
    }
    job.set = fore_series_set_new(traces, &c, gathered_one, &job);
    if (job.set != NULL) {
        choose_forest_rows(&job);
    }
    if (job.n_forest_row > 0) {
        model = new_model(&c);
        model->rows = job.set->n_row;
        job.model = model;
        run_jobs(&job);
    }
    job_done(&job);
    if (job.stopped || model == NULL) {
        g_set_error(error, FORE_ERROR, job.stopped ? FORE_ERROR_FAILED : FORE_ERROR_INVALID, "%s",
                    job.stopped ? "training: stopped"
                                : "training: no series has 64 known samples before its test part");
        return NULL;
    }
    return g_steal_pointer(&model);
}
