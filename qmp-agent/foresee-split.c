/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp-agent/foresee-split.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "common/fore-error.h"

#define BAR        30
#define CHUNK      (1u << 16)
#define MAX_MEMORY (UINT64_C(4) << 30) /* bytes of samples of one folder */

static GInputStream *open_input(const char *path, GError **error)
{
    g_autoptr(GFile) file = g_file_new_for_path(path);
    g_autoptr(GFileInputStream) stream = g_file_read(file, NULL, error);
    g_autoptr(GZlibDecompressor) unpack = NULL;

    if (stream == NULL) {
        return NULL;
    }
    if (!g_str_has_suffix(path, ".gz")) {
        return G_INPUT_STREAM(g_steal_pointer(&stream));
    }
    unpack = g_zlib_decompressor_new(G_ZLIB_COMPRESSOR_FORMAT_GZIP);
    return g_converter_input_stream_new(G_INPUT_STREAM(stream), G_CONVERTER(unpack));
}

GBytes *fore_cli_file_read(const char *path, size_t max, GError **error)
{
    g_autoptr(GInputStream) stream = open_input(path, error);
    g_autoptr(GByteArray) all = g_byte_array_new();
    g_autofree guint8 *chunk = g_malloc(CHUNK);
    gssize n;

    if (stream == NULL) {
        return NULL;
    }
    while ((n = g_input_stream_read(stream, chunk, CHUNK, NULL, error)) > 0) {
        if (all->len + (size_t)n > max) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                        "%s: holds more than %zu MiB (unpacked); split it", path, max >> 20);
            return NULL;
        }
        g_byte_array_append(all, chunk, (guint)n);
    }
    if (n < 0) {
        g_prefix_error(error, "%s: ", path);
        return NULL;
    }
    return g_byte_array_free_to_bytes(g_steal_pointer(&all));
}

GPtrArray *fore_cli_split_load(const char *folder, GError **error)
{
    g_autofree char *index = g_build_filename(folder, "index.tsv", NULL);
    g_autoptr(GBytes) text = fore_cli_file_read(index, FORE_SPLIT_MAX_TEXT, error);
    g_autoptr(GPtrArray) traces = NULL;
    uint64_t memory = 0;

    if (text == NULL) {
        return NULL;
    }
    traces = fore_split_read_index(g_bytes_get_data(text, NULL), g_bytes_get_size(text), error);
    if (traces == NULL) {
        g_prefix_error(error, "%s: ", index);
        return NULL;
    }
    for (guint i = 0; i < traces->len; i++) {
        ForeTrace *trace = g_ptr_array_index(traces, i);
        g_autofree char *path = g_build_filename(folder, trace->file, NULL);
        g_autoptr(GBytes) csv = fore_cli_file_read(path, FORE_SPLIT_MAX_TEXT, error);

        memory += (uint64_t)trace->n * FORE_SERIES_METRICS * sizeof(double);
        if (csv != NULL && memory > MAX_MEMORY) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                        "%s: more than 4 GiB of samples; split the folder", index);
            return NULL;
        }
        if (csv == NULL) {
            return NULL;
        }
        if (!fore_split_read_csv(trace, g_bytes_get_data(csv, NULL), g_bytes_get_size(csv),
                                 error)) {
            g_prefix_error(error, "%s: ", path);
            return NULL;
        }
    }
    return g_steal_pointer(&traces);
}

bool fore_cli_output_open(ForeCliOutput *out, const char *path, GError **error)
{
    GFileOutputStream *stream;

    out->file = g_file_new_for_commandline_arg(path);
    stream = g_file_replace(out->file, NULL, FALSE, G_FILE_CREATE_REPLACE_DESTINATION, NULL, error);
    if (stream == NULL) {
        g_clear_object(&out->file);
        return false;
    }
    out->stream = G_OUTPUT_STREAM(stream);
    if (g_str_has_suffix(path, ".gz")) {
        g_autoptr(GZlibCompressor) pack = g_zlib_compressor_new(G_ZLIB_COMPRESSOR_FORMAT_GZIP, 3);

        out->stream = g_converter_output_stream_new(G_OUTPUT_STREAM(stream), G_CONVERTER(pack));
        g_object_unref(stream);
    }
    return true;
}

bool fore_cli_output_close(ForeCliOutput *out, bool keep, GError **error)
{
    g_autoptr(GCancellable) drop = g_cancellable_new();
    bool ok;

    if (!keep) {
        /* closing a replaced file under a cancelled operation leaves the old one in place */
        g_cancellable_cancel(drop);
    }
    ok = g_output_stream_close(out->stream, keep ? NULL : drop, keep ? error : NULL);
    g_clear_object(&out->stream);
    g_clear_object(&out->file);
    return ok || !keep;
}

void fore_cli_bar_show(ForeCliBar *bar, double done, const char *what)
{
    bool tty = isatty(STDERR_FILENO);
    gint64 now = g_get_monotonic_time();
    unsigned filled = (unsigned)(CLAMP(done, 0.0, 1.0) * BAR);
    g_autofree char *full = g_strnfill(filled, '#');
    g_autofree char *open = g_strnfill(BAR - filled, '.');
    double spent;

    if (bar->begun_us == 0) {
        bar->begun_us = now;
    }
    if (bar->quiet || (done < 1.0 && now - bar->shown_us < (tty ? 200000 : 10000000))) {
        return;
    }
    bar->shown_us = now;
    spent = (double)(now - bar->begun_us) * 1e-6;
    fprintf(stderr, "%s%s [%s%s] %3.0f %%  %s  ETA %.0f s%s", tty ? "\r" : "", bar->title, full,
            open, 100.0 * done, what, done > 0.01 ? spent * (1.0 - done) / done : 0.0,
            tty ? "\x1b[K" : "\n");
    if (tty && done >= 1.0) {
        fputc('\n', stderr);
    }
}
