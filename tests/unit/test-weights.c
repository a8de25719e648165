/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-weights.h"

#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "forecast/fore-model.h"

static ForeModel *some_model(unsigned hidden)
{
    ForeLstmShape shape = fore_model_shape(hidden);
    ForeModelFacts facts = {.samples = 200, .seed = 7, .epochs = 90, .loss = 0.25};
    ForeRandom rng = {.state = 1};
    ForeFeatureNorm norm = {.online_lo = 1.0, .online_hi = 1.0, .total_lo = 5e8, .total_hi = 5e8};
    g_autofree ForeReal *params = g_new(ForeReal, fore_lstm_layout(&shape).n);

    for (unsigned f = 0; f < FORE_FEATURE_N; f++) {
        norm.mean[f] = fore_random_normal(&rng);
        norm.sd[f] = 0.5 + fore_random_unit(&rng);
        norm.lo[f] = -2.0;
        norm.hi[f] = 3.0;
    }
    for (unsigned l = 0; l < FORE_LEVEL_N; l++) {
        norm.level[l] = l == FORE_LEVEL_MEM ? 3e8 : 1.0;
        norm.strength[l] = 100.0;
    }
    fore_lstm_init(&shape, &rng, params);
    return fore_model_new(&shape, &norm, &facts, params);
}

/* A writable copy of the file of a small model. */
static GByteArray *some_file(void)
{
    g_autoptr(ForeModel) model = some_model(2);

    return g_bytes_unref_to_array(fore_model_encode(model));
}

static void repair_checksum(GByteArray *file)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    gsize len = 32;

    g_checksum_update(sum, file->data, file->len - 32);
    g_checksum_get_digest(sum, file->data + file->len - 32, &len);
}

static void assert_refused(const GByteArray *file, const char *because)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeModel) model = fore_model_decode(file->data, file->len, &error);

    g_assert_null(model);
    g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    if (strstr(error->message, because) == NULL) {
        g_error("'%s' does not say '%s'", error->message, because);
    }
}

static void *find(GByteArray *file, const char *what)
{
    void *at = memmem(file->data, file->len, what, strlen(what));

    g_assert_nonnull(at);
    return at;
}

static void test_round_trip(void)
{
    static const unsigned sizes[] = {1, 2, 32, 64, FORE_LSTM_MAX_HIDDEN};

    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(ForeModel) model = some_model(sizes[i]);
        g_autoptr(GBytes) file = fore_model_encode(model);
        g_autoptr(ForeModel) again =
            fore_model_decode(g_bytes_get_data(file, NULL), g_bytes_get_size(file), &error);
        g_autoptr(GBytes) file2 = NULL;

        g_assert_no_error(error);
        file2 = fore_model_encode(again);
        g_assert_true(g_bytes_equal(file, file2));
        g_assert_cmpmem(again->params, fore_lstm_layout(&again->shape).n * sizeof(ForeReal),
                        model->params, fore_lstm_layout(&model->shape).n * sizeof(ForeReal));
        g_assert_cmpmem(&again->norm, sizeof(again->norm), &model->norm, sizeof(model->norm));
    }
}

static void test_damage(void)
{
    g_autoptr(GByteArray) file = some_file();
    guint whole = file->len;

    for (guint i = 0; i < whole; i++) {
        file->data[i] ^= 0x10;
        assert_refused(file, "");
        file->data[i] ^= 0x10;
    }
    for (guint n = 0; n < whole; n++) {
        file->len = n;
        assert_refused(file, "");
        if (n >= 64) {
            uint8_t was[32];

            /* even with a checksum that fits */
            memcpy(was, file->data + n - 32, 32);
            repair_checksum(file);
            assert_refused(file, "");
            memcpy(file->data + n - 32, was, 32);
        }
    }
    file->len = whole;
}

static void test_not_ours(void)
{
    g_autoptr(GByteArray) file = some_file();
    uint8_t *at;

    at = find(file, "syscalls_per_insn");
    at[0] = 'S';
    repair_checksum(file);
    assert_refused(file, "'syscalls_per_insn'");
    at[0] = 's';
    at = find(file, "vcpu"); /* within "demand_vcpu" */
    at[0] = 'V';
    repair_checksum(file);
    assert_refused(file, "'demand_vcpu'");
    at[0] = 'v';
    file->data[8] = FORE_WEIGHTS_VERSION + 1;
    repair_checksum(file);
    assert_refused(file, "version 3");
    file->data[8] = FORE_WEIGHTS_VERSION;
    file->data[0] = 'G';
    repair_checksum(file);
    assert_refused(file, "does not start with");
}

static void test_shape(void)
{
    static const uint32_t bad[] = {0,       1, 3, FORE_LSTM_MAX_HIDDEN, FORE_LSTM_MAX_HIDDEN + 1,
                                   1u << 31};
    g_autoptr(GByteArray) file = some_file();

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        uint32_t le = GUINT32_TO_LE(bad[i]);

        memcpy(file->data + 12, &le, 4);
        repair_checksum(file);
        assert_refused(file, "cells");
    }
}

static void test_outputs(void)
{
    g_autoptr(GByteArray) file = some_file();
    const uint8_t horizons[] = {1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 5, 0, 0, 0};
    uint8_t *at = memmem(file->data, file->len, horizons, sizeof(horizons));

    g_assert_nonnull(at);
    at[12] = 6;
    repair_checksum(file);
    assert_refused(file, "horizons");
    at[12] = 5;
    at[4 * FORE_N_HORIZON + 4] ^= 1; /* lowest bit of the first quantile */
    repair_checksum(file);
    assert_refused(file, "quantiles");
}

static void test_not_finite(void)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY, 2e6f};
    g_autoptr(GByteArray) file = some_file();
    ForeLstmShape shape = fore_model_shape(2);
    guint first = file->len - 32 - 4 * (guint)fore_lstm_layout(&shape).n;

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        float was;

        memcpy(&was, file->data + first + 40, 4);
        memcpy(file->data + first + 40, &bad[i], 4);
        repair_checksum(file);
        assert_refused(file, "parameter 10");
        memcpy(file->data + first + 40, &was, 4);
    }
}

static void test_norm(void)
{
    double bad_sd = -1.0, nan = NAN, zero = 0.0;
    g_autoptr(GByteArray) file = some_file();
    g_autoptr(ForeModel) model = some_model(2);
    uint8_t *at = memmem(file->data, file->len, &model->norm, sizeof(model->norm));
    const struct {
        size_t offset;
        const double *value;
    } cases[] = {
        {offsetof(ForeFeatureNorm, sd), &bad_sd},     {offsetof(ForeFeatureNorm, mean), &nan},
        {offsetof(ForeFeatureNorm, strength), &zero}, {offsetof(ForeFeatureNorm, level), &zero},
        {offsetof(ForeFeatureNorm, total_hi), &nan},
    };

    g_assert_nonnull(at);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        double was;

        memcpy(&was, at + cases[i].offset, 8);
        memcpy(at + cases[i].offset, cases[i].value, 8);
        repair_checksum(file);
        assert_refused(file, "normalisation");
        memcpy(at + cases[i].offset, &was, 8);
    }
}

static void test_prior(void)
{
    static const double bad[] = {NAN, -1.5, 3.5, INFINITY};
    g_autoptr(GByteArray) file = some_file();
    ForeLstmShape shape = fore_model_shape(2);
    guint last = file->len - 32 - 4 * (guint)fore_lstm_layout(&shape).n - 4 - 8;

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        memcpy(file->data + last, &bad[i], 8);
        repair_checksum(file);
        assert_refused(file, "calibration");
    }
}

static void test_describe(void)
{
    g_autoptr(ForeModel) model = some_model(2);
    g_autofree char *text = fore_model_describe(model);

    g_assert_nonnull(strstr(text, "hidden=2 "));
    g_assert_nonnull(strstr(text, "samples=200 "));
    g_assert_nonnull(strstr(text, "loss=0.25 "));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/forecast/weights/round-trip-is-bit-exact", test_round_trip);
    g_test_add_func("/forecast/weights/any-damage-is-refused", test_damage);
    g_test_add_func("/forecast/weights/another-builds-file-is-refused-by-name", test_not_ours);
    g_test_add_func("/forecast/weights/wrong-shape-is-refused", test_shape);
    g_test_add_func("/forecast/weights/other-horizons-or-quantiles-are-refused", test_outputs);
    g_test_add_func("/forecast/weights/nan-or-infinity-is-refused", test_not_finite);
    g_test_add_func("/forecast/weights/bad-constants-are-refused", test_norm);
    g_test_add_func("/forecast/weights/bad-calibration-is-refused", test_prior);
    g_test_add_func("/forecast/weights/describes-itself", test_describe);
    return g_test_run();
}
