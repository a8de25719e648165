/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The audit log, its anchors and the TPM that remembers: what somebody with the disk may try. */
#include <glib/gstdio.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "tests/lib/fore-test-swtpm.h"
#include "vtpm/pam/fore-anchor.h"
#include "vtpm/tpm/fore-tpm.h"

#define LINES   9
#define ANCHORS 3

typedef struct {
    ForeTestSwtpm *tpm;
    char *dir, *log, *anchors, *proof;
    uint8_t index[32];
    char *ak_name;
} Fixture;

static void anchor(Fixture *f, const ForeAuditHead *head)
{
    g_auto(ForeAnchorProof) proof = {NULL, NULL, NULL};
    g_autoptr(ForeTpm) tpm = fore_tpm_open(fore_test_swtpm_tcti(f->tpm), NULL);
    g_autoptr(GBytes) entry = fore_hex_decode(head->hash, 32);
    g_autoptr(GBytes) extra = fore_anchor_proof_extra(head);
    g_autoptr(GBytes) name = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(fore_anchor_list_append(f->anchors, head, NULL));
    fore_tpm_log_extend(tpm, FORE_TPM_AUDIT_INDEX, FORE_TPM_LOG_FOREVER,
                        g_bytes_get_data(entry, NULL), &error);
    g_assert_no_error(error);
    fore_tpm_log_certify(tpm, FORE_TPM_AUDIT_INDEX, FORE_TPM_LOG_FOREVER, extra, &proof.attest,
                         &proof.signature, &error);
    g_assert_no_error(error);
    g_assert_true(fore_tpm_ak(tpm, &proof.ak_public, &name, NULL));
    g_assert_true(fore_anchor_proof_save(f->proof, &proof, head, NULL));
    g_assert_true(
        fore_tpm_log_head(tpm, FORE_TPM_AUDIT_INDEX, FORE_TPM_LOG_FOREVER, f->index, NULL));
    g_free(f->ak_name);
    f->ak_name = fore_hex_encode(g_bytes_get_data(name, NULL), g_bytes_get_size(name));
}

static void set_up(Fixture *f, gconstpointer data)
{
    static const uint8_t zeros[32];
    g_autoptr(ForeAudit) audit = NULL;
    ForeAuditHead head;
    bool torn;

    f->tpm = fore_test_swtpm_new();
    f->dir = g_dir_make_tmp("foresee-anchor-XXXXXX", NULL);
    f->log = g_build_filename(f->dir, "audit.log", NULL);
    f->anchors = g_build_filename(f->dir, "audit.anchors", NULL);
    f->proof = g_build_filename(f->dir, "audit.proof", NULL);
    audit = fore_audit_open(f->log, &torn, NULL);
    g_assert_true(fore_anchor_list_create(f->anchors, zeros, NULL));
    for (unsigned i = 1; i <= LINES; i++) {
        g_autofree char *detail = g_strdup_printf("number %u", i);

        g_assert_true(fore_audit_append(audit, "grant", "vm", "", detail, NULL));
        if (i % ANCHORS == 0) {
            fore_audit_head(audit, &head);
            anchor(f, &head);
        }
    }
}

static void tear_down(Fixture *f, gconstpointer data)
{
    fore_test_swtpm_free(f->tpm);
    fore_test_remove_tree(f->dir);
    g_free(f->dir);
    g_free(f->log);
    g_free(f->anchors);
    g_free(f->proof);
    g_free(f->ak_name);
}

/* The disk alone, with the certified value; NULL: whole. */
static char *verify(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeAnchorList) anchors = fore_anchor_list_load(f->anchors, &error);
    ForeAuditHead head;
    uint8_t index[32];
    bool pending = false;

    if (anchors != NULL && fore_anchor_proof_check(f->proof, f->ak_name, index, &head, &error) &&
        fore_anchor_list_check(anchors, f->log, index, &head, &pending, &error)) {
        return NULL;
    }
    g_test_message("%s", error->message);
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED);
    return g_strdup(error->message);
}

static char **lines_of(const char *path)
{
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return g_strsplit(g_strchomp(text), "\n", -1);
}

static void write_lines(const char *path, char **lines)
{
    g_autofree char *joined = g_strjoinv("\n", lines);
    g_autofree char *text = g_strconcat(joined, "\n", NULL);

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void assert_told(Fixture *f)
{
    g_autofree char *why = verify(f);

    g_assert_nonnull(why);
}

static void assert_whole(Fixture *f)
{
    g_autofree char *why = verify(f);

    g_assert_null(why);
}

static void test_whole(Fixture *f, gconstpointer data)
{
    assert_whole(f);
}

static void test_edited(Fixture *f, gconstpointer data)
{
    for (unsigned i = 0; i < LINES; i++) {
        g_auto(GStrv) lines = lines_of(f->log);
        char *at = strstr(lines[i], "number");

        memcpy(at, "Number", 6);
        write_lines(f->log, lines);
        assert_told(f);
        memcpy(at, "number", 6);
        write_lines(f->log, lines);
    }
    assert_whole(f);
}

static void test_removed(Fixture *f, gconstpointer data)
{
    g_auto(GStrv) good = lines_of(f->log);

    for (unsigned i = 0; i < LINES; i++) {
        g_auto(GStrv) lines = g_strdupv(good);

        g_free(lines[i]);
        memmove(lines + i, lines + i + 1, (LINES - i) * sizeof(*lines));
        write_lines(f->log, lines);
        assert_told(f);
    }
}

static void test_reordered(Fixture *f, gconstpointer data)
{
    g_auto(GStrv) good = lines_of(f->log);

    for (unsigned i = 0; i + 1 < LINES; i++) {
        g_auto(GStrv) lines = g_strdupv(good);
        char *was = lines[i];

        lines[i] = lines[i + 1];
        lines[i + 1] = was;
        write_lines(f->log, lines);
        assert_told(f);
    }
}

/* The tail, alone and with the anchors that knew it: the TPM remembers. */
static void test_truncated(Fixture *f, gconstpointer data)
{
    g_auto(GStrv) log = lines_of(f->log);
    g_auto(GStrv) anchors = lines_of(f->anchors);

    for (unsigned keep = LINES - 1; keep > 0; keep--) {
        g_clear_pointer(&log[keep], g_free);
        write_lines(f->log, log);
        assert_told(f);
    }
    for (unsigned keep = ANCHORS; keep > 1; keep--) {
        g_clear_pointer(&anchors[keep], g_free);
        write_lines(f->anchors, anchors);
        assert_told(f);
    }
}

/* A whole new history with anchors of its own does not add up to what the TPM holds. */
static void test_rewritten(Fixture *f, gconstpointer data)
{
    static const uint8_t zeros[32];
    g_autoptr(ForeAudit) audit = NULL;
    ForeAuditHead head;
    bool torn;

    g_unlink(f->log);
    g_unlink(f->anchors);
    audit = fore_audit_open(f->log, &torn, NULL);
    g_assert_true(fore_anchor_list_create(f->anchors, zeros, NULL));
    for (unsigned i = 0; i < ANCHORS; i++) {
        g_assert_true(fore_audit_append(audit, "grant", "vm", "", "fairy tale", NULL));
        fore_audit_head(audit, &head);
        g_assert_true(fore_anchor_list_append(f->anchors, &head, NULL));
    }
    assert_told(f);
}

/* Another TPM may say what it likes. */
static void test_other_tpm(Fixture *f, gconstpointer data)
{
    g_autofree char *proof = NULL;
    gsize size;

    f->ak_name[0] = f->ak_name[0] == '0' ? '1' : '0';
    assert_told(f);
    f->ak_name[0] = f->ak_name[0] == '0' ? '1' : '0';
    /* the statement is bound to the head that it was made for */
    g_assert_true(g_file_get_contents(f->proof, &proof, &size, NULL));
    *strstr(proof, "\"hash\":\"") = '"';
    for (char *c = strstr(proof, "\"hash\":\"") + 8; *c != '"'; c++) {
        *c = *c == '0' ? '1' : '0';
    }
    g_assert_true(g_file_set_contents(f->proof, proof, (gssize)size, NULL));
    assert_told(f);
}

/* Power went after the line and before the TPM. */
static void test_crash(Fixture *f, gconstpointer data)
{
    g_autoptr(ForeAudit) audit = NULL;
    g_autoptr(ForeAnchorList) anchors = NULL;
    g_autoptr(GError) error = NULL;
    ForeAuditHead head;
    bool torn, pending = false;

    audit = fore_audit_open(f->log, &torn, NULL);
    g_assert_true(fore_audit_append(audit, "grant", "vm", "", "more", NULL));
    fore_audit_head(audit, &head);
    g_assert_true(fore_anchor_list_append(f->anchors, &head, NULL));
    anchors = fore_anchor_list_load(f->anchors, &error);
    g_assert_no_error(error);
    g_assert_true(fore_anchor_list_check(anchors, f->log, f->index, &head, &pending, &error));
    g_assert_true(pending);
}

#define ADD(path, fn) g_test_add(path, Fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_setenv("TSS2_LOG", "all+none", FALSE);
    if (fore_test_swtpm_missing() != NULL) {
        g_print("1..0 # SKIP %s is missing\n", fore_test_swtpm_missing());
        return 0;
    }
    ADD("/pam/anchor/whole-log-is-whole", test_whole);
    ADD("/pam/anchor/crash-before-the-tpm-is-pending", test_crash);
    ADD("/attest/attack/105-edited-line-is-told", test_edited);
    ADD("/attest/attack/105-removed-line-is-told", test_removed);
    ADD("/attest/attack/105-reordered-lines-are-told", test_reordered);
    ADD("/attest/attack/105-cut-tail-is-told-by-the-tpm", test_truncated);
    ADD("/attest/attack/105-rewritten-history-is-told-by-the-tpm", test_rewritten);
    ADD("/attest/attack/105-proof-of-another-tpm-or-head-is-refused", test_other_tpm);
    return g_test_run();
}
