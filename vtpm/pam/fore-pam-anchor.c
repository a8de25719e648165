/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  At start, at stop and once an interval, when the audit log has grown, its head is
 * written into the file of anchors, extended into the TPM's NV index, and the index is certified.
 * An interval, because NV memory wears; what came after the last anchor is held by the inventory
 * alone.  The TPM works in a thread; one anchor at a time.
 */
#include <gio/gio.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "vtpm/pam/fore-anchor.h"
#include "vtpm/pam/fore-pam-internal.h"
#include "vtpm/tpm/fore-tpm.h"

struct ForePamAnchor {
    ForePam *pam;
    char *log_path, *path, *proof_path;
    ForeAuditHead anchored; /* newest head that the file has */
    GSource *timer;
    GCancellable *running; /* NULL: no thread works */
};

/* What the thread needs; its own. */
typedef struct {
    char *tcti, *path, *proof_path;
    ForeAuditHead head;
} Work;

static void work_free(gpointer data)
{
    Work *work = data;

    g_free(work->tcti);
    g_free(work->path);
    g_free(work->proof_path);
    g_free(work);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Work, work_free)

static bool read_index(ForeTpm *tpm, uint8_t ret[32], GError **error)
{
    g_autoptr(GError) why = NULL;

    memset(ret, 0, 32);
    if (!fore_tpm_log_head(tpm, FORE_TPM_AUDIT_INDEX, FORE_TPM_LOG_FOREVER, ret, &why) &&
        !g_error_matches(why, FORE_ERROR, FORE_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    return true;
}

static bool extend(ForeTpm *tpm, const ForeAuditHead *head, GError **error)
{
    g_autoptr(GBytes) entry = fore_hex_decode(head->hash, 32);

    return fore_tpm_log_extend(tpm, FORE_TPM_AUDIT_INDEX, FORE_TPM_LOG_FOREVER,
                               g_bytes_get_data(entry, NULL), error);
}

/* The file's last line may lack its extend, from a crash or a TPM that was away.  @ret_last: the
 * newest head that the index holds now; 0 lines: none */
static bool catch_up(ForeTpm *tpm, const char *path, ForeAuditHead *ret_last, GError **error)
{
    g_autoptr(ForeAnchorList) list = fore_anchor_list_load(path, error);
    guint n = list != NULL ? list->heads->len : 0;
    uint8_t index[32], value[32];

    if (list == NULL || !read_index(tpm, index, error)) {
        return false;
    }
    memset(ret_last, 0, sizeof(*ret_last));
    if (n > 0) {
        *ret_last = g_array_index(list->heads, ForeAuditHead, n - 1);
    }
    fore_anchor_list_value(list, n, value);
    if (memcmp(value, index, 32) == 0) {
        return true;
    }
    fore_anchor_list_value(list, n > 0 ? n - 1 : 0, value);
    if (n > 0 && memcmp(value, index, 32) == 0) {
        return extend(tpm, ret_last, error);
    }
    g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                "the TPM's audit index 0x%08x is not what '%s' adds up to: somebody else wrote one "
                "of them",
                FORE_TPM_AUDIT_INDEX, path);
    return false;
}

static bool certify(ForeTpm *tpm, const Work *work, const ForeAuditHead *head, GError **error)
{
    g_auto(ForeAnchorProof) proof = {NULL, NULL, NULL};
    g_autoptr(GBytes) extra = fore_anchor_proof_extra(head);

    return fore_tpm_log_certify(tpm, FORE_TPM_AUDIT_INDEX, FORE_TPM_LOG_FOREVER, extra,
                                &proof.attest, &proof.signature, error) &&
           fore_tpm_ak(tpm, &proof.ak_public, NULL, error) &&
           fore_anchor_proof_save(work->proof_path, &proof, head, error);
}

static bool anchor_head(const Work *work, GError **error)
{
    g_autoptr(ForeTpm) tpm = fore_tpm_open(work->tcti, error);
    ForeAuditHead last;

    if (tpm == NULL || !catch_up(tpm, work->path, &last, error)) {
        return false;
    }
    if (work->head.lines > last.lines) {
        if (!fore_anchor_list_append(work->path, &work->head, error) ||
            !extend(tpm, &work->head, error)) {
            return false;
        }
        last = work->head;
    }
    return last.lines == 0 || certify(tpm, work, &last, error);
}

static Work *work_new(const ForePamAnchor *anchor, const ForeAuditHead *head)
{
    Work *work = g_new0(Work, 1);

    work->tcti = g_strdup(anchor->pam->config->tcti);
    work->path = g_strdup(anchor->path);
    work->proof_path = g_strdup(anchor->proof_path);
    work->head = *head;
    return work;
}

/* The head to anchor; false when it is anchored already. */
static bool has_grown(const ForePamAnchor *anchor, ForeAuditHead *ret)
{
    fore_inventory_audit_head(anchor->pam->inventory, ret);
    return ret->lines > anchor->anchored.lines;
}

static void run(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    GError *error = NULL;

    if (anchor_head(data, &error)) {
        g_task_return_boolean(task, TRUE);
    } else {
        g_task_return_error(task, error);
    }
}

static void on_anchored(GObject *source, GAsyncResult *result, gpointer data)
{
    GTask *task = G_TASK(result);
    g_autoptr(GError) error = NULL;
    ForePamAnchor *anchor = data;

    if (g_cancellable_is_cancelled(g_task_get_cancellable(task))) {
        return; /* @anchor is gone */
    }
    g_clear_object(&anchor->running);
    if (g_task_propagate_boolean(task, &error)) {
        fore_pam_calm(anchor->pam, "audit-anchor");
        return;
    }
    anchor->anchored.lines = 0; /* again, next time */
    fore_pam_alarm(anchor->pam, "audit-anchor", error->message);
}

static gboolean on_interval(gpointer data)
{
    ForePamAnchor *anchor = data;
    g_autoptr(GTask) task = NULL;
    ForeAuditHead head;

    if (anchor->running != NULL || !has_grown(anchor, &head)) {
        return G_SOURCE_CONTINUE;
    }
    anchor->running = g_cancellable_new();
    g_main_context_push_thread_default(anchor->pam->context);
    task = g_task_new(NULL, anchor->running, on_anchored, anchor);
    g_main_context_pop_thread_default(anchor->pam->context);
    g_task_set_check_cancellable(task, FALSE);
    g_task_set_task_data(task, work_new(anchor, &head), work_free);
    anchor->anchored = head;
    g_task_run_in_thread(task, run);
    return G_SOURCE_CONTINUE;
}

/* --- start --- */

static bool open_index(const char *tcti, uint8_t ret[32], GError **error)
{
    g_autoptr(ForeTpm) tpm = fore_tpm_open(tcti, error);

    return tpm != NULL && read_index(tpm, ret, error);
}

/* No anchors yet, and the inventory does not remember any. */
static bool begin_file(ForePamAnchor *anchor, const uint8_t index[32], GError **error)
{
    static const uint8_t zeros[32];
    ForeInventory *inventory = anchor->pam->inventory;
    ForeChange change = {.what = "anchored", .id = "", .peer = "", .detail = "first"};

    if (fore_inventory_is_anchored(inventory)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "'%s' is missing, though the audit log was anchored: it was removed",
                    anchor->path);
        return false;
    }
    if (memcmp(index, zeros, 32) != 0) {
        g_warning("the TPM's audit index was used before: what this audit log was then, nobody "
                  "can tell");
        change.detail = "first, on an index that was used before";
    }
    return fore_anchor_list_create(anchor->path, index, error) &&
           fore_inventory_set_anchored(inventory, &change, error);
}

static bool start(ForePamAnchor *anchor, GError **error)
{
    g_autoptr(ForeAnchorList) list = NULL;
    g_autoptr(GError) why = NULL;
    g_autoptr(Work) work = NULL;
    uint8_t index[32];
    ForeAuditHead head;
    bool pending;

    if (!open_index(anchor->pam->config->tcti, index, error)) {
        g_prefix_error(error, "audit anchor: ");
        return false;
    }
    list = fore_anchor_list_load(anchor->path, &why);
    if (list == NULL && !g_error_matches(why, FORE_ERROR, FORE_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    if (list != NULL
            ? !fore_anchor_list_check(list, anchor->log_path, index, &head, &pending, error)
            : !begin_file(anchor, index, error)) {
        return false;
    }
    fore_inventory_audit_head(anchor->pam->inventory, &head);
    work = work_new(anchor, &head);
    anchor->anchored = head;
    return anchor_head(work, error);
}

bool fore_pam_anchor_start(ForePam *pam, GError **error)
{
    const char *dir = pam->config->state_dir;
    ForePamAnchor *anchor;

    if (pam->config->tcti == NULL || pam->config->anchor_interval_s == 0) {
        return true;
    }
    anchor = g_new0(ForePamAnchor, 1);
    pam->anchor = anchor;
    anchor->pam = pam;
    anchor->log_path = g_build_filename(dir, "audit.log", NULL);
    anchor->path = g_build_filename(dir, "audit.anchors", NULL);
    anchor->proof_path = g_build_filename(dir, "audit.proof", NULL);
    if (!start(anchor, error)) {
        return false;
    }
    anchor->timer = g_timeout_source_new_seconds(pam->config->anchor_interval_s);
    g_source_set_callback(anchor->timer, on_interval, anchor, NULL);
    g_source_attach(anchor->timer, pam->context);
    return true;
}

void fore_pam_anchor_stop(ForePam *pam)
{
    ForePamAnchor *anchor = g_steal_pointer(&pam->anchor);
    ForeAuditHead head;

    if (anchor == NULL) {
        return;
    }
    if (anchor->running != NULL) {
        g_cancellable_cancel(anchor->running);
        g_object_unref(anchor->running);
    } else if (anchor->timer != NULL && has_grown(anchor, &head)) {
        g_autoptr(Work) last = work_new(anchor, &head);
        g_autoptr(GError) error = NULL;

        if (!anchor_head(last, &error)) {
            g_warning("the audit log is not anchored at the end: %s", error->message);
        }
    }
    if (anchor->timer != NULL) {
        g_source_destroy(anchor->timer);
        g_source_unref(anchor->timer);
    }
    g_free(anchor->log_path);
    g_free(anchor->path);
    g_free(anchor->proof_path);
    g_free(anchor);
}
