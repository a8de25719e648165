/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The plugin's arguments, as QEMU hands them over: "name=value" each. */
#include <glib.h>
#include <stdbool.h>

#include "common/fore-page.h"

#define FORE_PROFILER_MIN_MS 10
#define FORE_PROFILER_MAX_MS 10000

typedef struct {
    char *page;           /* absolute path of the page file */
    char *uuid;           /* canonical lower-case text, or NULL */
    unsigned interval_ms; /* FORE_PROFILER_MIN_MS..FORE_PROFILER_MAX_MS */
    ForePageLevel level;  /* standard when none is given */
} ForeProfilerArgs;

/**
 * fore_profiler_args_parse: check and take over all arguments
 * @argv: [@argc], each "name=value"
 * @ret: (out caller-allocates): to be freed with fore_profiler_args_done(), also on failure
 * @error: one line that names the argument, its value and what is accepted
 */
bool fore_profiler_args_parse(int argc, char **argv, ForeProfilerArgs *ret, GError **error);
void fore_profiler_args_done(ForeProfilerArgs *args);
