/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foresee-pam: see docs/man/foresee-pam.8 */
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/fore-error.h"
#include "vtpm/attest/fore-reference.h"
#include "vtpm/host/fore-log.h"
#include "vtpm/pam/fore-inventory-file.h"
#include "vtpm/pam/fore-inventory.h"
#include "vtpm/pam/fore-pam.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_UNTRUSTED = 3, EXIT_RUNNING = 4 };

static char *opt_config, *opt_export_key, *opt_export_next, *opt_sign, *opt_key, *opt_out,
    *opt_new_key;
static gboolean opt_print_pin, opt_verify_audit, opt_version;

static const GOptionEntry entries[] = {
    {"config", 'c', 0, G_OPTION_ARG_FILENAME, &opt_config, "Configuration", "FILE"},
    {"print-pin", 0, 0, G_OPTION_ARG_NONE, &opt_print_pin, "Print the pin of the channel key",
     NULL},
    {"export-key", 0, 0, G_OPTION_ARG_FILENAME, &opt_export_key,
     "Write the public key that verifies grants", "FILE"},
    {"export-next-key", 0, 0, G_OPTION_ARG_FILENAME, &opt_export_next,
     "Write the public key that will verify grants, while keys change", "FILE"},
    {"verify-audit", 0, 0, G_OPTION_ARG_NONE, &opt_verify_audit, "Check the audit log", NULL},
    {"new-policy-key", 0, 0, G_OPTION_ARG_FILENAME, &opt_new_key,
     "Make a policy key: FILE and FILE.pub", "FILE"},
    {"sign-reference", 0, 0, G_OPTION_ARG_FILENAME, &opt_sign, "Sign reference values", "TEXTFILE"},
    {"key", 0, 0, G_OPTION_ARG_FILENAME, &opt_key, "Private policy key to sign with", "PEM"},
    {"out", 0, 0, G_OPTION_ARG_FILENAME, &opt_out,
     "Where the signed document goes (else standard output)", "FILE"},
    {"version", 0, 0, G_OPTION_ARG_NONE, &opt_version, "Print the version", NULL},
    {NULL},
};

static int fail(GError *error)
{
    int code = g_error_matches(error, FORE_ERROR, FORE_ERROR_UNTRUSTED) ? EXIT_UNTRUSTED
               : g_error_matches(error, FORE_ERROR, FORE_ERROR_EXISTS)  ? EXIT_RUNNING
                                                                        : EXIT_FAILED;

    fprintf(stderr, "foresee-pam: %s\n", error->message);
    g_error_free(error);
    return code;
}

static int usage(const char *why)
{
    fprintf(stderr, "foresee-pam: %s; see foresee-pam --help\n", why);
    return EXIT_USAGE;
}

/* --- tools that need no configuration --- */

static int new_policy_key(const char *path)
{
    g_autofree char *public_path = g_strconcat(path, ".pub", NULL);
    g_autoptr(ForeIdentity) identity = NULL;
    GError *error = NULL;

    if (g_file_test(path, G_FILE_TEST_EXISTS)) {
        fprintf(stderr, "foresee-pam: '%s' exists; a policy key is not overwritten\n", path);
        return EXIT_FAILED;
    }
    identity = fore_identity_load_or_create(path, "foresee policy", &error);
    if (identity == NULL ||
        !fore_key_save_public(fore_identity_key(identity), public_path, &error)) {
        return fail(error);
    }
    printf("%s: keep it off this machine\n%s: policy-key of foresee-pam.conf\n", path, public_path);
    return EXIT_OK;
}

static int sign_reference(void)
{
    g_autofree char *text = NULL;
    g_autofree char *jws = NULL;
    g_autofree char *line = NULL;
    g_autoptr(ForeReference) reference = NULL;
    g_autoptr(ForeIdentity) key = NULL;
    GError *error = NULL;
    gsize size;

    if (opt_key == NULL) {
        return usage("--sign-reference needs --key");
    }
    if (!g_file_test(opt_key, G_FILE_TEST_EXISTS)) {
        return usage("the --key file does not exist (make one with --new-policy-key)");
    }
    if (!g_file_get_contents(opt_sign, &text, &size, &error)) {
        return fail(error);
    }
    reference = fore_reference_parse(text, size, &error);
    if (reference == NULL) {
        g_prefix_error(&error, "%s: ", opt_sign);
        return fail(error);
    }
    key = fore_identity_load_or_create(opt_key, "foresee policy", &error);
    jws = key != NULL ? fore_reference_sign(reference, fore_identity_key(key), &error) : NULL;
    if (jws == NULL) {
        return fail(error);
    }
    line = g_strconcat(jws, "\n", NULL);
    if (opt_out == NULL) {
        fputs(line, stdout);
    } else if (!g_file_set_contents(opt_out, line, -1, &error)) {
        return fail(error);
    }
    fprintf(stderr, "version %" G_GUINT64_FORMAT ", %zu values\n",
            fore_reference_version(reference), fore_reference_size(reference));
    return EXIT_OK;
}

/* --- with a configuration --- */

static int verify_audit(const ForePamConfig *config)
{
    GError *error = NULL;
    uint64_t lines;

    if (!fore_inventory_verify_audit(config->state_dir, config->tcti, &lines, &error)) {
        return fail(error);
    }
    printf("audit log is whole: %" G_GUINT64_FORMAT " lines\n", lines);
    return EXIT_OK;
}

static gboolean on_signal(gpointer data)
{
    g_main_loop_quit(data);
    return G_SOURCE_CONTINUE;
}

static int serve(const ForePamConfig *config, const ForePamKeys *keys)
{
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    g_autoptr(ForePam) pam = NULL;
    GError *error = NULL;

    pam = fore_pam_new(g_main_context_default(), config, keys, &error);
    if (pam == NULL) {
        return fail(error);
    }
    g_unix_signal_add(SIGTERM, on_signal, loop);
    g_unix_signal_add(SIGINT, on_signal, loop);
    g_message("listening on %s, pin %s", config->listen, fore_identity_pin(keys->channel));
    g_message("grants are signed by %s key %s",
              fore_key_kind_names[fore_key_kind_of(keys->signing)], fore_key_id(keys->signing));
    if (fore_key_kind_of(keys->signing) == FORE_KEY_FILE) {
        g_warning("INSECURE SOFTWARE KEY: whoever reads the state folder can sign grants; every "
                  "verdict says so");
    }
    if (config->allow_software_tpm) {
        g_warning("allow-software-tpm is on: a node's verdict proves no hardware");
    }
    if (config->agent_pins[0] == NULL && config->operator_pins[0] == NULL) {
        g_warning("no agent-pins and no operator-pins: nobody can speak to this PAM");
    }
    g_main_loop_run(loop);
    g_message("stopping");
    return EXIT_OK;
}

static int with_config(void)
{
    GError *error = NULL;
    g_autoptr(ForePamConfig) config = fore_pam_config_load(opt_config, &error);
    ForePamKeys keys;
    int code = EXIT_OK;

    if (config == NULL) {
        return fail(error);
    }
    if (opt_verify_audit) {
        return verify_audit(config);
    }
    if (!fore_pam_prepare(config, &keys, &error)) {
        return fail(error);
    }
    if (opt_print_pin) {
        printf("%s\n", fore_identity_pin(keys.channel));
    }
    if (opt_export_key != NULL &&
        !fore_key_save_public(fore_key_public(keys.signing), opt_export_key, &error)) {
        code = fail(error);
    }
    if (opt_export_next != NULL && keys.next == NULL) {
        code = usage("--export-next-key needs next-signing-key in the configuration");
    } else if (opt_export_next != NULL &&
               !fore_key_save_public(fore_key_public(keys.next), opt_export_next, &error)) {
        code = fail(error);
    }
    if (!opt_print_pin && opt_export_key == NULL && opt_export_next == NULL) {
        code = serve(config, &keys);
    }
    fore_pam_keys_done(&keys);
    return code;
}

int main(int argc, char **argv)
{
    g_autoptr(GOptionContext) options = g_option_context_new(NULL);
    GError *error = NULL;

    g_option_context_set_summary(options,
                                 "The attestation manager of Foresee, see foresee-pam(8).");
    g_option_context_add_main_entries(options, entries, NULL);
    if (!g_option_context_parse(options, &argc, &argv, &error)) {
        fprintf(stderr, "foresee-pam: %s; see foresee-pam --help\n", error->message);
        g_error_free(error);
        return EXIT_USAGE;
    }
    /* tpm2-tss writes a line for every byte it dislikes (ATTACKS: verbose TSS logging) */
    g_setenv("TSS2_LOG", "all+none", FALSE);
    fore_log_one_line();
    if (opt_version) {
        printf("foresee-pam " FORE_VERSION "\n");
        return EXIT_OK;
    }
    if (argc > 1) {
        return usage("it takes options only");
    }
    if (opt_new_key != NULL) {
        return new_policy_key(opt_new_key);
    }
    if (opt_sign != NULL) {
        return sign_reference();
    }
    return opt_config != NULL ? with_config() : usage("--config is missing");
}
