/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foresee audit: is an audit log of foresee-pam whole?  Works on copies, on any machine. */
#include <stdio.h>
#include <string.h>

#include "common/fore-error.h"
#include "qmp-agent/foresee-cli.h"
#include "vtpm/pam/fore-anchor.h"

#define DEFAULT_DIR "/var/lib/foresee-pam"

typedef struct {
    char *dir, *log, *ak_name;
} Options;

static char *in_dir(const Options *o, const char *name)
{
    return g_build_filename(o->dir != NULL ? o->dir : DEFAULT_DIR, name, NULL);
}

static int fail(const GError *error)
{
    fprintf(stderr, "foresee: %s\n", error->message);
    return CLI_FAILED;
}

/* @ret_anchored: the newest anchor; 0 lines: none */
static bool verify(const Options *o, ForeAuditHead *ret_head, ForeAuditHead *ret_anchored,
                   GError **error)
{
    g_autofree char *log = o->log != NULL ? g_strdup(o->log) : in_dir(o, "audit.log");
    g_autofree char *anchors_path = in_dir(o, "audit.anchors");
    g_autofree char *proof_path = in_dir(o, "audit.proof");
    g_autoptr(GError) why = NULL;
    g_autoptr(ForeAnchorList) anchors = fore_anchor_list_load(anchors_path, &why);
    uint8_t index[32];
    bool pending;

    if (anchors == NULL && !g_error_matches(why, FORE_ERROR, FORE_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    if (anchors == NULL || anchors->heads->len == 0) {
        return fore_audit_verify(log, NULL, ret_head, error);
    }
    return fore_anchor_proof_check(proof_path, o->ak_name, index, ret_anchored, error) &&
           fore_anchor_list_check(anchors, log, index, ret_head, &pending, error);
}

static int report(ForeCli *cli, const Options *o, const ForeAuditHead *head,
                  const ForeAuditHead *anchored)
{
    g_autoptr(json_t) answer =
        json_pack("{s:I, s:s, s:I, s:b}", "lines", (json_int_t)head->lines, "head", head->hash,
                  "anchored-lines", (json_int_t)anchored->lines, "key-checked",
                  o->ak_name != NULL && anchored->lines > 0);

    if (cli->json) {
        fore_cli_print_json(answer);
        return CLI_OK;
    }
    printf("audit log is whole: %" G_GUINT64_FORMAT " lines, head %s\n", head->lines, head->hash);
    if (anchored->lines == 0) {
        printf("not anchored in a TPM: a cut tail, or an old copy, cannot be told here\n");
        return CLI_OK;
    }
    printf("anchored in a TPM up to line %" G_GUINT64_FORMAT "%s\n", anchored->lines,
           o->ak_name != NULL ? "" : "; which TPM was not checked (--ak-name)");
    return CLI_OK;
}

int fore_cli_audit(ForeCli *cli, int argc, char **argv)
{
    Options o = {NULL, NULL, NULL};
    const GOptionEntry entries[] = {
        {"dir", 0, 0, G_OPTION_ARG_FILENAME, &o.dir,
         "Folder with audit.log, audit.anchors and audit.proof (" DEFAULT_DIR ")", "DIR"},
        {"log", 0, 0, G_OPTION_ARG_FILENAME, &o.log, "The log, when it lies elsewhere", "FILE"},
        {"ak-name", 0, 0, G_OPTION_ARG_STRING, &o.ak_name,
         "Name of the TPM's key that must have certified the anchors", "HEX"},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("verify");
    g_autoptr(GError) error = NULL;
    ForeAuditHead head = {0}, anchored = {0};
    int code;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        return fore_cli_usage("%s", error->message);
    }
    if (argc != 2 || strcmp(argv[1], "verify") != 0) {
        return fore_cli_usage("audit reads: audit verify [--dir DIR] [--log FILE] [--ak-name HEX]");
    }
    code = verify(&o, &head, &anchored, &error) ? report(cli, &o, &head, &anchored) : fail(error);
    g_free(o.dir);
    g_free(o.log);
    g_free(o.ak_name);
    return code;
}
