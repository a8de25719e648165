/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foresee policy: reference manifests as files (foresee-policy(5)): check, sign, show, learn. */
#include <stdio.h>
#include <string.h>

#include "common/fore-error.h"
#include "common/fore-identity.h"
#include "qmp-agent/foresee-cli.h"
#include "vtpm/attest/fore-rule.h"

static int fail(GError *error, const char *path)
{
    fprintf(stderr, "foresee: %s: %s\n", path, error->message);
    g_error_free(error);
    return CLI_FAILED;
}

static char *read_file(const char *path, gsize *ret_size)
{
    g_autoptr(GError) error = NULL;
    char *text = NULL;

    if (!g_file_get_contents(path, &text, ret_size, &error)) {
        fprintf(stderr, "foresee: %s\n", error->message);
    }
    return text;
}

/* Text that parses and whose rules make sense together. */
static ForeReference *load_text(const char *path, int *ret_code)
{
    gsize size = 0;
    g_autofree char *text = read_file(path, &size);
    GError *error = NULL;
    g_autoptr(ForeReference) ref = NULL;
    g_autoptr(ForeRules) rules = NULL;

    *ret_code = CLI_FAILED;
    if (text == NULL) {
        return NULL;
    }
    ref = fore_reference_parse(text, size, &error);
    rules = ref != NULL ? fore_rules_compile(ref, &error) : NULL;
    if (rules == NULL) {
        *ret_code = fail(error, path);
        return NULL;
    }
    *ret_code = CLI_OK;
    return g_steal_pointer(&ref);
}

/* --- check --- */

static bool count_excluded(ForeReferenceScope scope, const char *id, char *const *words,
                           gpointer data)
{
    unsigned *n = data;

    if (strcmp(words[0], "ima") == 0 && strcmp(words[1], "exclude") == 0) {
        fprintf(stderr, "foresee: %s %s: blind spot: nothing under %s is looked at\n",
                fore_reference_scope_names[scope], id, words[2]);
        (*n)++;
    }
    return true;
}

static int check(ForeCli *cli, const char *path)
{
    int code;
    g_autoptr(ForeReference) ref = load_text(path, &code);
    g_autoptr(json_t) answer = NULL;
    unsigned blind = 0;

    if (ref == NULL) {
        return code;
    }
    fore_reference_each_rule(ref, count_excluded, &blind);
    answer =
        json_pack("{s:I, s:I, s:I}", "version", (json_int_t)fore_reference_version(ref), "lines",
                  (json_int_t)fore_reference_size(ref), "blind-spots", (json_int_t)blind);
    if (cli->json) {
        fore_cli_print_json(answer);
    } else {
        printf("%s: version %" G_GUINT64_FORMAT ", %zu lines, %u blind spots\n", path,
               fore_reference_version(ref), fore_reference_size(ref), blind);
    }
    return CLI_OK;
}

/* --- sign --- */

static int write_out(const char *jws, const char *out)
{
    g_autofree char *line = g_strconcat(jws, "\n", NULL);
    g_autoptr(GError) error = NULL;

    if (out == NULL) {
        fputs(line, stdout);
    } else if (!g_file_set_contents(out, line, -1, &error)) {
        fprintf(stderr, "foresee: %s\n", error->message);
        return CLI_FAILED;
    }
    return CLI_OK;
}

static int sign(const char *path, const char *key_path, const char *out)
{
    int code;
    g_autoptr(ForeReference) ref = load_text(path, &code);
    g_autoptr(ForeIdentity) key = NULL;
    g_autofree char *jws = NULL;
    GError *error = NULL;

    if (ref == NULL) {
        return code;
    }
    if (!g_file_test(key_path, G_FILE_TEST_EXISTS)) {
        return fore_cli_usage("--key %s does not exist; make one with foresee-pam "
                              "--new-policy-key",
                              key_path);
    }
    key = fore_identity_load_or_create(key_path, "foresee policy", &error);
    jws = key != NULL ? fore_reference_sign(ref, fore_identity_key(key), &error) : NULL;
    if (jws == NULL) {
        return fail(error, key_path);
    }
    code = write_out(jws, out);
    fprintf(stderr, "foresee: signed version %" G_GUINT64_FORMAT ", %zu lines\n",
            fore_reference_version(ref), fore_reference_size(ref));
    return code;
}

/* --- show --- */

static int show_signed(const char *path, const char *key_path)
{
    gsize size = 0;
    g_autofree char *jws = read_file(path, &size);
    g_autofree char *text = NULL;
    g_autoptr(ForeReference) ref = NULL;
    GError *error = NULL;
    EVP_PKEY *key;

    if (jws == NULL) {
        return CLI_FAILED;
    }
    key = fore_key_load_public(key_path, &error);
    if (key == NULL) {
        return fail(error, key_path);
    }
    ref = fore_reference_verify(g_strstrip(jws), key, &error);
    EVP_PKEY_free(key);
    if (ref == NULL) {
        return fail(error, path);
    }
    text = fore_reference_format(ref);
    fputs(text, stdout);
    return CLI_OK;
}

/* In one order and one spelling, so that two of them can be compared by diff(1). */
static int show_text(const char *path)
{
    int code;
    g_autoptr(ForeReference) ref = load_text(path, &code);
    g_autofree char *text = ref != NULL ? fore_reference_format(ref) : NULL;

    if (text != NULL) {
        fputs(text, stdout);
    }
    return code;
}

/* --- learn --- */

static int learn(ForeCli *cli, char *kind, char *id)
{
    char *argv[] = {"pam", "learn", kind, id, NULL};

    return fore_cli_pam(cli, 4, argv);
}

int fore_cli_policy(ForeCli *cli, int argc, char **argv)
{
    g_autofree char *key = NULL, *out = NULL;
    const GOptionEntry entries[] = {
        {"key", 0, 0, G_OPTION_ARG_FILENAME, &key,
         "sign: private policy key; show: its public half, FILE is then a signed manifest", "PEM"},
        {"out", 0, 0, G_OPTION_ARG_FILENAME, &out, "sign: where to (else standard output)", "FILE"},
        {NULL},
    };
    g_autoptr(GOptionContext) context =
        g_option_context_new("check FILE | sign FILE --key PEM [--out FILE] | show FILE [--key "
                             "PEM] | learn vm|node ID");
    g_autoptr(GError) error = NULL;
    const char *verb;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        return fore_cli_usage("%s", error->message);
    }
    verb = argc > 1 ? argv[1] : "";
    if (strcmp(verb, "check") == 0 && argc == 3) {
        return check(cli, argv[2]);
    }
    if (strcmp(verb, "sign") == 0 && argc == 3 && key != NULL) {
        return sign(argv[2], key, out);
    }
    if (strcmp(verb, "show") == 0 && argc == 3) {
        return key != NULL ? show_signed(argv[2], key) : show_text(argv[2]);
    }
    if (strcmp(verb, "learn") == 0 && argc == 4) {
        return learn(cli, argv[2], argv[3]);
    }
    return fore_cli_usage("policy reads: check FILE, sign FILE --key PEM [--out FILE], show FILE "
                          "[--key PEM], learn vm|node ID");
}
