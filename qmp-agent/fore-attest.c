/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Each step's reply leads to the next; whatever fails becomes a verdict "not
 * affirmed" with a reason: silence is never a yes.  A guest that does not answer is reported to the
 * PAM as silent, so that the PAM's record says so too.  Measurement lists that the PAM wants are
 * carried over in chunks between the quote and the finish.
 */
#include "qmp-agent/fore-attest.h"

#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"

#define LOG_CHUNK 32768        /* bytes that the guest gives at once */
#define LOG_SEND  (512 << 10)  /* bytes that the PAM gets at once */
#define LOG_MAX   (16ll << 20) /* bytes of a list */

struct ForeAttest {
    ForeAgent *agent;
    ForeVm *vm;      /* NULL once the VM was removed */
    bool asks_guest; /* the reply that is awaited is the SEA's */
    ForePlan plan;
    ForeAttestDone done;
    gpointer data;
    char *session;
    unsigned timeout_ms;
    json_t *evidence;      /* waits for the lists that the PAM wants */
    json_t *logs;          /* what the PAM wants: {"ima": offset, ...}; NULL: nothing */
    unsigned kind;         /* of the list that is being fetched */
    int64_t offset, end;   /* next byte to fetch; end of the list */
    GByteArray *collected; /* several chunks of the guest are one of the PAM's */
    int64_t collected_at;  /* offset of its first byte */
};

static const char *const log_names[] = {"firmware", "ima"};

static void attest_free(ForeAttest *a)
{
    g_hash_table_remove(fore_agent_attests(a->agent), a);
    json_decref(a->evidence);
    json_decref(a->logs);
    g_byte_array_unref(a->collected);
    g_free(a->session);
    g_free(a);
}

static void finish(ForeAttest *a, ForeGrantRef *ref, const json_t *answer)
{
    fore_text_plain(ref->reason); /* was cut, and may come from a peer */
    ref->plan_id = a->plan.id;
    ref->verdict_ns = (uint64_t)g_get_monotonic_time() * 1000;
    if (a->vm != NULL) {
        a->vm->attests = g_slist_remove(a->vm->attests, a);
    }
    a->done(a->vm, ref, answer, a->data);
    attest_free(a);
}

static void refuse(ForeAttest *a, const char *who, const char *why)
{
    ForeGrantRef ref = {0};

    g_snprintf(ref.reason, sizeof ref.reason, "%s:%s", who, why);
    ref.must_hold = a->vm != NULL && a->vm->must_hold;
    finish(a, &ref, NULL);
}

/* A stable word where there is one ('foresee status' has the rest); else what happened.  A PAM that
 * answers is reachable: what it cannot do now it says itself. */
static const char *why_not(const ForeAttest *a, const GError *error)
{
    bool answered = a->vm != NULL && fore_link_is_up(fore_agent_pam(a->vm->agent));

    if (g_error_matches(error, FORE_ERROR, FORE_ERROR_TIMEOUT)) {
        return "timeout";
    }
    if ((g_error_matches(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE) && !answered) ||
        g_error_matches(error, FORE_ERROR, FORE_ERROR_CLOSED)) {
        return "unreachable";
    }
    return error->message;
}

/* The reasons of all nodes that are not affirming, "node:reason node:reason". */
static void collect_reasons(const json_t *answer, char *buf, size_t size)
{
    json_t *nodes = json_object_get(answer, "nodes"), *node, *reason;
    size_t i, j;

    buf[0] = '\0';
    json_array_foreach (nodes, i, node) {
        const char *id = json_string_value(json_object_get(node, "id"));
        json_array_foreach (json_object_get(node, "reasons"), j, reason) {
            const char *text = json_string_value(reason);
            if (id == NULL || text == NULL) {
                continue;
            }
            if (buf[0] != '\0') {
                g_strlcat(buf, " ", size);
            }
            if (strchr(text, ':') == NULL) {
                g_strlcat(buf, id, size);
                g_strlcat(buf, ":", size);
            }
            g_strlcat(buf, text, size);
        }
    }
    if (buf[0] == '\0') {
        g_strlcpy(buf, "pam:no-reason-given", size);
    }
}

static void on_finished(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    ForeAttest *a = data;
    ForeGrantRef ref = {0};
    const char *verdict = json_string_value(json_object_get(ret, "verdict"));
    const char *grant = json_string_value(json_object_get(ret, "grant"));
    int64_t expires = 0;

    if (ret == NULL) {
        refuse(a, "pam", why_not(a, error));
        return;
    }
    ref.must_hold =
        g_strcmp0(json_string_value(json_object_get(ret, "on-attest-failure")), "hold") == 0;
    if (a->vm != NULL) {
        a->vm->must_hold = ref.must_hold;
    }
    /* a warning is a yes with an exception that the signed policy allows */
    ref.affirmed = (g_strcmp0(verdict, "affirming") == 0 || g_strcmp0(verdict, "warning") == 0) &&
                   (grant != NULL || a->plan.vcpus == 0);
    if (ref.affirmed && fore_json_get_int(ret, "expires", 0, INT64_MAX / 2, &expires, NULL)) {
        int64_t left_s = expires - g_get_real_time() / G_USEC_PER_SEC;
        ref.vcpus = a->plan.vcpus;
        ref.mem_bytes = a->plan.mem_bytes;
        ref.expires_ns = (uint64_t)g_get_monotonic_time() * 1000 +
                         (uint64_t)CLAMP(left_s, 0, 86400) * FORE_NS_PER_S;
    } else {
        ref.affirmed = false;
        collect_reasons(ret, ref.reason, sizeof ref.reason);
    }
    finish(a, &ref, ret);
}

static void send_finish(ForeAttest *a, json_t *evidence)
{
    const char *pin = fore_link_peer_pin(a->vm->sea);
    json_t *arguments = json_pack("{s:s,s:o,s:s}", "session", a->session, "evidence", evidence,
                                  "channel-pin", pin != NULL ? pin : "");

    if (a->plan.vcpus > 0) {
        json_object_set_new(arguments, "vcpus", json_integer(a->plan.vcpus));
        json_object_set_new(arguments, "memory-bytes", json_integer((json_int_t)a->plan.mem_bytes));
    }
    fore_link_execute(fore_agent_pam(a->vm->agent), "finish", arguments, a->timeout_ms, on_finished,
                      a);
}

/* --- measurement lists: the guest hands them out in small chunks --- */

static void next_log(ForeAttest *a);
static void next_chunk(ForeAttest *a);

/* A list that could not be had is missing for the PAM, which then says so. */
static void on_log_sent(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    ForeAttest *a = data;

    if (a->vm == NULL) {
        refuse(a, "foreseed", "vm-removed");
        return;
    }
    if (ret == NULL) {
        refuse(a, "pam", why_not(a, error));
        return;
    }
    g_byte_array_set_size(a->collected, 0);
    next_chunk(a);
}

static void send_collected(ForeAttest *a)
{
    g_autoptr(GBytes) bytes = g_bytes_new(a->collected->data, a->collected->len);

    fore_link_execute(fore_agent_pam(a->vm->agent), "evidence-log",
                      json_pack("{s:s,s:s,s:I,s:o}", "session", a->session, "log",
                                log_names[a->kind], "offset", (json_int_t)a->collected_at, "data",
                                fore_json_bytes(bytes)),
                      a->timeout_ms, on_log_sent, a);
}

static void on_chunk(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    ForeAttest *a = data;
    g_autoptr(GBytes) bytes = NULL;

    a->asks_guest = false;
    if (a->vm == NULL) {
        refuse(a, "foreseed", "vm-removed");
        return;
    }
    if (ret == NULL || !fore_json_get_bytes(ret, "data", LOG_CHUNK, &bytes, NULL) ||
        g_bytes_get_size(bytes) == 0) {
        a->end = a->offset; /* what came is sent; the PAM finds that it does not suffice */
    } else {
        if (a->collected->len == 0) {
            a->collected_at = a->offset;
        }
        g_byte_array_append(a->collected, g_bytes_get_data(bytes, NULL),
                            (guint)g_bytes_get_size(bytes));
        a->offset += (int64_t)g_bytes_get_size(bytes);
    }
    if (a->collected->len > 0 && (a->collected->len >= LOG_SEND || a->offset >= a->end)) {
        send_collected(a);
    } else {
        next_chunk(a);
    }
}

static void next_chunk(ForeAttest *a)
{
    if (a->offset >= a->end) {
        a->kind++;
        next_log(a);
        return;
    }
    a->asks_guest = true;
    fore_link_execute(a->vm->sea, "sea-get-log",
                      json_pack("{s:s,s:I,s:i}", "log", log_names[a->kind], "offset",
                                (json_int_t)a->offset, "length",
                                (int)MIN(a->end - a->offset, LOG_CHUNK)),
                      a->timeout_ms / 2, on_chunk, a);
}

static void next_log(ForeAttest *a)
{
    json_t *sizes = json_object_get(a->evidence, "log-sizes");

    for (; a->kind < G_N_ELEMENTS(log_names); a->kind++) {
        if (fore_json_get_int(a->logs, log_names[a->kind], 0, LOG_MAX, &a->offset, NULL) &&
            fore_json_get_int(sizes, log_names[a->kind], 0, LOG_MAX, &a->end, NULL) && a->end > 0) {
            a->offset = a->offset > a->end ? 0 : a->offset; /* it booted anew */
            next_chunk(a);
            return;
        }
    }
    send_finish(a, g_steal_pointer(&a->evidence));
}

static void on_evidence(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    ForeAttest *a = data;

    a->asks_guest = false;
    if (a->vm == NULL) {
        refuse(a, "foreseed", "vm-removed");
        return;
    }
    if (ret == NULL || a->logs == NULL) {
        send_finish(a, ret != NULL ? json_deep_copy(ret) : json_null());
        return;
    }
    a->evidence = json_deep_copy(ret);
    next_log(a);
}

static void on_begun(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    ForeAttest *a = data;
    const char *session = NULL, *nonce = NULL;
    int64_t mask = 0;

    if (ret == NULL) {
        refuse(a, "pam", why_not(a, error));
        return;
    }
    if (a->vm == NULL) {
        refuse(a, "foreseed", "vm-removed");
        return;
    }
    if (!fore_json_get_string(ret, "session", &session, NULL) ||
        !fore_json_get_string(ret, "nonce", &nonce, NULL) ||
        !fore_json_get_int(ret, "pcr-mask", 0, UINT32_MAX, &mask, NULL)) {
        refuse(a, "pam", "malformed-answer");
        return;
    }
    a->session = g_strdup(session);
    a->logs = json_deep_copy(json_object_get(ret, "logs"));
    a->asks_guest = true;
    fore_link_execute(a->vm->sea, "sea-attest",
                      json_pack("{s:s,s:I}", "nonce", nonce, "pcr-mask", (json_int_t)mask),
                      a->timeout_ms / 2, on_evidence, a);
}

void fore_attest_start(ForeVm *vm, const ForePlan *plan, ForeAttestDone done, gpointer data)
{
    ForeAttest *a = g_new0(ForeAttest, 1);
    ForeLink *pam = fore_agent_pam(vm->agent);

    a->agent = vm->agent;
    g_hash_table_add(fore_agent_attests(a->agent), a);
    a->vm = vm;
    vm->attests = g_slist_prepend(vm->attests, a);
    a->plan = *plan;
    a->done = done;
    a->data = data;
    a->collected = g_byte_array_new();
    a->timeout_ms = fore_agent_config(vm->agent)->attest_timeout_ms;
    g_assert(pam != NULL);
    fore_link_execute(pam, "begin", json_pack("{s:s}", "vm", vm->uuid), a->timeout_ms / 2, on_begun,
                      a);
}

void fore_attest_end_all(GHashTable *attests)
{
    g_autoptr(GList) all = g_hash_table_get_keys(attests);

    for (GList *l = all; l != NULL; l = l->next) {
        ForeAttest *a = l->data;

        a->vm = NULL;
        refuse(a, "foreseed", "stopping");
    }
}

void fore_attest_forget_vm(ForeVm *vm)
{
    g_autoptr(GSList) all = g_steal_pointer(&vm->attests);

    for (GSList *l = all; l != NULL; l = l->next) {
        ForeAttest *a = l->data;
        a->vm = NULL; /* the PAM's outstanding reply ends it */
        if (a->asks_guest) {
            refuse(a, "foreseed", "vm-removed"); /* the SEA's never comes: its link goes too */
        }
    }
}
