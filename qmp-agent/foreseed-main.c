/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/fore-error.h"
#include "qmp-agent/fore-control.h"

/* Exit codes, as foreseed(8) lists them. */
enum {
    EXIT_USAGE = 2,
    EXIT_CONFIG = 3,
    EXIT_RUNNING = 4,
    EXIT_UNAVAILABLE_NOW = 5,
    EXIT_NOT_TRUSTED = 6
};

static gboolean on_signal(gpointer data)
{
    g_main_loop_quit(data);
    return G_SOURCE_CONTINUE;
}

static int exit_code(const GError *error)
{
    switch (error->domain == FORE_ERROR ? error->code : FORE_ERROR_FAILED) {
    case FORE_ERROR_EXISTS:
        return EXIT_RUNNING;
    case FORE_ERROR_UNTRUSTED:
        return EXIT_NOT_TRUSTED;
    case FORE_ERROR_INVALID:
    case FORE_ERROR_NOT_FOUND:
        return EXIT_CONFIG;
    default:
        return EXIT_UNAVAILABLE_NOW;
    }
}

static int fail(const GError *error)
{
    fprintf(stderr, "foreseed: %s\n", error->message);
    return exit_code(error);
}

static int run(const char *config_path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    ForeConfig *config = fore_config_load(config_path, &error);
    ForeAgent *agent;
    ForeControl *control;

    if (config == NULL) {
        return fail(error);
    }
    agent = fore_agent_new(g_main_context_default(), config, &error);
    if (agent == NULL) {
        return fail(error);
    }
    control = fore_control_new(agent, &error);
    if (control == NULL) {
        fore_agent_free(agent);
        return fail(error);
    }
    g_unix_signal_add(SIGTERM, on_signal, loop);
    g_unix_signal_add(SIGINT, on_signal, loop);
    fprintf(stderr, "foreseed: ready on %s\n", fore_agent_config(agent)->control);
    g_main_loop_run(loop);
    fprintf(stderr, "foreseed: stopping; guests keep what they have\n");
    fore_control_free(control);
    fore_agent_free(agent);
    return EXIT_SUCCESS;
}

static int print_pin(const char *config_path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeConfig) config = fore_config_load(config_path, &error);
    g_autofree char *path = NULL;
    g_autoptr(ForeIdentity) id = NULL;

    if (config == NULL) {
        return fail(error);
    }
    g_mkdir_with_parents(config->state_dir, 0700);
    path = g_build_filename(config->state_dir, "identity.pem", NULL);
    id = fore_identity_load_or_create(path, "foreseed", &error);
    if (id == NULL) {
        return fail(error);
    }
    printf("%s\n", fore_identity_pin(id));
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    g_autofree char *config_path = NULL;
    gboolean version = FALSE, pin = FALSE;
    const GOptionEntry entries[] = {
        {"config", 'c', 0, G_OPTION_ARG_FILENAME, &config_path, "Configuration file", "FILE"},
        {"print-pin", 0, 0, G_OPTION_ARG_NONE, &pin,
         "Print the pin of this host agent's key and exit", NULL},
        {"version", 0, 0, G_OPTION_ARG_NONE, &version, "Print the version and exit", NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) options = g_option_context_new("- Foresee host agent");
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(options, entries, NULL);
    g_option_context_set_description(options, "See foreseed(8).\n");
    if (!g_option_context_parse(options, &argc, &argv, &error)) {
        fprintf(stderr, "foreseed: %s; try --help\n", error->message);
        return EXIT_USAGE;
    }
    if (argc > 1) {
        fprintf(stderr, "foreseed: unexpected argument '%s'; try --help\n", argv[1]);
        return EXIT_USAGE;
    }
    if (version) {
        printf("foreseed %s\n", FORE_VERSION);
        return EXIT_SUCCESS;
    }
    if (config_path == NULL && g_file_test("/etc/foresee/foreseed.conf", G_FILE_TEST_EXISTS)) {
        config_path = g_strdup("/etc/foresee/foreseed.conf");
    }
    signal(SIGPIPE, SIG_IGN);
    return pin ? print_pin(config_path) : run(config_path);
}
