/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemu-plugin/fore-profiler-args.h"

#include <limits.h>
#include <string.h>

#include "common/fore-page.h"

/* The plugin links nothing of ours, so its errors are of GLib's file domain; the one who reads them
 * is the person at the QEMU command line. */
#define REFUSE(error, ...) g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, __VA_ARGS__)

static bool take_page(const char *value, ForeProfilerArgs *args, GError **error)
{
    if (args->page != NULL) {
        REFUSE(error, "page= is given twice: give it once");
        return false;
    }
    if (!g_path_is_absolute(value) || strlen(value) >= PATH_MAX || g_str_has_suffix(value, "/")) {
        REFUSE(error,
               "page=%s: must be the absolute path of a file, such as "
               "/run/foresee/page/NAME",
               value);
        return false;
    }
    args->page = g_strdup(value);
    return true;
}

static bool take_uuid(const char *value, ForeProfilerArgs *args, GError **error)
{
    if (args->uuid != NULL) {
        REFUSE(error, "uuid= is given twice: give it once");
        return false;
    }
    if (!g_uuid_string_is_valid(value)) {
        REFUSE(error, "uuid=%s: must be a UUID such as 6d1c7b1e-98c4-4c09-9d6f-2f6a3a2b0c11",
               value);
        return false;
    }
    args->uuid = g_ascii_strdown(value, -1);
    return true;
}

static bool take_interval(const char *value, ForeProfilerArgs *args, GError **error)
{
    guint64 ms = 0;

    if (args->interval_ms != 0) {
        REFUSE(error, "interval= is given twice: give it once");
        return false;
    }
    if (!g_ascii_string_to_unsigned(value, 10, FORE_PROFILER_MIN_MS, FORE_PROFILER_MAX_MS, &ms,
                                    NULL)) {
        REFUSE(error, "interval=%s: must be a whole number of milliseconds, %d to %d", value,
               FORE_PROFILER_MIN_MS, FORE_PROFILER_MAX_MS);
        return false;
    }
    args->interval_ms = (unsigned)ms;
    return true;
}

static bool take_profile(const char *value, ForeProfilerArgs *args, bool *given, GError **error)
{
    static const char *const levels[FORE_PAGE_LEVEL_N] = {"lean", "standard", "full"};

    if (*given) {
        REFUSE(error, "profile= is given twice: give it once");
        return false;
    }
    for (int i = 0; i < FORE_PAGE_LEVEL_N; i++) {
        if (strcmp(value, levels[i]) == 0) {
            args->level = (ForePageLevel)i;
            *given = true;
            return true;
        }
    }
    REFUSE(error, "profile=%s: unknown, use profile=lean, profile=standard or profile=full", value);
    return false;
}

static bool take_argument(const char *arg, ForeProfilerArgs *args, bool *has_profile,
                          GError **error)
{
    if (g_str_has_prefix(arg, "page=")) {
        return take_page(arg + strlen("page="), args, error);
    }
    if (g_str_has_prefix(arg, "uuid=")) {
        return take_uuid(arg + strlen("uuid="), args, error);
    }
    if (g_str_has_prefix(arg, "interval=")) {
        return take_interval(arg + strlen("interval="), args, error);
    }
    if (g_str_has_prefix(arg, "profile=")) {
        return take_profile(arg + strlen("profile="), args, has_profile, error);
    }
    REFUSE(error,
           "unknown argument \"%s\": known are page=PATH, uuid=UUID, interval=MS and "
           "profile=lean|standard|full",
           arg);
    return false;
}

bool fore_profiler_args_parse(int argc, char **argv, ForeProfilerArgs *ret, GError **error)
{
    bool has_profile = false;

    memset(ret, 0, sizeof(*ret));
    ret->level = FORE_PAGE_LEVEL_STANDARD;
    for (int i = 0; i < argc; i++) {
        if (!take_argument(argv[i], ret, &has_profile, error)) {
            return false;
        }
    }
    if (ret->page == NULL) {
        REFUSE(error, "page=PATH is missing: say where to publish, such as "
                      "page=/run/foresee/page/NAME");
        return false;
    }
    if (ret->interval_ms == 0) {
        ret->interval_ms = FORE_PAGE_INTERVAL_MS;
    }
    return true;
}

void fore_profiler_args_done(ForeProfilerArgs *args)
{
    g_clear_pointer(&args->page, g_free);
    g_clear_pointer(&args->uuid, g_free);
}
