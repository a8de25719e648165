/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-model.h"

#include <string.h>

ForeLstmShape fore_model_shape(unsigned hidden)
{
    ForeLstmShape shape = {.n_in = FORE_FEATURE_N_IN,
                           .n_skip = FORE_FEATURE_N_SKIP,
                           .n_hidden = hidden,
                           .n_out = FORE_MODEL_N_OUT};

    return shape;
}

ForeModel *fore_model_new(const ForeLstmShape *shape, const ForeFeatureNorm *norm,
                          const ForeModelFacts *facts, const ForeReal *params)
{
    ForeModel *model = g_new0(ForeModel, 1);
    size_t n = fore_lstm_layout(shape).n;

    g_atomic_ref_count_init(&model->ref);
    model->shape = *shape;
    model->norm = *norm;
    model->facts = *facts;
    model->params = g_new(ForeReal, n);
    memcpy(model->params, params, n * sizeof(ForeReal));
    return model;
}

ForeModel *fore_model_ref(ForeModel *model)
{
    g_atomic_ref_count_inc(&model->ref);
    return model;
}

void fore_model_unref(ForeModel *model)
{
    if (model != NULL && g_atomic_ref_count_dec(&model->ref)) {
        g_free(model->params);
        g_free(model);
    }
}

char *fore_model_describe(const ForeModel *model)
{
    const ForeModelFacts *facts = &model->facts;
    GString *text = g_string_new(NULL);
    unsigned used = 0;

    for (unsigned f = 0; f < FORE_FEATURE_N; f++) {
        used += model->norm.sd[f] > 0.0 ? 1 : 0;
    }
    g_string_printf(text, "hidden=%u parameters=%zu features=%u/%u samples=%" G_GUINT64_FORMAT,
                    model->shape.n_hidden, fore_lstm_layout(&model->shape).n, used, FORE_FEATURE_N,
                    facts->samples);
    g_string_append_printf(text,
                           " epochs=%u seed=%" G_GUINT64_FORMAT
                           " loss=%.5g validation_loss=%.5g naive_validation_loss=%.5g",
                           facts->epochs, facts->seed, facts->loss, facts->validation_loss,
                           facts->naive_validation_loss);
    return g_string_free(text, FALSE);
}
