/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-weights.h"

#include <math.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "forecast/fore-calibration.h"
#include "forecast/fore-model.h"

#define MAGIC     "FOREWGTS"
#define MAGIC_LEN 8
#define SUM_LEN   32
#define MAX_PARAM 1e6 /* no trained weight comes near; beyond it products could overflow */

static void sha256(const void *data, size_t size, uint8_t ret_sum[SUM_LEN])
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    gsize len = SUM_LEN;

    g_checksum_update(sum, data, (gssize)size);
    g_checksum_get_digest(sum, ret_sum, &len);
}

static void put_names(GByteArray *out, const char *const *names, unsigned n)
{
    fore_put_le32(out, n);
    for (unsigned i = 0; i < n; i++) {
        size_t len = strlen(names[i]);

        fore_put_u8(out, (uint8_t)len);
        g_byte_array_append(out, (const guint8 *)names[i], (guint)len);
    }
}

GBytes *fore_model_encode(const ForeModel *model)
{
    GByteArray *out = g_byte_array_new();
    size_t n = fore_lstm_layout(&model->shape).n;
    double norm[FORE_FEATURE_NORM_DOUBLES];
    uint8_t sum[SUM_LEN];

    g_byte_array_append(out, (const guint8 *)MAGIC, MAGIC_LEN);
    fore_put_le32(out, FORE_WEIGHTS_VERSION);
    fore_put_le32(out, model->shape.n_hidden);
    put_names(out, fore_feature_names, FORE_FEATURE_N);
    put_names(out, fore_resource_names, FORE_RES_N);
    fore_put_le32(out, FORE_N_HORIZON);
    for (unsigned h = 0; h < FORE_N_HORIZON; h++) {
        fore_put_le32(out, fore_horizons[h]);
    }
    fore_put_le32(out, FORE_N_QUANTILE);
    for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
        fore_put_f64(out, fore_quantiles[k]);
    }
    memcpy(norm, &model->norm, sizeof(norm));
    fore_put_le32(out, FORE_FEATURE_NORM_DOUBLES);
    for (size_t i = 0; i < FORE_FEATURE_NORM_DOUBLES; i++) {
        fore_put_f64(out, norm[i]);
    }
    fore_put_le64(out, model->facts.samples);
    fore_put_le64(out, model->facts.seed);
    fore_put_le32(out, model->facts.epochs);
    fore_put_f64(out, model->facts.loss);
    fore_put_f64(out, model->facts.validation_loss);
    fore_put_f64(out, model->facts.naive_validation_loss);
    fore_put_le32(out, FORE_MODEL_N_OUT);
    for (unsigned i = 0; i < FORE_MODEL_N_OUT; i++) {
        fore_put_f64(out, model->prior[i / FORE_N_QUANTILE][i % FORE_N_QUANTILE]);
    }
    fore_put_le32(out, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        fore_put_f32(out, (float)model->params[i]);
    }
    sha256(out->data, out->len, sum);
    g_byte_array_append(out, sum, SUM_LEN);
    return g_byte_array_free_to_bytes(out);
}

static bool refuse(GError **error, const char *what, const char *remedy)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "weights file: %s; %s", what, remedy);
    return false;
}

#define RETRAIN "train again with this build"
#define RECOPY  "copy the file again or train again"

/* A list of names that must be exactly ours. */
static bool read_names(ForeCursor *cur, const char *const *names, unsigned n, const char *what,
                       GError **error)
{
    uint32_t n_file = fore_cursor_le32(cur);

    if (!fore_cursor_ok(cur) || n_file != n) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "weights file: %u %ss where this build has %u; " RETRAIN, n_file, what, n);
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        uint8_t len = fore_cursor_u8(cur);
        const uint8_t *name = fore_cursor_take(cur, len);

        if (name == NULL || len != strlen(names[i]) || memcmp(name, names[i], len) != 0) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                        "weights file: %s %u is not '%s'; " RETRAIN, what, i, names[i]);
            return false;
        }
    }
    return true;
}

static bool read_outputs(ForeCursor *cur, GError **error)
{
    bool same = fore_cursor_le32(cur) == FORE_N_HORIZON;

    for (unsigned h = 0; same && h < FORE_N_HORIZON; h++) {
        same = fore_cursor_le32(cur) == fore_horizons[h];
    }
    if (!same) {
        return refuse(error, "its horizons are not those of this build", RETRAIN);
    }
    same = fore_cursor_le32(cur) == FORE_N_QUANTILE;
    for (unsigned k = 0; same && k < FORE_N_QUANTILE; k++) {
        same = fore_cursor_f64(cur) == fore_quantiles[k];
    }
    return same || refuse(error, "its quantiles are not those of this build", RETRAIN);
}

static bool read_norm(ForeCursor *cur, ForeFeatureNorm *norm, GError **error)
{
    double all[FORE_FEATURE_NORM_DOUBLES];

    if (fore_cursor_le32(cur) != FORE_FEATURE_NORM_DOUBLES) {
        return refuse(error, "wrong number of normalisation constants", RETRAIN);
    }
    for (size_t i = 0; i < FORE_FEATURE_NORM_DOUBLES; i++) {
        all[i] = fore_cursor_f64(cur);
    }
    memcpy(norm, all, sizeof(*norm));
    if (!fore_cursor_ok(cur) || !fore_features_norm_is_valid(norm)) {
        return refuse(error, "a normalisation constant is not finite or out of range", RETRAIN);
    }
    return true;
}

static bool read_facts(ForeCursor *cur, ForeModelFacts *facts, GError **error)
{
    facts->samples = fore_cursor_le64(cur);
    facts->seed = fore_cursor_le64(cur);
    facts->epochs = fore_cursor_le32(cur);
    facts->loss = fore_cursor_f64(cur);
    facts->validation_loss = fore_cursor_f64(cur);
    facts->naive_validation_loss = fore_cursor_f64(cur);
    if (!isfinite(facts->loss) || !isfinite(facts->validation_loss) ||
        !isfinite(facts->naive_validation_loss)) {
        return refuse(error, "a recorded loss is not finite", RETRAIN);
    }
    return true;
}

static bool read_prior(ForeCursor *cur, double ret[][FORE_N_QUANTILE], GError **error)
{
    bool fine = fore_cursor_le32(cur) == FORE_MODEL_N_OUT;

    for (unsigned i = 0; fine && i < FORE_MODEL_N_OUT; i++) {
        double level = fore_cursor_f64(cur);

        /* written so that NaN is refused */
        fine = level >= FORE_CALIBRATION_MIN && level <= FORE_CALIBRATION_MAX;
        ret[i / FORE_N_QUANTILE][i % FORE_N_QUANTILE] = level;
    }
    return fine || refuse(error, "its calibration levels are out of range", RETRAIN);
}

static ForeReal *read_params(ForeCursor *cur, const ForeLstmShape *shape, GError **error)
{
    uint32_t n = fore_cursor_le32(cur);
    size_t expected = fore_lstm_layout(shape).n;
    g_autofree ForeReal *params = NULL;

    if (n != expected || cur->left != 4 * expected) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "weights file: %u parameters in %zu bytes where %u cells need %zu; " RECOPY, n,
                    cur->left, shape->n_hidden, expected);
        return NULL;
    }
    params = g_new(ForeReal, expected);
    for (size_t i = 0; i < expected; i++) {
        params[i] = (ForeReal)fore_cursor_f32(cur);
        if (!isfinite(params[i]) || fabs((double)params[i]) > MAX_PARAM) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                        "weights file: parameter %zu is %g; " RETRAIN, i, (double)params[i]);
            return NULL;
        }
    }
    return g_steal_pointer(&params);
}

/* Size, magic, version and checksum; on success @cur holds what lies between version and checksum.
 */
static bool open_envelope(const void *data, size_t size, ForeCursor *cur, GError **error)
{
    const uint8_t *magic;
    uint32_t version;
    uint8_t sum[SUM_LEN];

    if (size > FORE_WEIGHTS_MAX_SIZE || size < MAGIC_LEN + 4 + SUM_LEN) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "weights file: %zu bytes is not the size of one (%u to %u); " RECOPY, size,
                    (unsigned)(MAGIC_LEN + 4 + SUM_LEN), FORE_WEIGHTS_MAX_SIZE);
        return false;
    }
    fore_cursor_init(cur, data, size - SUM_LEN);
    magic = fore_cursor_take(cur, MAGIC_LEN);
    version = fore_cursor_le32(cur);
    if (magic == NULL || memcmp(magic, MAGIC, MAGIC_LEN) != 0) {
        return refuse(error, "it does not start with " MAGIC, "name a file that training wrote");
    }
    if (version != FORE_WEIGHTS_VERSION) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "weights file: version %u where this build reads %u; " RETRAIN, version,
                    FORE_WEIGHTS_VERSION);
        return false;
    }
    sha256(data, size - SUM_LEN, sum);
    if (memcmp(sum, (const uint8_t *)data + size - SUM_LEN, SUM_LEN) != 0) {
        return refuse(error, "its SHA-256 checksum does not match its contents", RECOPY);
    }
    return true;
}

ForeModel *fore_model_decode(const void *data, size_t size, GError **error)
{
    ForeCursor cur;
    ForeLstmShape shape;
    ForeFeatureNorm norm;
    ForeModelFacts facts;
    double prior[FORE_N_GROUP][FORE_N_QUANTILE];
    g_autofree ForeReal *params = NULL;
    ForeModel *model;

    if (!open_envelope(data, size, &cur, error)) {
        return NULL;
    }
    shape = fore_model_shape(fore_cursor_le32(&cur));
    if (!fore_lstm_shape_is_valid(&shape)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "weights file: %u cells, allowed are 1 to %u; " RETRAIN, shape.n_hidden,
                    FORE_LSTM_MAX_HIDDEN);
        return NULL;
    }
    if (!read_names(&cur, fore_feature_names, FORE_FEATURE_N, "feature", error) ||
        !read_names(&cur, fore_resource_names, FORE_RES_N, "resource", error) ||
        !read_outputs(&cur, error) || !read_norm(&cur, &norm, error) ||
        !read_facts(&cur, &facts, error) || !read_prior(&cur, prior, error)) {
        return NULL;
    }
    params = read_params(&cur, &shape, error);
    if (params == NULL) {
        return NULL;
    }
    model = fore_model_new(&shape, &norm, &facts, params);
    memcpy(model->prior, prior, sizeof(prior));
    return model;
}
