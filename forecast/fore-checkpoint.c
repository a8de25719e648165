/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Training in the middle, as bytes.  Little-endian, no padding:
 *
 *   8   magic "FORECKPT"
 *   u32 version (1)
 *   32  fingerprint of history and settings
 *   u32 epochs done, u64 updates of the optimiser, f64 best validation loss
 *   u32 epoch, f64 loss, f64 validation loss of the best weights
 *   f32 [5][parameters]: weights, best, first and second moment, average
 *   f32 [2][batch][hidden]: cell and output carried from chunk to chunk
 *   for each stream: u64 generator, u32 window (or none: 2^32 - 1), u32 length, u32 position,
 *       u32 [length] steps, f32 [features] offsets, u8 [groups] dropped
 *   32  SHA-256 of everything before it
 *
 * The fingerprint ties it to the windows, so their indices can be checked against them.
 */
#include <math.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "forecast/fore-trainer.h"

#define MAGIC     "FORECKPT"
#define MAGIC_LEN 8
#define VERSION   1
#define SUM_LEN   32
#define NONE      UINT32_MAX
#define ANEW      "train without --resume"

G_STATIC_ASSERT(FORE_TRAIN_FINGERPRINT == SUM_LEN);

static void put_reals(GByteArray *out, const ForeReal *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float f = (float)v[i];
        uint32_t bits;

        memcpy(&bits, &f, sizeof(bits));
        fore_put_le32(out, bits);
    }
}

/* Returns: false when one of them is not finite */
static bool read_reals(ForeCursor *cur, ForeReal *ret, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = fore_cursor_le32(cur);
        float v;

        memcpy(&v, &bits, sizeof(v));
        ret[i] = (ForeReal)v;
        if (!isfinite(v)) {
            return false;
        }
    }
    return fore_cursor_ok(cur);
}

static void sum_of(const void *data, size_t size, uint8_t ret_sum[SUM_LEN])
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    gsize len = SUM_LEN;

    g_checksum_update(sum, data, (gssize)size);
    g_checksum_get_digest(sum, ret_sum, &len);
}

void fore_checkpoint_fingerprint(const ForeWindow *windows, size_t n, const ForeTrainConfig *config,
                                 uint8_t ret[FORE_TRAIN_FINGERPRINT])
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    uint64_t settings[] = {config->hidden, config->max_epochs, config->patience, config->seed,
                           FORE_FIELD_N,   FORE_FEATURE_N,     FORE_N_GROUP,     n};
    gsize len = FORE_TRAIN_FINGERPRINT;

    g_checksum_update(sum, (const guchar *)settings, sizeof(settings));
    g_checksum_update(sum, (const guchar *)&config->validation_share, sizeof(double));
    for (size_t w = 0; w < n; w++) {
        g_checksum_update(sum, (const guchar *)&windows[w].n, sizeof(windows[w].n));
        g_checksum_update(sum, (const guchar *)&windows[w].step_ns, sizeof(windows[w].step_ns));
        for (size_t i = 0; i < windows[w].n; i++) {
            const ForeSample *s = &windows[w].samples[i];

            g_checksum_update(sum, (const guchar *)&s->wall_ms, sizeof(s->wall_ms));
            g_checksum_update(sum, (const guchar *)&s->valid, sizeof(s->valid));
            for (unsigned f = 0; f < FORE_FIELD_N; f++) {
                if (FORE_HAS(s, f)) {
                    g_checksum_update(sum, (const guchar *)&s->value[f], sizeof(double));
                }
            }
        }
    }
    g_checksum_get_digest(sum, ret, &len);
}

static size_t state_reals(const ForeTrainer *tr)
{
    return (size_t)FORE_TRAIN_BATCH * tr->shape.n_hidden;
}

static void put_stream(GByteArray *out, const ForeTrainer *tr, const ForeTrainStream *stream)
{
    uint32_t window = stream->window != NULL ? (uint32_t)(stream->window - tr->set->windows) : NONE;

    fore_put_le64(out, stream->rng.state);
    fore_put_le32(out, window);
    fore_put_le32(out, (uint32_t)stream->n);
    fore_put_le32(out, (uint32_t)stream->at);
    for (size_t i = 0; i < stream->n; i++) {
        fore_put_le32(out, stream->steps[i]);
    }
    put_reals(out, stream->offset, FORE_FEATURE_N);
    for (unsigned g = 0; g < FORE_GROUP_N; g++) {
        fore_put_u8(out, stream->dropped[g] ? 1 : 0);
    }
}

GBytes *fore_train_checkpoint(const ForeTrainer *tr)
{
    GByteArray *out = g_byte_array_new();
    uint8_t sum[SUM_LEN];

    g_byte_array_append(out, (const guint8 *)MAGIC, MAGIC_LEN);
    fore_put_le32(out, VERSION);
    g_byte_array_append(out, tr->fingerprint, FORE_TRAIN_FINGERPRINT);
    fore_put_le32(out, tr->epoch);
    fore_put_le64(out, tr->adam->t);
    fore_put_f64(out, tr->best_loss);
    fore_put_le32(out, tr->facts.epochs);
    fore_put_f64(out, tr->facts.loss);
    fore_put_f64(out, tr->facts.validation_loss);
    put_reals(out, tr->params, tr->n_params);
    put_reals(out, tr->best, tr->n_params);
    put_reals(out, tr->adam->m, tr->n_params);
    put_reals(out, tr->adam->v, tr->n_params);
    put_reals(out, tr->adam->mean, tr->n_params);
    put_reals(out, tr->tape->c, state_reals(tr));
    put_reals(out, tr->tape->h, state_reals(tr));
    for (unsigned b = 0; b < FORE_TRAIN_BATCH; b++) {
        put_stream(out, tr, &tr->streams[b]);
    }
    sum_of(out->data, out->len, sum);
    g_byte_array_append(out, sum, SUM_LEN);
    return g_byte_array_free_to_bytes(out);
}

static bool refuse(GError **error, const char *what)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "checkpoint: %s; " ANEW, what);
    return false;
}

static bool read_stream(ForeCursor *cur, ForeTrainer *tr, ForeTrainStream *stream)
{
    uint64_t rng = fore_cursor_le64(cur);
    uint32_t window = fore_cursor_le32(cur);
    uint32_t n = fore_cursor_le32(cur), at = fore_cursor_le32(cur);
    const ForeTrainWindow *tw;

    if (!fore_cursor_ok(cur) || n > FORE_TRAIN_MAX_PASS || at > n ||
        (window == NONE ? n > 0 : window >= tr->set->n_windows)) {
        return false;
    }
    tw = window == NONE ? NULL : &tr->set->windows[window];
    fore_train_stream_room(stream);
    for (uint32_t i = 0; i < n; i++) {
        stream->steps[i] = fore_cursor_le32(cur);
        if (stream->steps[i] >= tw->n_train) {
            return false;
        }
    }
    stream->rng.state = rng;
    stream->window = tw;
    stream->n = n;
    stream->at = at;
    if (!read_reals(cur, stream->offset, FORE_FEATURE_N)) {
        return false;
    }
    for (unsigned g = 0; g < FORE_GROUP_N; g++) {
        stream->dropped[g] = fore_cursor_u8(cur) != 0;
    }
    return fore_cursor_ok(cur);
}

/* Magic to fingerprint, and the checksum; on success @cur stands behind the fingerprint. */
static bool open_envelope(const ForeTrainer *tr, const void *data, size_t size, ForeCursor *cur,
                          GError **error)
{
    const uint8_t *magic, *print;
    uint32_t version;
    uint8_t sum[SUM_LEN];

    if (size < MAGIC_LEN + 4 + 2 * SUM_LEN) {
        return refuse(error, "the file is too short");
    }
    fore_cursor_init(cur, data, size - SUM_LEN);
    magic = fore_cursor_take(cur, MAGIC_LEN);
    version = fore_cursor_le32(cur);
    print = fore_cursor_take(cur, FORE_TRAIN_FINGERPRINT);
    if (magic == NULL || memcmp(magic, MAGIC, MAGIC_LEN) != 0 || version != VERSION ||
        print == NULL) {
        return refuse(error, "it is none of this build");
    }
    sum_of(data, size - SUM_LEN, sum);
    if (memcmp(sum, (const uint8_t *)data + size - SUM_LEN, SUM_LEN) != 0) {
        return refuse(error, "its SHA-256 checksum does not match its contents");
    }
    if (memcmp(print, tr->fingerprint, FORE_TRAIN_FINGERPRINT) != 0) {
        return refuse(error, "it belongs to another history or to other settings");
    }
    return true;
}

bool fore_checkpoint_restore(ForeTrainer *tr, const void *data, size_t size, GError **error)
{
    ForeCursor cur;

    if (!open_envelope(tr, data, size, &cur, error)) {
        return false;
    }
    tr->epoch = fore_cursor_le32(&cur);
    tr->adam->t = fore_cursor_le64(&cur);
    tr->best_loss = fore_cursor_f64(&cur);
    tr->facts.epochs = fore_cursor_le32(&cur);
    tr->facts.loss = fore_cursor_f64(&cur);
    tr->facts.validation_loss = fore_cursor_f64(&cur);
    if (tr->epoch > tr->config.max_epochs || tr->facts.epochs > tr->epoch || isnan(tr->best_loss) ||
        !isfinite(tr->facts.loss) || !isfinite(tr->facts.validation_loss)) {
        return refuse(error, "its counters make no sense");
    }
    if (!read_reals(&cur, tr->params, tr->n_params) || !read_reals(&cur, tr->best, tr->n_params) ||
        !read_reals(&cur, tr->adam->m, tr->n_params) ||
        !read_reals(&cur, tr->adam->v, tr->n_params) ||
        !read_reals(&cur, tr->adam->mean, tr->n_params) ||
        !read_reals(&cur, tr->tape->c, state_reals(tr)) ||
        !read_reals(&cur, tr->tape->h, state_reals(tr))) {
        return refuse(error, "a number in it is not finite, or it is cut short");
    }
    for (unsigned b = 0; b < FORE_TRAIN_BATCH; b++) {
        if (!read_stream(&cur, tr, &tr->streams[b])) {
            return refuse(error, "one of its streams makes no sense");
        }
    }
    return fore_cursor_finished(&cur) || refuse(error, "it is too long");
}
