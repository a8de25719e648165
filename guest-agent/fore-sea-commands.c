/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commands of docs/wire-format.md, section SEA.  Arguments are checked here, in the loop; what
 * needs the vTPM becomes a job and is answered when it is done.  Each call is answered exactly
 * once.
 */
#include <string.h>

#include "common/fore-error.h"
#include "common/fore-json.h"
#include "guest-agent/fore-sea-priv.h"

#define NONCE_BYTES    32
#define CREDENTIAL_MAX 1024   /* bytes of a TPM2B_ID_OBJECT or TPM2B_ENCRYPTED_SECRET */
#define PCR_MASK_MAX   0xffff /* 0..15: the others can be reset while the system runs */

typedef struct TpmJob TpmJob;
struct TpmJob {
    ForeSeaJob job;
    ForeSea *sea;
    ForeCall *call;
    json_t *(*work)(TpmJob *job, GError **error); /* in the thread */
    GBytes *first, *second;
    char *jws;
    uint32_t pcr_mask;
    ForeSeaLogKind log;
    size_t offset, length;
    ForeSeaGrantExpect expect;
    ForeGrant grant;
    bool granted;
    json_t *ret;
    GError *error;
};

static void run_tpm_job(ForeSeaJob *base)
{
    TpmJob *job = (TpmJob *)base;

    job->ret = job->work(job, &job->error);
}

static void tpm_job_free(TpmJob *job)
{
    g_clear_pointer(&job->first, g_bytes_unref);
    g_clear_pointer(&job->second, g_bytes_unref);
    g_clear_error(&job->error);
    json_decref(job->ret);
    g_free(job->jws);
    g_free(job);
}

static json_t *granted_json(const ForeSea *sea)
{
    const ForeSeaAllowed *allowed = fore_sea_gate_allowed(sea->gate);
    json_t *ret = json_object();

    json_object_set_new(ret, "vcpus", json_integer(allowed->vcpus));
    json_object_set_new(ret, "memory-bytes", json_integer((json_int_t)allowed->mem_bytes));
    json_object_set_new(ret, "seq", json_integer((json_int_t)allowed->seq));
    return ret;
}

static void tpm_job_done(ForeSeaJob *base, bool ran)
{
    TpmJob *job = (TpmJob *)base;

    if (!ran) {
        g_clear_error(&job->error);
        job->error = g_error_new(FORE_ERROR, FORE_ERROR_CLOSED, "the agent is stopping");
    } else if (job->granted) {
        g_message("grant %s: up to %u vCPUs and %" G_GUINT64_FORMAT " bytes", job->grant.id,
                  job->grant.vcpus, job->grant.mem_bytes);
        fore_sea_gate_grant(job->sea->gate, &job->grant);
        job->ret = granted_json(job->sea);
    } else if (job->error) {
        g_message("%s: %s", fore_call_command(job->call), job->error->message);
    }
    if (job->error) {
        fore_call_fail(job->call, job->error);
    } else {
        fore_call_return(job->call, g_steal_pointer(&job->ret));
    }
    tpm_job_free(job);
}

/* Takes @job; answers the call when there is no room for it. */
static void push(TpmJob *job)
{
    g_autoptr(GError) err = NULL;

    if (!fore_sea_worker_push(job->sea->worker, &job->job)) {
        err =
            g_error_new(FORE_ERROR, FORE_ERROR_LIMIT,
                        "%d TPM commands wait already; wait for their answers", FORE_SEA_JOBS_MAX);
        fore_call_fail(job->call, err);
        tpm_job_free(job);
    }
}

static TpmJob *tpm_job_new(ForeSea *sea, ForeCall *call, json_t *(*work)(TpmJob *, GError **))
{
    TpmJob *job = g_new0(TpmJob, 1);

    job->job = (ForeSeaJob){run_tpm_job, tpm_job_done};
    job->sea = sea;
    job->call = call;
    job->work = work;
    return job;
}

/* Ends a command whose arguments are wrong. */
static void refuse(TpmJob *job, GError *err)
{
    fore_call_fail(job->call, err);
    g_error_free(err);
    tpm_job_free(job);
}

static json_t *work_info(TpmJob *job, GError **error)
{
    return fore_sea_evidence_info(job->sea->evidence, error);
}

static void do_info(ForeSea *sea, ForeCall *call)
{
    push(tpm_job_new(sea, call, work_info));
}

static json_t *work_activate(TpmJob *job, GError **error)
{
    return fore_sea_evidence_activate(job->sea->evidence, job->first, job->second, error);
}

static void do_activate(ForeSea *sea, ForeCall *call)
{
    const json_t *args = fore_call_arguments(call);
    TpmJob *job = tpm_job_new(sea, call, work_activate);
    GError *err = NULL;

    if (!fore_json_get_bytes(args, "credential-blob", CREDENTIAL_MAX, &job->first, &err) ||
        !fore_json_get_bytes(args, "encrypted-secret", CREDENTIAL_MAX, &job->second, &err)) {
        refuse(job, err);
        return;
    }
    push(job);
}

static json_t *work_attest(TpmJob *job, GError **error)
{
    return fore_sea_evidence_attest(job->sea->evidence, job->first, job->pcr_mask, error);
}

static void do_attest(ForeSea *sea, ForeCall *call)
{
    const json_t *args = fore_call_arguments(call);
    TpmJob *job = tpm_job_new(sea, call, work_attest);
    GError *err = NULL;
    int64_t mask;

    if (!fore_json_get_bytes(args, "nonce", NONCE_BYTES, &job->first, &err) ||
        !fore_json_get_int(args, "pcr-mask", 1, PCR_MASK_MAX, &mask, &err)) {
        refuse(job, err);
        return;
    }
    if (g_bytes_get_size(job->first) != NONCE_BYTES) {
        refuse(job, g_error_new(FORE_ERROR, FORE_ERROR_INVALID, "nonce: %zu bytes, must be %d",
                                g_bytes_get_size(job->first), NONCE_BYTES));
        return;
    }
    job->pcr_mask = (uint32_t)mask;
    push(job);
}

static json_t *work_get_log(TpmJob *job, GError **error)
{
    return fore_sea_evidence_log(job->sea->evidence, job->log, job->offset, job->length, error);
}

static bool find_log(const char *name, ForeSeaLogKind *ret, GError **error)
{
    for (unsigned i = 0; i < FORE_SEA_LOG_N; i++) {
        if (g_str_equal(name, fore_sea_log_names[i])) {
            *ret = i;
            return true;
        }
    }
    g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "log: must be \"firmware\" or \"ima\"");
    return false;
}

static void do_get_log(ForeSea *sea, ForeCall *call)
{
    const json_t *args = fore_call_arguments(call);
    TpmJob *job = tpm_job_new(sea, call, work_get_log);
    int64_t offset, length;
    GError *err = NULL;
    const char *name;

    if (!fore_json_get_string(args, "log", &name, &err) || !find_log(name, &job->log, &err) ||
        !fore_json_get_int(args, "offset", 0, FORE_SEA_LOG_MAX, &offset, &err) ||
        !fore_json_get_int(args, "length", 1, FORE_SEA_CHUNK_MAX, &length, &err)) {
        refuse(job, err);
        return;
    }
    job->offset = (size_t)offset;
    job->length = (size_t)length;
    push(job);
}

static json_t *work_grant(TpmJob *job, GError **error)
{
    job->granted =
        fore_sea_evidence_grant(job->sea->evidence, &job->expect, job->jws, &job->grant, error);
    return NULL; /* the totals are told once the gate has them */
}

static void do_grant(ForeSea *sea, ForeCall *call)
{
    TpmJob *job = tpm_job_new(sea, call, work_grant);
    GError *err = NULL;
    const char *jws;

    if (!fore_json_get_string(fore_call_arguments(call), "grant", &jws, &err)) {
        refuse(job, err);
        return;
    }
    if (strlen(jws) > FORE_GRANT_MAX) {
        refuse(job, g_error_new(FORE_ERROR, FORE_ERROR_LIMIT, "grant: %zu bytes, at most %d",
                                strlen(jws), FORE_GRANT_MAX));
        return;
    }
    job->jws = g_strdup(jws);
    job->expect = (ForeSeaGrantExpect){
        .vm_uuid = sea->config->vm_uuid,
        .vcpus_possible = fore_sea_gate_capacity(sea->gate)->vcpus_possible,
        .now_s = g_get_real_time() / G_USEC_PER_SEC,
    };
    push(job);
}

static void on_released(ForeSeaGate *gate, const GError *error, gpointer data)
{
    const ForeSeaCapacity *capacity = fore_sea_gate_capacity(gate);
    ForeCall *call = data;
    json_t *ret;

    if (g_error_matches(error, FORE_ERROR, FORE_ERROR_CLOSED)) {
        fore_call_fail(call, error);
        return;
    }
    ret = json_object();
    /* Also after an error: what resisted stays online, and that is what the numbers say. */
    json_object_set_new(ret, "vcpus-online", json_integer(capacity->vcpus_online));
    json_object_set_new(ret, "memory-online-bytes",
                        json_integer((json_int_t)fore_sea_capacity_online_bytes(capacity)));
    fore_call_return(call, ret);
}

static void do_release(ForeSea *sea, ForeCall *call)
{
    const json_t *args = fore_call_arguments(call);
    g_autoptr(GError) err = NULL;
    int64_t vcpus, bytes;

    if (!fore_json_get_int(args, "vcpus", 1, FORE_GRANT_MAX_VCPUS, &vcpus, &err) ||
        !fore_json_get_int(args, "memory-bytes", 0, FORE_GRANT_MAX_MEM, &bytes, &err) ||
        !fore_sea_gate_release(sea->gate, (unsigned)vcpus, (uint64_t)bytes, on_released, call,
                               &err)) {
        fore_call_fail(call, err);
    }
}

static void do_capacity(ForeSea *sea, ForeCall *call)
{
    fore_call_return(call, fore_sea_gate_json(sea->gate, false));
}

static void do_interval(ForeSea *sea, ForeCall *call)
{
    g_autoptr(GError) err = NULL;
    int64_t ms;

    if (!fore_json_get_int(fore_call_arguments(call), "milliseconds", FORE_SEA_INTERVAL_MIN,
                           FORE_SEA_INTERVAL_MAX, &ms, &err)) {
        fore_call_fail(call, err);
        return;
    }
    fore_sea_set_interval(sea, (unsigned)ms);
    fore_call_return(call, NULL);
}

static const struct {
    const char *name;
    void (*perform)(ForeSea *sea, ForeCall *call);
} commands[] = {
    {"sea-info", do_info},         {"sea-activate", do_activate}, {"sea-attest", do_attest},
    {"sea-get-log", do_get_log},   {"sea-grant", do_grant},       {"sea-release", do_release},
    {"sea-capacity", do_capacity}, {"sea-interval", do_interval},
};

void fore_sea_command(ForeSea *sea, ForeCall *call)
{
    g_autoptr(GError) err = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (g_str_equal(fore_call_command(call), commands[i].name)) {
            commands[i].perform(sea, call);
            return;
        }
    }
    err = g_error_new(FORE_ERROR, FORE_ERROR_UNSUPPORTED,
                      "no command of this name; docs/wire-format.md lists the agent's commands");
    fore_call_fail(call, err);
}
