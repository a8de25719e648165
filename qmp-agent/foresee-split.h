/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What `foresee backtest` and `foresee train --data` share: reading a folder of traces, writing
 * (packed) files whole or not at all, a progress bar. */
#include <gio/gio.h>
#include <stdbool.h>

#include "forecast/fore-split.h"

/**
 * fore_cli_split_load: index.tsv of @folder and every file it names
 * Returns: (transfer full) (element-type ForeTrace), or NULL with @error naming the file
 */
GPtrArray *fore_cli_split_load(const char *folder, GError **error);

/**
 * fore_cli_file_read: at most @max bytes of @path, unpacked when it ends in .gz
 * Errors: FORE_ERROR_LIMIT (longer than @max), or the world's (G_IO_ERROR)
 */
GBytes *fore_cli_file_read(const char *path, size_t max, GError **error);

/* A file that appears under its name when it is complete. */
typedef struct {
    GFile *file;
    GOutputStream *stream; /* packs when the name ends in .gz */
} ForeCliOutput;
bool fore_cli_output_open(ForeCliOutput *out, const char *path, GError **error);
/** fore_cli_output_close: @keep false: the old file, if any, stays as it was */
bool fore_cli_output_close(ForeCliOutput *out, bool keep, GError **error);

typedef struct {
    gint64 begun_us, shown_us;
    const char *title;
    bool quiet;
} ForeCliBar;
/** fore_cli_bar_show: @done: 0..1; on a terminal in place, else a line every 10 s */
void fore_cli_bar_show(ForeCliBar *bar, double done, const char *what);
