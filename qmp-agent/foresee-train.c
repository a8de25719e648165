/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foresee train: starts it in foreseed and follows its progress. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "qmp-agent/foresee-cli.h"

#define BAR 30

static void print_progress(const json_t *p)
{
    double epoch = fore_cli_number(p, "epoch"), max = fore_cli_number(p, "max-epochs");
    unsigned filled = max > 0 ? (unsigned)(BAR * epoch / max) : 0;
    g_autofree char *done = g_strnfill(MIN(filled, BAR), '#');
    g_autofree char *open = g_strnfill(BAR - MIN(filled, BAR), '.');

    fprintf(stderr,
            "%s[%s%s] epoch %.0f/%.0f  loss %.4f  validation %.4f (best %.4f, last-value %.4f)  "
            "ETA %.0f s%s",
            isatty(STDERR_FILENO) ? "\r" : "", done, open, epoch, max, fore_cli_number(p, "loss"),
            fore_cli_number(p, "validation-loss"), fore_cli_number(p, "best"),
            fore_cli_number(p, "naive"), fore_cli_number(p, "eta-s"),
            isatty(STDERR_FILENO) ? "\x1b[K" : "\n");
}

/* Follows until MODEL comes. */
static int follow(ForeCli *cli, ForeClient *client)
{
    for (;;) {
        g_autoptr(GError) error = NULL;
        g_autoptr(json_t) event = fore_client_next_event(client, 600 * 1000, &error);
        const json_t *d = json_object_get(event, "data");
        const char *name = fore_cli_text(event, "event");
        if (event == NULL) {
            fprintf(stderr, "\nforesee: lost sight of the training: %s\n", error->message);
            return CLI_UNREACHABLE;
        }
        if (strcmp(name, "TRAIN") == 0) {
            print_progress(d);
        } else if (strcmp(name, "MODEL") == 0) {
            bool ok = json_is_true(json_object_get(d, "ok"));
            fprintf(stderr, "\n");
            if (cli->json) {
                fore_cli_print_json(d);
            } else {
                printf("%s\n", ok ? fore_cli_text(d, "model") : fore_cli_text(d, "reason"));
            }
            return ok ? CLI_OK : CLI_FAILED;
        }
    }
}

int fore_cli_train(ForeCli *cli, int argc, char **argv)
{
    gint epochs = 0, seed = -1;
    gboolean resume = FALSE;
    const GOptionEntry entries[] = {
        {"epochs", 0, 0, G_OPTION_ARG_INT, &epochs, "At most so many passes over the history", "N"},
        {"seed", 0, 0, G_OPTION_ARG_INT, &seed, "Seed of the random start", "N"},
        {"resume", 0, 0, G_OPTION_ARG_NONE, &resume, "Go on with the training that was interrupted",
         NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("[NAME]");
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeClient) client = NULL;
    g_autoptr(json_t) ret = NULL;
    json_t *arguments = NULL;

    for (int i = 1; i < argc; i++) {
        if (g_str_has_prefix(argv[i], "--data")) {
            return fore_cli_train_series(cli, argc, argv);
        }
    }
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        return fore_cli_usage("%s", error->message);
    }
    if (argc > 2 || epochs < 0) {
        return fore_cli_usage("train takes at most one VM's name, and --epochs above 0");
    }
    if (resume && (argc > 1 || epochs > 0 || seed >= 0)) {
        return fore_cli_usage("train --resume goes on as it began: no name, --epochs or --seed");
    }
    arguments = json_object();
    if (resume) {
        json_object_set_new(arguments, "resume", json_true());
    }
    if (argc == 2) {
        json_object_set_new(arguments, "name", json_string(argv[1]));
    }
    if (epochs > 0) {
        json_object_set_new(arguments, "epochs", json_integer(epochs));
    }
    if (seed >= 0) {
        json_object_set_new(arguments, "seed", json_integer(seed));
    }
    client = fore_cli_connect(cli);
    if (client == NULL) {
        json_decref(arguments);
        return CLI_UNREACHABLE;
    }
    ret = fore_client_call(client, "train", arguments, 10000, &error);
    if (ret == NULL) {
        fprintf(stderr, "foresee: %s\n", error->message);
        return CLI_FAILED;
    }
    return follow(cli, client);
}
