/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foresee forecast|attest|ledger|events|explain|status */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/fore-error.h"
#include "qmp-agent/foresee-cli.h"

static const char *const resources[] = {"vcpu", "mem", NULL};

/* Calls @command with the one argument NAME; prints JSON when asked; else the caller prints. */
static json_t *query(ForeCli *cli, int argc, char **argv, const char *command, unsigned timeout_ms,
                     int *code)
{
    json_t *ret;

    if (argc != 2) {
        *code = fore_cli_usage("%s takes one VM's name", argv[0]);
        return NULL;
    }
    ret = fore_cli_call(cli, command, json_pack("{s:s}", "name", argv[1]), timeout_ms, code);
    if (ret != NULL && cli->json) {
        fore_cli_print_json(ret);
    }
    return ret;
}

static void print_amount(const char *resource, double v)
{
    g_autofree char *text =
        strcmp(resource, "mem") == 0 ? fore_cli_size(v) : g_strdup_printf("%.2f", v);

    printf(" %10s", text);
}

static void print_table(const json_t *fc, const char *resource)
{
    const json_t *rows = json_object_get(json_object_get(fc, "peak"), resource);
    json_t *row, *cell, *q;
    size_t i, j;

    printf("%s: highest demand within\n%10s", resource, "");
    json_array_foreach (json_object_get(fc, "quantiles"), j, q) {
        printf("        P%02.0f", 100 * json_number_value(q));
    }
    putchar('\n');
    json_array_foreach (rows, i, row) {
        printf("%8.0f s", fore_cli_number(fc, "step-s") * json_number_value(json_array_get(
                                                              json_object_get(fc, "horizons"), i)));
        json_array_foreach (row, j, cell) {
            print_amount(resource, json_number_value(cell));
        }
        putchar('\n');
    }
}

int fore_cli_forecast(ForeCli *cli, int argc, char **argv)
{
    int code;
    g_autoptr(json_t) ret = query(cli, argc, argv, "query-forecast", 5000, &code);

    if (ret == NULL || cli->json) {
        return code;
    }
    if (!json_is_true(json_object_get(ret, "valid"))) {
        printf("%s has no forecast yet: train a model (foresee train) and let it run for a few "
               "seconds; until "
               "then the reactive rule alone decides\n",
               argv[1]);
        return CLI_OK;
    }
    if (json_is_true(json_object_get(ret, "demoted"))) {
        printf("The forecaster is demoted: its loss is behind its baseline, so it is not used.\n");
    }
    for (const char *const *r = resources; *r != NULL; r++) {
        print_table(ret, *r);
    }
    return CLI_OK;
}

static void print_verdict(const json_t *ret)
{
    json_t *node, *reason;
    size_t i, j;

    printf("%s: %s\n", fore_cli_text(ret, "name"), fore_cli_text(ret, "verdict"));
    json_array_foreach (json_object_get(ret, "nodes"), i, node) {
        printf("  %-20s %-12s %s", fore_cli_text(node, "id"), fore_cli_text(node, "role"),
               fore_cli_text(node, "verdict"));
        json_array_foreach (json_object_get(node, "reasons"), j, reason) {
            printf(" %s", json_string_value(reason));
        }
        putchar('\n');
    }
}

int fore_cli_attest(ForeCli *cli, int argc, char **argv)
{
    int code;
    bool last = argc == 3 && strcmp(argv[2], "--last") == 0;
    g_autoptr(json_t) ret = query(cli, last ? argc - 1 : argc, argv,
                                  last ? "query-attestation" : "attest", 20000, &code);

    if (ret == NULL) {
        return code;
    }
    if (!cli->json) {
        print_verdict(ret);
    }
    return strcmp(fore_cli_text(ret, "verdict"), "affirming") == 0 ? CLI_OK : CLI_NOT_AFFIRMED;
}

int fore_cli_ledger(ForeCli *cli, int argc, char **argv)
{
    int code;
    g_autoptr(json_t) ret = NULL;
    json_t *e;
    size_t i;

    if (argc > 2) {
        return fore_cli_usage("ledger takes at most one VM's name");
    }
    ret = fore_cli_call(cli, "query-ledger", argc == 2 ? json_pack("{s:s}", "name", argv[1]) : NULL,
                        5000, &code);
    if (ret == NULL || cli->json) {
        if (ret != NULL) {
            fore_cli_print_json(ret);
        }
        return code;
    }
    printf("%6s %-16s %-8s %-10s %10s %10s %8s  %s\n", "ID", "VM", "RESOURCE", "STATE", "FROM",
           "TO", "AGE s", "REASON");
    json_array_foreach (json_object_get(ret, "entries"), i, e) {
        const char *r = fore_cli_text(e, "resource");
        printf("%6.0f %-16s %-8s %-10s", fore_cli_number(e, "id"), fore_cli_text(e, "vm"), r,
               fore_cli_text(e, "state"));
        print_amount(r, fore_cli_number(e, "from"));
        print_amount(r, fore_cli_number(e, "to"));
        printf(" %8.0f  %s\n", fore_cli_number(e, "age-s"), fore_cli_text(e, "reason"));
    }
    for (const char *const *r = resources; *r != NULL; r++) {
        printf("promised %s:", *r);
        print_amount(*r, fore_cli_number(json_object_get(ret, "promised"), *r));
        printf(" of");
        print_amount(*r, fore_cli_number(json_object_get(ret, "capacity"), *r));
        putchar('\n');
    }
    return CLI_OK;
}

static void print_event(const ForeCli *cli, const json_t *event)
{
    const json_t *d = json_object_get(event, "data");
    double at = json_object_get(event, "time") != NULL ? fore_cli_number(event, "time")
                                                       : fore_cli_number(event, "timestamp");
    time_t s = (time_t)at;
    struct tm tm;
    char when[32];
    g_autofree char *data = fore_json_dump_line(d);

    if (cli->json) {
        json_dumpf(event, stdout, JSON_COMPACT);
        putchar('\n');
    } else {
        localtime_r(&s, &tm);
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
        printf("%s %-10s %s\n", when, fore_cli_text(event, "event"), data);
    }
    fflush(stdout);
}

static int past_events(ForeCli *cli, int64_t after)
{
    for (;;) {
        int code;
        g_autoptr(json_t) ret = fore_cli_call(
            cli, "query-events", json_pack("{s:I}", "after-id", (json_int_t)after), 10000, &code);
        json_t *event, *list = json_object_get(ret, "events");
        size_t i;
        if (ret == NULL || json_array_size(list) == 0) {
            return code;
        }
        json_array_foreach (list, i, event) {
            print_event(cli, event);
            after = json_integer_value(json_object_get(event, "id"));
        }
    }
}

static int follow_events(ForeCli *cli)
{
    g_autoptr(ForeClient) client = fore_cli_connect(cli);

    if (client == NULL) {
        return CLI_UNREACHABLE;
    }
    for (;;) {
        g_autoptr(GError) error = NULL;
        g_autoptr(json_t) event = fore_client_next_event(client, 3600 * 1000, &error);
        if (event != NULL) {
            print_event(cli, event);
        } else if (!g_error_matches(error, FORE_ERROR, FORE_ERROR_TIMEOUT)) {
            fprintf(stderr, "foresee: foreseed went away: %s\n", error->message);
            return CLI_UNREACHABLE;
        }
    }
}

int fore_cli_events(ForeCli *cli, int argc, char **argv)
{
    gboolean follow = FALSE;
    gint64 after = 0;
    const GOptionEntry entries[] = {
        {"follow", 'f', 0, G_OPTION_ARG_NONE, &follow, "Follow what happens", NULL},
        {"after", 0, 0, G_OPTION_ARG_INT64, &after, "Only events after this id", "ID"},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        return fore_cli_usage("%s", error->message);
    }
    if (argc > 1) {
        return fore_cli_usage("events takes no argument '%s'", argv[1]);
    }
    return follow ? follow_events(cli) : past_events(cli, after);
}

int fore_cli_explain(ForeCli *cli, int argc, char **argv)
{
    static const char *const terms[] = {"actual", "predicted",  "error",    "p",        "i",
                                        "d",      "adjustment", "forecast", "reactive", "target"};
    int code;
    g_autoptr(json_t) ret = query(cli, argc, argv, "explain", 5000, &code);

    if (ret == NULL || cli->json) {
        return code;
    }
    printf("%s, %.1f s ago: %s\n", argv[1], fore_cli_number(ret, "age-s"),
           fore_cli_text(ret, "decision"));
    printf("lead time %.2f s; forecast %s; re-attest %s\n", fore_cli_number(ret, "lead-s"),
           json_is_true(json_object_get(ret, "forecast-used")) ? "used" : "not used",
           json_is_true(json_object_get(ret, "reattest")) ? "yes" : "no");
    printf("%-12s %10s %10s\n", "", "vcpu", "mem");
    for (unsigned i = 0; i < G_N_ELEMENTS(terms); i++) {
        printf("%-12s", terms[i]);
        for (const char *const *r = resources; *r != NULL; r++) {
            print_amount(*r, fore_cli_number(json_object_get(ret, *r), terms[i]));
        }
        putchar('\n');
    }
    return CLI_OK;
}

int fore_cli_status(ForeCli *cli, int argc, char **argv)
{
    int code;
    g_autoptr(json_t) ret = NULL;
    const json_t *store, *model, *pam;

    if (argc > 1) {
        return fore_cli_usage("status takes no argument");
    }
    ret = fore_cli_call(cli, "query-status", NULL, 5000, &code);
    if (ret == NULL || cli->json) {
        if (ret != NULL) {
            fore_cli_print_json(ret);
        }
        return code;
    }
    store = json_object_get(ret, "store");
    model = json_object_get(ret, "model");
    pam = json_object_get(ret, "pam");
    printf("foreseed %s, up %.0f s, %.0f VMs, pin %s\n", fore_cli_text(ret, "version"),
           fore_cli_number(ret, "uptime-s"), fore_cli_number(ret, "vms"),
           fore_cli_text(ret, "pin"));
    printf("store: %s%s, %.0f samples in %.0f bytes, %.0f lost\n",
           json_is_true(json_object_get(store, "ok")) ? "ok" : "memory only: ",
           json_is_true(json_object_get(store, "ok")) ? "" : fore_cli_text(store, "reason"),
           fore_cli_number(store, "samples"), fore_cli_number(store, "bytes"),
           fore_cli_number(store, "lost-samples"));
    printf("model: %s %s\n", json_is_true(json_object_get(model, "trained")) ? "trained" : "none",
           fore_cli_text(model, "facts"));
    printf("PAM: %s%s\n",
           json_is_true(json_object_get(pam, "ok")) ? "connected" : "not connected: ",
           json_is_true(json_object_get(pam, "ok")) ? "" : fore_cli_text(pam, "reason"));
    return CLI_OK;
}
