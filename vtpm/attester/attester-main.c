/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foresee-attester: see docs/man/foresee-attester.8 */
#include <glib-unix.h>
#include <stdio.h>

#include "common/fore-error.h"
#include "vtpm/attester/fore-attester.h"
#include "vtpm/host/fore-log.h"
#include "vtpm/tpm/fore-tpm.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_RUNNING = 4 };

static char *opt_config;
static gboolean opt_print_pin, opt_version;

static const GOptionEntry entries[] = {
    {"config", 'c', 0, G_OPTION_ARG_FILENAME, &opt_config, "Configuration", "FILE"},
    {"print-pin", 0, 0, G_OPTION_ARG_NONE, &opt_print_pin, "Print the pin of this attester's key",
     NULL},
    {"version", 0, 0, G_OPTION_ARG_NONE, &opt_version, "Print the version", NULL},
    {NULL},
};

static int fail(GError *error)
{
    int code = g_error_matches(error, FORE_ERROR, FORE_ERROR_EXISTS) ? EXIT_RUNNING : EXIT_FAILED;

    fprintf(stderr, "foresee-attester: %s\n", error->message);
    g_error_free(error);
    return code;
}

static int usage(const char *why)
{
    fprintf(stderr, "foresee-attester: %s; see foresee-attester --help\n", why);
    return EXIT_USAGE;
}

/* Says what TPM this is.  One that is away or busy now may be there when it is asked. */
static void look_at_tpm(const ForeAttesterConfig *config)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeTpm) tpm = fore_tpm_open(config->tcti, &error);

    if (tpm == NULL) {
        g_warning("no TPM yet: %s", error->message);
    } else if (fore_tpm_is_software(tpm)) {
        g_warning("SOFTWARE TPM at '%s': its evidence proves no hardware, and every quote says so",
                  config->tcti);
    } else {
        g_message("hardware TPM at '%s'", config->tcti);
    }
}

static gboolean on_signal(gpointer data)
{
    g_main_loop_quit(data);
    return G_SOURCE_CONTINUE;
}

static int serve(const ForeAttesterConfig *config, ForeIdentity *identity)
{
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    g_autoptr(ForeAttester) attester = NULL;
    GError *error = NULL;

    attester = fore_attester_new(g_main_context_default(), config, identity, &error);
    if (attester == NULL) {
        return fail(error);
    }
    g_unix_signal_add(SIGTERM, on_signal, loop);
    g_unix_signal_add(SIGINT, on_signal, loop);
    look_at_tpm(config);
    g_message("%s '%s' listening on %s, pin %s", fore_role_names[config->role], config->id,
              config->listen, fore_identity_pin(identity));
    g_main_loop_run(loop);
    g_message("stopping");
    return EXIT_OK;
}

int main(int argc, char **argv)
{
    g_autoptr(GOptionContext) options = g_option_context_new(NULL);
    g_autoptr(ForeAttesterConfig) config = NULL;
    g_autoptr(ForeIdentity) identity = NULL;
    GError *error = NULL;

    g_option_context_set_summary(options,
                                 "Delivers a node's TPM evidence, see foresee-attester(8).");
    g_option_context_add_main_entries(options, entries, NULL);
    if (!g_option_context_parse(options, &argc, &argv, &error)) {
        fprintf(stderr, "foresee-attester: %s; see foresee-attester --help\n", error->message);
        g_error_free(error);
        return EXIT_USAGE;
    }
    g_setenv("TSS2_LOG", "all+none", FALSE);
    fore_log_one_line();
    if (opt_version) {
        printf("foresee-attester " FORE_VERSION "\n");
        return EXIT_OK;
    }
    if (opt_config == NULL || argc > 1) {
        return usage(argc > 1 ? "it takes options only" : "--config is missing");
    }
    config = fore_attester_config_load(opt_config, &error);
    identity = config != NULL ? fore_attester_prepare(config, &error) : NULL;
    if (identity == NULL) {
        return fail(error);
    }
    if (opt_print_pin) {
        printf("%s\n", fore_identity_pin(identity));
        return EXIT_OK;
    }
    return serve(config, identity);
}
