/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-series-model.h"

#include <math.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "forecast/fore-window.h"

#define MAGIC     "FORESERM"
#define MAGIC_LEN 8
#define VERSION   1
#define SUM_LEN   32
#define MAX_PARAM 1e4f /* no trained weight comes near */

ForeSeriesModel *fore_series_model_ref(ForeSeriesModel *model)
{
    g_atomic_ref_count_inc(&model->ref);
    return model;
}

void fore_series_model_unref(ForeSeriesModel *model)
{
    if (model == NULL || !g_atomic_ref_count_dec(&model->ref)) {
        return;
    }
    for (unsigned i = 0; i < FORE_NET_MAX_OUT; i++) {
        fore_forest_free(model->forest[i]);
    }
    g_free(model->params);
    g_free(model);
}

bool fore_series_model_fits(const ForeSeriesModel *m, const ForeSeriesConfig *c)
{
    bool ok = m->shape.n_target == c->n_target && m->shape.n_level == c->n_level;

    for (unsigned t = 0; ok && t < c->n_target; t++) {
        ok = m->target[t].lag == c->target[t].lag && m->target[t].peak == c->target[t].peak;
    }
    for (unsigned q = 0; ok && q < c->n_level; q++) {
        ok = m->level[q] == c->level[q];
    }
    return ok;
}

static void sha256(const void *data, size_t size, uint8_t ret_sum[SUM_LEN])
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    gsize len = SUM_LEN;

    g_checksum_update(sum, data, (gssize)size);
    g_checksum_get_digest(sum, ret_sum, &len);
}

static void put_forest(GByteArray *out, const ForeForest *forest)
{
    fore_put_le32(out, forest->n_feature);
    fore_put_le32(out, forest->n_tree);
    fore_put_f32(out, forest->base);
    for (unsigned t = 0; t < forest->n_tree; t++) {
        fore_put_le32(out, forest->root[t + 1] - forest->root[t]);
        for (uint32_t i = forest->root[t]; i < forest->root[t + 1]; i++) {
            fore_put_le16(out, forest->node[i].feature);
            fore_put_le16(out, forest->node[i].left);
            fore_put_f32(out, forest->node[i].value);
        }
    }
}

GBytes *fore_series_model_encode(const ForeSeriesModel *m)
{
    GByteArray *out = g_byte_array_new();
    size_t n = fore_net_layout(&m->shape).n;
    uint8_t sum[SUM_LEN];

    g_byte_array_append(out, (const guint8 *)MAGIC, MAGIC_LEN);
    fore_put_le32(out, VERSION);
    fore_put_le32(out, FORE_SERIES_N_FEATURE);
    fore_put_le32(out, FORE_MEMBER_N);
    fore_put_le32(out, m->shape.n_target);
    for (unsigned t = 0; t < m->shape.n_target; t++) {
        fore_put_le32(out, m->target[t].lag);
        fore_put_le32(out, m->target[t].peak);
    }
    fore_put_le32(out, m->shape.n_level);
    for (unsigned q = 0; q < m->shape.n_level; q++) {
        fore_put_f64(out, m->level[q]);
    }
    fore_put_le32(out, m->shape.hidden);
    fore_put_le32(out, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        fore_put_f32(out, (float)m->params[i]);
    }
    for (unsigned i = 0; i < m->shape.n_target * m->shape.n_level; i++) {
        put_forest(out, m->forest[i]);
    }
    fore_put_le64(out, m->rows);
    fore_put_le64(out, m->seed);
    fore_put_f64(out, m->loss);
    sha256(out->data, out->len, sum);
    g_byte_array_append(out, sum, SUM_LEN);
    return g_byte_array_free_to_bytes(out);
}

static bool refuse(GError **error, const char *what)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                "series model: %s; copy the file again or train again with this build", what);
    return false;
}

/* Targets, levels and shape; sizes are checked before anything is allocated from them. */
static bool read_head(ForeCursor *cur, ForeSeriesModel *m, GError **error)
{
    const uint8_t *magic = fore_cursor_take(cur, MAGIC_LEN);

    if (magic == NULL || memcmp(magic, MAGIC, MAGIC_LEN) != 0) {
        return refuse(error, "not a series model");
    }
    if (fore_cursor_le32(cur) != VERSION) {
        return refuse(error, "another version");
    }
    if (fore_cursor_le32(cur) != FORE_SERIES_N_FEATURE || fore_cursor_le32(cur) != FORE_MEMBER_N) {
        return refuse(error, "made for other features or members");
    }
    m->shape.n_target = fore_cursor_le32(cur);
    if (m->shape.n_target < 1 || m->shape.n_target > FORE_SERIES_MAX_TARGET) {
        return refuse(error, "number of targets out of range");
    }
    for (unsigned t = 0; t < m->shape.n_target; t++) {
        uint32_t peak;

        m->target[t].lag = fore_cursor_le32(cur);
        peak = fore_cursor_le32(cur);
        m->target[t].peak = peak == 1;
        if (m->target[t].lag < 1 || m->target[t].lag > FORE_SERIES_MAX_LAG || peak > 1) {
            return refuse(error, "target out of range");
        }
    }
    m->shape.n_level = fore_cursor_le32(cur);
    if (m->shape.n_level < 1 || m->shape.n_level > FORE_SERIES_MAX_LEVEL) {
        return refuse(error, "number of levels out of range");
    }
    for (unsigned q = 0; q < m->shape.n_level; q++) {
        m->level[q] = fore_cursor_f64(cur);
        if (!(m->level[q] > (q > 0 ? m->level[q - 1] : 0.0) && m->level[q] < 1.0)) {
            return refuse(error, "levels do not rise within 0..1");
        }
    }
    m->shape.hidden = fore_cursor_le32(cur);
    return fore_net_shape_is_valid(&m->shape) || refuse(error, "hidden size out of range");
}

static bool read_params(ForeCursor *cur, ForeSeriesModel *m, GError **error)
{
    size_t n = fore_net_layout(&m->shape).n;

    if (fore_cursor_le32(cur) != n || cur->left < n * sizeof(float)) {
        return refuse(error, "number of parameters does not fit the shape");
    }
    m->params = g_new(ForeReal, n);
    for (size_t i = 0; i < n; i++) {
        float v = fore_cursor_f32(cur);

        if (!(fabsf(v) <= MAX_PARAM)) {
            return refuse(error, "a parameter is not a sane number");
        }
        m->params[i] = (ForeReal)v;
    }
    return true;
}

static ForeForest *read_forest(ForeCursor *cur, unsigned n_feature)
{
    g_autoptr(ForeForest) forest = g_new0(ForeForest, 1);
    g_autoptr(GArray) nodes = g_array_new(FALSE, FALSE, sizeof(ForeTreeNode));

    forest->n_feature = fore_cursor_le32(cur);
    forest->n_tree = fore_cursor_le32(cur);
    forest->base = fore_cursor_f32(cur);
    if (forest->n_feature != n_feature || forest->n_tree < 1 ||
        forest->n_tree > FORE_FOREST_MAX_TREE) {
        return NULL;
    }
    forest->root = g_new0(uint32_t, forest->n_tree + 1);
    for (unsigned t = 0; t < forest->n_tree; t++) {
        uint32_t n = fore_cursor_le32(cur);

        if (n < 1 || n > 2 * FORE_FOREST_MAX_LEAF || cur->left < n * 8u) {
            return NULL;
        }
        for (uint32_t i = 0; i < n; i++) {
            ForeTreeNode node;

            node.feature = fore_cursor_le16(cur);
            node.left = fore_cursor_le16(cur);
            node.value = fore_cursor_f32(cur);
            g_array_append_val(nodes, node);
        }
        forest->root[t + 1] = nodes->len;
    }
    forest->node = (ForeTreeNode *)(void *)g_array_free(g_steal_pointer(&nodes), FALSE);
    return fore_forest_is_valid(forest) ? g_steal_pointer(&forest) : NULL;
}

ForeSeriesModel *fore_series_model_decode(const void *data, size_t size, GError **error)
{
    g_autoptr(ForeSeriesModel) m = g_new0(ForeSeriesModel, 1);
    uint8_t sum[SUM_LEN];
    ForeCursor cur;

    g_atomic_ref_count_init(&m->ref);
    if (size < MAGIC_LEN + SUM_LEN || size > FORE_SERIES_MODEL_MAX_SIZE) {
        refuse(error, "size out of range");
        return NULL;
    }
    sha256(data, size - SUM_LEN, sum);
    if (memcmp(sum, (const uint8_t *)data + size - SUM_LEN, SUM_LEN) != 0) {
        refuse(error, "checksum does not match");
        return NULL;
    }
    fore_cursor_init(&cur, data, size - SUM_LEN);
    if (!read_head(&cur, m, error) || !read_params(&cur, m, error)) {
        return NULL;
    }
    for (unsigned i = 0; i < m->shape.n_target * m->shape.n_level; i++) {
        m->forest[i] = read_forest(&cur, fore_series_model_forest_features(m->shape.n_level));
        if (m->forest[i] == NULL) {
            refuse(error, "a forest is malformed");
            return NULL;
        }
    }
    m->rows = fore_cursor_le64(&cur);
    m->seed = fore_cursor_le64(&cur);
    m->loss = fore_cursor_f64(&cur);
    if (!fore_cursor_finished(&cur) || !isfinite(m->loss)) {
        refuse(error, "wrong length");
        return NULL;
    }
    return g_steal_pointer(&m);
}

unsigned fore_series_model_forest_features(unsigned n_level)
{
    return FORE_SERIES_N_FEATURE + (FORE_MEMBER_N + 2) * n_level;
}

void fore_series_model_forest_input(const float *x, const float *e, unsigned n_level, float *ret)
{
    float *mean = ret + FORE_SERIES_N_FEATURE + (size_t)FORE_MEMBER_N * n_level;
    float *median = mean + n_level;

    memcpy(ret, x, FORE_SERIES_N_FEATURE * sizeof(float));
    memcpy(ret + FORE_SERIES_N_FEATURE, e, (size_t)FORE_MEMBER_N * n_level * sizeof(float));
    for (unsigned q = 0; q < n_level; q++) {
        float v[FORE_MEMBER_N];

        mean[q] = 0.0f;
        for (unsigned m = 0; m < FORE_MEMBER_N; m++) {
            v[m] = e[m * n_level + q];
            mean[q] += v[m] / FORE_MEMBER_N;
        }
        fore_window_sort(v, FORE_MEMBER_N);
        median[q] = v[FORE_MEMBER_N / 2];
    }
}

void fore_series_model_forest(const ForeSeriesModel *model, unsigned target, const float *x,
                              const float *e, double *ret_q)
{
    float input[FORE_FOREST_MAX_FEATURE];
    unsigned n_level = model->shape.n_level;

    fore_series_model_forest_input(x, e, n_level, input);
    for (unsigned q = 0; q < n_level; q++) {
        double v = fore_forest_predict(model->forest[target * n_level + q], input);

        ret_q[q] = CLAMP(v, -20.0, 20.0);
        ret_q[q] = q > 0 ? MAX(ret_q[q], ret_q[q - 1]) : ret_q[q];
    }
}
