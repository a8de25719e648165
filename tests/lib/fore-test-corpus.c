/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/lib/fore-test-corpus.h"

#include <gio/gio.h>
#include <math.h>
#include <string.h>

#include "common/fore-error.h"

/* How a cell is meant. */
typedef enum { AS_IS, LOGARITHM, THOUSANDTHS } Unit;

static const struct {
    const char *name;
    ForeField field;
    Unit unit;
} plain[] = {
    {"busy_vcpus", FORE_FIELD_CPU_BUSY, AS_IS},
    {"busy_vcpus", FORE_FIELD_DEMAND_VCPU, AS_IS},
    {"insns", FORE_FIELD_INSNS, LOGARITHM},
    {"loads", FORE_FIELD_LOADS, LOGARITHM},
    {"stores", FORE_FIELD_STORES, LOGARITHM},
    {"syscalls", FORE_FIELD_SYSCALLS, LOGARITHM},
    {"idle", FORE_FIELD_IDLE, THOUSANDTHS},
    {"calls_file", FORE_FIELD_SYSCALL_FILE, THOUSANDTHS},
    {"calls_net", FORE_FIELD_SYSCALL_NET, THOUSANDTHS},
    {"space_switches", FORE_FIELD_SPACE_SWITCHES, LOGARITHM},
    {"space_top", FORE_FIELD_SPACE_TOP, THOUSANDTHS},
    {"working_set_bytes", FORE_FIELD_WORKING_SET, AS_IS},
};
static const char *const mixes[] = {"mix_integer", "mix_simd_fp",    "mix_control",
                                    "mix_string",  "mix_privileged", "mix_io"};
#define MIX_SIMD   1 /* indices into it */
#define MIX_STRING 3

/* One line, and where its columns are. */
typedef struct {
    GHashTable *column; /* name -> index, as a pointer */
    char **cells;
    unsigned line;
    GError *error; /* of the first cell that was wrong */
} Row;

void fore_test_corpus_free(ForeTestCorpus *corpus)
{
    if (corpus == NULL) {
        return;
    }
    g_free(corpus->samples);
    g_free(corpus->seconds);
    g_free(corpus);
}

static const char *cell(Row *row, const char *name)
{
    gpointer at;

    if (!g_hash_table_lookup_extended(row->column, name, NULL, &at)) {
        if (row->error == NULL) {
            g_set_error(&row->error, FORE_ERROR, FORE_ERROR_INVALID, "no column '%s'", name);
        }
        return "";
    }
    return row->cells[GPOINTER_TO_UINT(at)];
}

/* NAN for an empty cell: not measured. */
static double number(Row *row, const char *name, Unit unit)
{
    const char *text = cell(row, name);
    char *end;
    double v;

    if (*text == '\0') {
        return NAN;
    }
    v = g_ascii_strtod(text, &end);
    if (*end != '\0' || !isfinite(v) || v < 0.0) {
        if (row->error == NULL) {
            g_set_error(&row->error, FORE_ERROR, FORE_ERROR_INVALID,
                        "line %u: %s is '%s', not a number from 0 on", row->line, name, text);
        }
        return NAN;
    }
    return unit == LOGARITHM ? expm1(v) : unit == THOUSANDTHS ? v / 1000.0 : v;
}

static void put(ForeSample *sample, ForeField field, double value)
{
    if (isfinite(value)) {
        sample->value[field] = value;
        sample->valid |= 1u << field;
    }
}

/* Three sums of the shares with signs that differ by bucket, as common/fore-page-sample.c. */
static void put_folds(const double *share, ForeSample *sample)
{
    static const unsigned masks[] = {0x15, 0x2a, 0x3f};

    for (unsigned m = 0; m < G_N_ELEMENTS(masks); m++) {
        double sum = 0.0;

        for (unsigned b = 0; b < FORE_TEST_SIGNATURE; b++) {
            sum += __builtin_parity(b & masks[m]) != 0 ? -share[b] : share[b];
        }
        put(sample, (ForeField)(FORE_FIELD_SIGNATURE_A + m), CLAMP(0.5 + 0.5 * sum, 0.0, 1.0));
    }
}

static void read_sample(Row *row, ForeSample *sample, double *signature)
{
    double mix[G_N_ELEMENTS(mixes)], all = 0.0;

    sample->mono_ns = (uint64_t)(number(row, "s", AS_IS) * 1e9);
    put(sample, FORE_FIELD_ONLINE_VCPUS, FORE_TEST_VCPUS);
    for (unsigned i = 0; i < G_N_ELEMENTS(plain); i++) {
        put(sample, plain[i].field, number(row, plain[i].name, plain[i].unit));
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(mixes); i++) {
        mix[i] = number(row, mixes[i], LOGARITHM);
        all += mix[i];
    }
    if (all > 0.0) {
        put(sample, FORE_FIELD_MIX_SIMD, mix[MIX_SIMD] / all);
        put(sample, FORE_FIELD_MIX_STRING, mix[MIX_STRING] / all);
    }
    for (unsigned b = 0; b < FORE_TEST_SIGNATURE; b++) {
        g_autofree char *name = g_strdup_printf("sig%u", b);

        signature[b] = number(row, name, THOUSANDTHS);
    }
    put_folds(signature, sample);
}

static void read_label(Row *row, ForeTestSecond *second)
{
    g_auto(GStrv) parts = g_strsplit(cell(row, "job"), ":", 2);

    second->kind = g_intern_string(parts[0] != NULL ? parts[0] : "");
    second->part = g_strcmp0(parts[0], "idle") == 0                      ? FORE_TEST_PART_IDLE
                   : parts[0] != NULL && g_strcmp0(parts[1], "run") == 0 ? FORE_TEST_PART_RUN
                                                                         : FORE_TEST_PART_PREPARE;
}

static bool read_rows(GDataInputStream *in, Row *row, GArray *samples, GArray *seconds,
                      GError **error)
{
    unsigned width = g_hash_table_size(row->column);
    char *line;

    while ((line = g_data_input_stream_read_line_utf8(in, NULL, NULL, error)) != NULL) {
        g_auto(GStrv) cells = g_strsplit(line, ",", 0);
        ForeSample sample = {.valid = 0};
        ForeTestSecond second = {.part = FORE_TEST_PART_IDLE};

        g_free(line);
        row->line++;
        row->cells = cells;
        if (g_strv_length(cells) != width) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "line %u has %u cells, not %u",
                        row->line, g_strv_length(cells), width);
            return false;
        }
        read_sample(row, &sample, second.signature);
        read_label(row, &second);
        if (row->error != NULL) {
            g_propagate_error(error, g_steal_pointer(&row->error));
            return false;
        }
        g_array_append_val(samples, sample);
        g_array_append_val(seconds, second);
    }
    return *error == NULL;
}

ForeTestCorpus *fore_test_corpus_new(const char *path, GError **error)
{
    g_autoptr(GFile) file = g_file_new_for_path(path);
    g_autoptr(GFileInputStream) raw = g_file_read(file, NULL, error);
    g_autoptr(GZlibDecompressor) gzip = g_zlib_decompressor_new(G_ZLIB_COMPRESSOR_FORMAT_GZIP);
    g_autoptr(GInputStream) text = NULL;
    g_autoptr(GDataInputStream) in = NULL;
    g_autoptr(GHashTable) column = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GArray) samples = g_array_new(FALSE, FALSE, sizeof(ForeSample));
    g_autoptr(GArray) seconds = g_array_new(FALSE, FALSE, sizeof(ForeTestSecond));
    g_autofree char *header = NULL;
    g_auto(GStrv) names = NULL;
    g_autoptr(GError) local = NULL;
    Row row = {.column = column, .line = 1};
    ForeTestCorpus *corpus;

    if (raw == NULL) {
        return NULL;
    }
    text = g_converter_input_stream_new(G_INPUT_STREAM(raw), G_CONVERTER(gzip));
    in = g_data_input_stream_new(text);
    header = g_data_input_stream_read_line_utf8(in, NULL, NULL, &local);
    names = g_strsplit(header != NULL ? header : "", ",", 0);
    for (unsigned i = 0; names[i] != NULL; i++) {
        g_hash_table_insert(column, names[i], GUINT_TO_POINTER(i));
    }
    if (local != NULL || !read_rows(in, &row, samples, seconds, &local)) {
        g_propagate_prefixed_error(error, g_steal_pointer(&local), "%s: ", path);
        return NULL;
    }
    corpus = g_new0(ForeTestCorpus, 1);
    corpus->n = samples->len;
    corpus->samples = (ForeSample *)(void *)g_array_free(g_steal_pointer(&samples), FALSE);
    corpus->seconds = (ForeTestSecond *)(void *)g_array_free(g_steal_pointer(&seconds), FALSE);
    return corpus;
}
