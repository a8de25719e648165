/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foresee anomaly list: what foreseed recorded, by time and score. */
#include <stdio.h>
#include <string.h>

#include "common/fore-error.h"
#include "qmp-agent/foresee-cli.h"

#define NIGHT_FROM 20 /* hours of local time: "last night" lasts from here */
#define NIGHT_TO   8  /* to here */

typedef struct {
    char *since, *until;
    gboolean night;
    double min_score;
    gint limit;
} Options;

/* "90m", "12h", "7d" ago, or a date and time (local unless it says otherwise) */
static bool to_ms(const char *text, int64_t *ret)
{
    g_autoptr(GTimeZone) local = g_time_zone_new_local();
    g_autoptr(GDateTime) date = NULL, now = g_date_time_new_now_local();
    g_autofree char *full = NULL;
    char *end;
    double n = g_ascii_strtod(text, &end);
    const char *unit = end != text && strlen(end) == 1 ? strchr("smhd", *end) : NULL;
    static const double seconds[] = {1, 60, 3600, 86400};

    if (unit != NULL && n >= 0 && n < 1e6) {
        double ms = 1000 * n * seconds[unit - "smhd"];
        *ret = (int64_t)MAX((double)g_date_time_to_unix(now) * 1000 - ms, 0);
        return true;
    }
    full = strlen(text) == 10 ? g_strconcat(text, "T00:00:00", NULL) : g_strdup(text);
    date = g_date_time_new_from_iso8601(full, local);
    if (date == NULL) {
        return false;
    }
    *ret = MAX(g_date_time_to_unix(date), 0) * 1000;
    return true;
}

/* The night that is over or under way, local time */
static void last_night(int64_t *ret_from, int64_t *ret_to)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local(), day = NULL, from = NULL, to = NULL;
    int back = g_date_time_get_hour(now) >= NIGHT_FROM ? 0 : -1;

    day = g_date_time_add_days(now, back);
    from = g_date_time_new_local(g_date_time_get_year(day), g_date_time_get_month(day),
                                 g_date_time_get_day_of_month(day), NIGHT_FROM, 0, 0);
    to = g_date_time_add_hours(from, 24 - NIGHT_FROM + NIGHT_TO);
    *ret_from = g_date_time_to_unix(from) * 1000;
    *ret_to = g_date_time_to_unix(to) * 1000;
}

static void print_rows(const json_t *rows)
{
    const json_t *row;
    size_t i;

    json_array_foreach (rows, i, row) {
        double from = fore_cli_number(row, "from-ms"), to = fore_cli_number(row, "to-ms");
        g_autoptr(GDateTime) at = g_date_time_new_from_unix_local((gint64)(from / 1000));
        g_autofree char *when =
            at != NULL ? g_date_time_format(at, "%Y-%m-%d %H:%M:%S") : g_strdup("?");
        printf("%-19s  %7.0f s  %.2f  %-16s  %-7s  %s\n", when, (to - from) / 1000,
               fore_cli_number(row, "score"), fore_cli_text(row, "name"),
               fore_cli_text(row, "source"), fore_cli_text(row, "reason"));
    }
}

/* The range as arguments of query-anomalies, or NULL (usage printed) */
static json_t *range_of(const Options *o)
{
    int64_t from = 0, to = INT64_MAX;

    if (o->night && (o->since != NULL || o->until != NULL)) {
        fore_cli_usage("--last-night goes with neither --since nor --until");
        return NULL;
    }
    if (o->night) {
        last_night(&from, &to);
    }
    if ((o->since != NULL && !to_ms(o->since, &from)) ||
        (o->until != NULL && !to_ms(o->until, &to))) {
        fore_cli_usage("a time reads 2h, 7d or 2026-05-01T18:00:00");
        return NULL;
    }
    return json_pack("{s:I,s:I,s:f,s:i}", "from-ms", (json_int_t)from, "to-ms", (json_int_t)to,
                     "min-score", o->min_score, "limit", o->limit);
}

static int list(ForeCli *cli, const Options *o, const char *vm)
{
    json_t *arguments = range_of(o);
    g_autoptr(json_t) ret = NULL;
    const json_t *rows;
    int code = CLI_USAGE;

    if (arguments == NULL) {
        return CLI_USAGE;
    }
    if (vm != NULL) {
        json_object_set_new(arguments, "name", json_string(vm));
    }
    ret = fore_cli_call(cli, "query-anomalies", arguments, 30000, &code);
    if (ret == NULL) {
        return code;
    }
    rows = json_object_get(ret, "anomalies");
    if (cli->json) {
        fore_cli_print_json(ret);
    } else if (json_array_size(rows) == 0) {
        printf("no anomalies in that time\n");
    } else {
        print_rows(rows);
        if (json_is_true(json_object_get(ret, "more"))) {
            fprintf(stderr, "foresee: there may be more; narrow it with --since or --min-score\n");
        }
    }
    return code;
}

int fore_cli_anomaly_list(ForeCli *cli, int argc, char **argv)
{
    Options o = {.limit = 500};
    const GOptionEntry entries[] = {
        {"since", 0, 0, G_OPTION_ARG_STRING, &o.since,
         "That began after it: 2h, 7d, 2026-05-01T18:00:00", "TIME"},
        {"until", 0, 0, G_OPTION_ARG_STRING, &o.until, "and before it", "TIME"},
        {"last-night", 0, 0, G_OPTION_ARG_NONE, &o.night, "From 20:00 to 08:00, local time", NULL},
        {"min-score", 0, 0, G_OPTION_ARG_DOUBLE, &o.min_score, "At least so unusual, 0 to 1", "X"},
        {"limit", 0, 0, G_OPTION_ARG_INT, &o.limit, "At most so many, oldest first (500)", "N"},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("list [VM] - recorded anomalies");
    g_autoptr(GError) error = NULL;
    int code;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        code = fore_cli_usage("%s", error->message);
    } else if (argc > 2) {
        code = fore_cli_usage("anomaly list takes at most one VM's name");
    } else if (!(o.min_score >= 0 && o.min_score <= 1) || o.limit < 1 || o.limit > 500) {
        code = fore_cli_usage("--min-score is 0 to 1 and --limit 1 to 500");
    } else {
        code = list(cli, &o, argc == 2 ? argv[1] : NULL);
    }
    g_free(o.since);
    g_free(o.until);
    return code;
}
