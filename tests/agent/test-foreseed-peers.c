/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/agent/test-foreseed-peers.h"

#include <glib-unix.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fore-bytes.h"

#define USAGE_MS 200

/* --- a server behind TLS --- */

static gboolean on_connection(gint fd, GIOCondition condition, gpointer data)
{
    TestServer *s = data;
    ForeChannelConfig channel = {.mode = FORE_CHANNEL_TLS_SERVER, .identity = s->identity};
    ForeWireConfig config = {.json = fore_json_limits_peer};
    int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (client >= 0) {
        fore_wire_free(s->wire);
        s->wire =
            fore_wire_new(s->context, client, &channel, FORE_WIRE_SERVER, &config, s->ops, s->data);
    }
    return G_SOURCE_CONTINUE;
}

static void server_listen(TestServer *s, bool on)
{
    g_autoptr(GError) err = NULL;

    if (on && s->fd < 0) {
        s->fd = fore_listen(s->address, &err);
        g_assert_no_error(err);
        s->source = g_unix_fd_source_new(s->fd, G_IO_IN);
        g_source_set_callback(s->source, G_SOURCE_FUNC(on_connection), s, NULL);
        g_source_attach(s->source, s->context);
    } else if (!on && s->fd >= 0) {
        g_clear_pointer(&s->wire, fore_wire_free);
        g_source_destroy(s->source);
        g_clear_pointer(&s->source, g_source_unref);
        close(s->fd);
        unlink(s->address + strlen("unix:"));
        s->fd = -1;
    }
}

static void server_init(TestServer *s, GMainContext *context, const char *path, const char *name,
                        const ForeWireOps *ops, gpointer data)
{
    g_autoptr(GError) err = NULL;

    s->context = context;
    s->address = g_strconcat("unix:", path, NULL);
    s->fd = -1;
    s->ops = ops;
    s->data = data;
    s->identity = fore_identity_new(name, &err);
    g_assert_no_error(err);
    server_listen(s, true);
}

static void server_done(TestServer *s)
{
    server_listen(s, false);
    fore_identity_free(s->identity);
    g_free(s->address);
}

static void keep_for_ever(GPtrArray *kept, ForeCall *call)
{
    g_ptr_array_add(kept, call);
}

/* Calls whose peer is gone are only memory; an answer frees them. */
static void release_kept(GPtrArray *kept)
{
    for (guint i = 0; i < kept->len; i++) {
        fore_call_return(kept->pdata[i], NULL);
    }
    g_ptr_array_unref(kept);
}

static void refuse(ForeCall *call, ForeErrorCode code, const char *why)
{
    g_autoptr(GError) error = g_error_new_literal(FORE_ERROR, (int)code, why);

    fore_call_fail(call, error);
}

/* --- the guest --- */

unsigned test_sea_vcpus(const TestSea *sea)
{
    return sea->slow ? sea->online : MIN(fore_test_qmp_vcpus(sea->qmp), sea->granted_vcpus);
}

static uint64_t online_mem(const TestSea *sea)
{
    uint64_t there = FORE_TEST_QMP_BASE + fore_test_qmp_vmem(sea->qmp);

    return sea->slow ? sea->online_mem : MIN(there, sea->granted_mem);
}

static json_t *capacity(const TestSea *sea)
{
    return json_pack("{s:i,s:i,s:I,s:I,s:i,s:I}", "vcpus-present",
                     (int)fore_test_qmp_vcpus(sea->qmp), "vcpus-online", (int)test_sea_vcpus(sea),
                     "memory-present-bytes",
                     (json_int_t)(FORE_TEST_QMP_BASE + fore_test_qmp_vmem(sea->qmp)),
                     "memory-online-bytes", (json_int_t)online_mem(sea), "vcpus-granted",
                     (int)sea->granted_vcpus, "memory-granted-bytes", (json_int_t)sea->granted_mem);
}

json_t *test_sea_report(TestSea *sea)
{
    uint64_t total = online_mem(sea);

    return json_pack("{s:I,s:i,s:f,s:f,s:f,s:f,s:I,s:I,s:I,s:i}", "seq", (json_int_t)++sea->seq,
                     "interval-ms", USAGE_MS, "cpu-busy", MIN(sea->cpu_busy, test_sea_vcpus(sea)),
                     "runnable", sea->runnable, "psi-cpu", 0.0, "psi-mem", sea->psi_mem,
                     "mem-total", (json_int_t)total, "mem-used", (json_int_t)sea->mem_used,
                     "mem-available", (json_int_t)(total - MIN(sea->mem_used, total)),
                     "vcpus-online", (int)test_sea_vcpus(sea));
}

void test_sea_usage(TestSea *sea, json_t *ev_data)
{
    if (sea->server.wire != NULL) {
        fore_wire_event(sea->server.wire, "USAGE", ev_data);
    } else {
        json_decref(ev_data);
    }
}

static gboolean on_tick(gpointer data)
{
    TestSea *sea = data;

    if (sea->server.wire != NULL && fore_wire_is_ready(sea->server.wire)) {
        test_sea_usage(sea, test_sea_report(sea));
    }
    return G_SOURCE_CONTINUE;
}

/* The scripted PAM's grant reads "grant:VCPUS:BYTES". */
static void take_grant(TestSea *sea, ForeCall *call)
{
    const char *grant = json_string_value(json_object_get(fore_call_arguments(call), "grant"));
    unsigned vcpus = 0;
    uint64_t mem = 0;

    if (sea->refuses_grants) {
        refuse(call, FORE_ERROR_UNTRUSTED, "grant: signed by another PAM");
        return;
    }
    g_assert_cmpint(sscanf(grant, "grant:%u:%" G_GUINT64_FORMAT, &vcpus, &mem), ==, 2);
    sea->granted_vcpus = MAX(sea->granted_vcpus, vcpus);
    sea->granted_mem = MAX(sea->granted_mem, mem);
    fore_call_return(call, json_pack("{s:i,s:I,s:i}", "vcpus", (int)vcpus, "memory-bytes",
                                     (json_int_t)mem, "seq", 1));
}

static void release(TestSea *sea, ForeCall *call)
{
    const json_t *args = fore_call_arguments(call);

    sea->granted_vcpus = (unsigned)json_integer_value(json_object_get(args, "vcpus"));
    sea->granted_mem = (uint64_t)json_integer_value(json_object_get(args, "memory-bytes"));
    fore_call_return(call, json_pack("{s:i,s:I}", "vcpus-online", (int)test_sea_vcpus(sea),
                                     "memory-online-bytes", (json_int_t)online_mem(sea)));
}

static void on_sea_command(ForeWire *wire, ForeCall *call, gpointer data)
{
    static const char evidence[] = "evidence";
    TestSea *sea = data;
    const char *command = fore_call_command(call);

    if (strcmp(command, "sea-capacity") == 0) {
        fore_call_return(call, capacity(sea));
        return;
    }
    g_ptr_array_add(sea->timeline, g_strconcat("sea:", command, NULL));
    if (sea->mute) {
        keep_for_ever(sea->kept, call);
    } else if (strcmp(command, "sea-attest") == 0) {
        fore_call_return(call, json_pack("{s:s,s:s}", "attest", evidence, "signature", evidence));
    } else if (strcmp(command, "sea-grant") == 0) {
        take_grant(sea, call);
    } else if (strcmp(command, "sea-release") == 0) {
        release(sea, call);
    } else {
        refuse(call, FORE_ERROR_UNSUPPORTED, "not in this script");
    }
}

static void on_sea_ready(ForeWire *wire, gpointer data)
{
    TestSea *sea = data;

    sea->sessions++;
    sea->seq = 0;
}

static void on_sea_closed(ForeWire *wire, const GError *why, gpointer data)
{
    g_clear_pointer(&((TestSea *)data)->server.wire, fore_wire_free);
}

void test_sea_load(TestSea *sea, double busy, double runnable, uint64_t mem_used)
{
    sea->cpu_busy = busy;
    sea->runnable = runnable;
    sea->mem_used = mem_used;
}

void test_sea_hurry(TestSea *sea)
{
    sea->slow = false;
    if (sea->server.wire != NULL) {
        fore_wire_event(sea->server.wire, "CAPACITY", capacity(sea));
    }
}

void test_sea_listen(TestSea *sea, bool on)
{
    server_listen(&sea->server, on);
}

TestSea *test_sea_new(GMainContext *context, const char *path, ForeTestQmp *qmp,
                      GPtrArray *timeline)
{
    static const ForeWireOps ops = {on_sea_ready, on_sea_command, NULL, on_sea_closed};
    TestSea *sea = g_new0(TestSea, 1);

    sea->timeline = timeline;
    sea->qmp = qmp;
    sea->kept = g_ptr_array_new();
    sea->granted_vcpus = sea->online = 1;
    sea->granted_mem = sea->online_mem = FORE_TEST_QMP_BASE;
    test_sea_load(sea, 0.1, 0, 100 * RIG_MIB);
    server_init(&sea->server, context, path, "sea", &ops, sea);
    sea->ticker = g_timeout_source_new(USAGE_MS);
    g_source_set_callback(sea->ticker, on_tick, sea, NULL);
    g_source_attach(sea->ticker, context);
    return sea;
}

void test_sea_free(TestSea *sea)
{
    g_source_destroy(sea->ticker);
    g_source_unref(sea->ticker);
    server_done(&sea->server);
    release_kept(sea->kept);
    g_free(sea);
}

/* --- the attestation manager --- */

static json_t *verdict(TestPam *pam, const json_t *args)
{
    json_int_t vcpus = json_integer_value(json_object_get(args, "vcpus"));
    json_int_t mem = json_integer_value(json_object_get(args, "memory-bytes"));
    g_autofree char *grant = g_strdup_printf("grant:%d:%" G_GINT64_FORMAT, (int)vcpus, (gint64)mem);
    json_t *answer;

    if (pam->reason != NULL) {
        return json_pack("{s:s,s:[{s:s,s:s,s:s,s:[s]}],s:s}", "verdict", pam->verdict, "nodes",
                         "id", "guest", "role", "guest", "verdict", pam->verdict, "reasons",
                         pam->reason, "ear", "x");
    }
    answer =
        json_pack("{s:s,s:[{s:s,s:s,s:s,s:[]}],s:s,s:I}", "verdict", "affirming", "nodes", "id",
                  "guest", "role", "guest", "verdict", "affirming", "reasons", "ear", "x",
                  "expires", (json_int_t)(g_get_real_time() / G_USEC_PER_SEC + pam->lifetime_s));
    if (!pam->no_grant) {
        json_object_set_new(answer, "grant", json_string(grant));
    }
    return answer;
}

static void on_pam_command(ForeWire *wire, ForeCall *call, gpointer data)
{
    static const uint8_t nonce[32] = {7};
    TestPam *pam = data;
    const char *command = fore_call_command(call);
    g_autofree char *text = fore_b64_encode(nonce, sizeof nonce);

    g_ptr_array_add(pam->timeline, g_strconcat("pam:", command, NULL));
    if (g_strcmp0(pam->mute, command) == 0) {
        keep_for_ever(pam->kept, call);
    } else if (strcmp(command, "begin") == 0) {
        pam->sessions++;
        fore_call_return(call, json_pack("{s:s,s:s,s:i}", "session", "session-1", "nonce", text,
                                         "pcr-mask", 0x3ff));
    } else if (strcmp(command, "finish") == 0) {
        json_decref(pam->finish);
        pam->finish = json_deep_copy(fore_call_arguments(call));
        fore_call_return(call, verdict(pam, pam->finish));
    } else {
        refuse(call, FORE_ERROR_UNSUPPORTED, "not in this script");
    }
}

static void on_pam_closed(ForeWire *wire, const GError *why, gpointer data)
{
    g_clear_pointer(&((TestPam *)data)->server.wire, fore_wire_free);
}

void test_pam_listen(TestPam *pam, bool on)
{
    server_listen(&pam->server, on);
}

TestPam *test_pam_new(GMainContext *context, const char *path, GPtrArray *timeline)
{
    static const ForeWireOps ops = {NULL, on_pam_command, NULL, on_pam_closed};
    TestPam *pam = g_new0(TestPam, 1);

    pam->timeline = timeline;
    pam->verdict = "contraindicated";
    pam->lifetime_s = 60;
    pam->kept = g_ptr_array_new();
    server_init(&pam->server, context, path, "pam", &ops, pam);
    return pam;
}

void test_pam_free(TestPam *pam)
{
    server_done(&pam->server);
    release_kept(pam->kept);
    json_decref(pam->finish);
    g_free(pam);
}

/* --- all together --- */

static void on_qmp_command(ForeTestQmp *qmp, const char *command, const json_t *arguments,
                           gpointer data)
{
    if (strcmp(command, "device_add") == 0 || strcmp(command, "qom-set") == 0) {
        g_ptr_array_add(data, g_strconcat("qmp:", command, NULL));
    }
}

/* "a=1,b=2" */
static json_t *settings(const char *text)
{
    g_auto(GStrv) pairs = g_strsplit(text != NULL ? text : "", ",", -1);
    json_t *object = json_object();

    for (char **pair = pairs; *pair != NULL; pair++) {
        g_auto(GStrv) kv = g_strsplit(*pair, "=", 2);
        json_object_set_new(object, kv[0], json_string(kv[1]));
    }
    return object;
}

void rig_policy(Rig *rig, const char *policy)
{
    foreseed_test_do(rig->t, "vm-set",
                     json_pack("{s:s,s:o}", "name", "web1", "policy", settings(policy)));
}

Rig *rig_new(const char *policy)
{
    Rig *rig = g_new0(Rig, 1);
    g_autofree char *more = NULL, *pam = NULL, *qmp = NULL, *sea = NULL;
    json_t *usual = settings("mode=enforce,forecaster=reactive,max-vcpus=4,max-memory=1GiB,"
                             "shrink-hold=1s,cooldown=0s,denial-hold=1s");
    g_autoptr(json_t) extra = settings(policy);

    rig->t = foreseed_test_new(NULL);
    rig->timeline = g_ptr_array_new_with_free_func(g_free);
    pam = foreseed_test_path(rig->t, "pam");
    qmp = foreseed_test_path(rig->t, "web1.qmp");
    sea = foreseed_test_path(rig->t, "web1.sea");
    rig->qmp = fore_test_qmp_new(rig->t->context, qmp, 8, on_qmp_command, rig->timeline);
    rig->sea = test_sea_new(rig->t->context, sea, rig->qmp, rig->timeline);
    rig->pam = test_pam_new(rig->t->context, pam, rig->timeline);
    more = g_strdup_printf("pam-address=unix:%s\npam-pin=%s\nattest-timeout-ms=1000\n", pam,
                           fore_identity_pin(rig->pam->server.identity));
    foreseed_test_configure(rig->t, more);
    foreseed_test_start(rig->t);
    json_object_update(usual, extra);
    foreseed_test_add(rig->t, "web1", RIG_UUID, usual);
    foreseed_test_wait_state(rig->t, "web1", "ok");
    return rig;
}

void rig_free(Rig *rig)
{
    foreseed_test_free(rig->t);
    test_pam_free(rig->pam);
    test_sea_free(rig->sea);
    fore_test_qmp_free(rig->qmp);
    g_ptr_array_unref(rig->timeline);
    g_free(rig);
}

int rig_index(const Rig *rig, const char *what, unsigned from)
{
    for (guint i = from; i < rig->timeline->len; i++) {
        if (strcmp(rig->timeline->pdata[i], what) == 0) {
            return (int)i;
        }
    }
    return -1;
}

unsigned rig_count(const Rig *rig, const char *what)
{
    unsigned n = 0;

    for (int at = rig_index(rig, what, 0); at >= 0; at = rig_index(rig, what, (unsigned)at + 1)) {
        n++;
    }
    return n;
}

void rig_assert_order(const Rig *rig, const char *const *what)
{
    unsigned from = 0;

    for (; *what != NULL; what++) {
        int at = rig_index(rig, *what, from);
        if (at < 0) {
            for (guint i = 0; i < rig->timeline->len; i++) {
                g_printerr("# %u %s\n", i, (const char *)rig->timeline->pdata[i]);
            }
            g_error("'%s' is missing after place %u of the timeline", *what, from);
        }
        from = (unsigned)at + 1;
    }
}
