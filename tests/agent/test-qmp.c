/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fore-qmp against a scripted QEMU: the two things asked of it, and every way it can answer. */
#include <glib/gstdio.h>
#include <string.h>

#include "common/fore-error.h"
#include "qmp-agent/fore-qmp.h"
#include "tests/lib/fore-test-qmp.h"

#define DEADLINE_S 30
#define MIB        (G_GUINT64_CONSTANT(1) << 20)

typedef struct {
    GMainContext *context;
    char *dir, *path;
    ForeTestQmp *server;
    ForeQmp *qmp;
    unsigned ups, downs, events;
    char *last_event;
    bool done; /* of the operation under way */
    GError *error;
} Case;

static void on_up(ForeQmp *qmp, gpointer data)
{
    ((Case *)data)->ups++;
}

static void on_down(ForeQmp *qmp, const GError *why, gpointer data)
{
    ((Case *)data)->downs++;
}

static void on_event(ForeQmp *qmp, const char *event, const json_t *ev_data, gpointer data)
{
    Case *c = data;

    c->events++;
    g_free(c->last_event);
    c->last_event = g_strdup(event);
}

static void on_done(ForeQmp *qmp, const GError *error, gpointer data)
{
    Case *c = data;

    g_assert_false(c->done); /* each operation ends once */
    c->done = true;
    c->error = error != NULL ? g_error_copy(error) : NULL;
}

static gboolean too_late(gpointer data)
{
    g_error("not within %d s: %s", DEADLINE_S, (const char *)data);
    return G_SOURCE_REMOVE;
}

/* Runs the loop until @expression is true. */
#define WAIT_FOR(c, expression)                                                                    \
    do {                                                                                           \
        GSource *timer_ = g_timeout_source_new_seconds(DEADLINE_S);                                \
        g_source_set_callback(timer_, too_late, (gpointer) #expression, NULL);                     \
        g_source_attach(timer_, (c)->context);                                                     \
        while (!(expression)) {                                                                    \
            g_main_context_iteration((c)->context, TRUE);                                          \
        }                                                                                          \
        g_source_destroy(timer_);                                                                  \
        g_source_unref(timer_);                                                                    \
    } while (0)

static Case *case_new(unsigned slots)
{
    static const ForeQmpOps ops = {on_up, on_down, on_event};
    Case *c = g_new0(Case, 1);
    g_autofree char *address = NULL;

    c->context = g_main_context_new();
    c->dir = g_dir_make_tmp("foresee-qmp-XXXXXX", NULL);
    c->path = g_build_filename(c->dir, "qmp", NULL);
    c->server = fore_test_qmp_new(c->context, c->path, slots, NULL, NULL);
    address = g_strconcat("unix:", c->path, NULL);
    c->qmp = fore_qmp_new(c->context, address, "vmem0", &ops, c);
    return c;
}

static void case_free(Case *c)
{
    fore_qmp_free(c->qmp);
    fore_test_qmp_free(c->server);
    g_assert_cmpint(g_rmdir(c->dir), ==, 0);
    g_clear_error(&c->error);
    g_main_context_unref(c->context);
    g_free(c->last_event);
    g_free(c->path);
    g_free(c->dir);
    g_free(c);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Case, case_free)

static Case *case_up(unsigned slots)
{
    Case *c = case_new(slots);

    WAIT_FOR(c, fore_qmp_is_up(c->qmp));
    return c;
}

static void plug(Case *c, unsigned total)
{
    c->done = false;
    g_clear_error(&c->error);
    fore_qmp_plug_vcpus(c->qmp, total, on_done, c);
    WAIT_FOR(c, c->done);
}

static void set_vmem(Case *c, uint64_t bytes, unsigned timeout_ms)
{
    c->done = false;
    g_clear_error(&c->error);
    fore_qmp_set_vmem(c->qmp, bytes, timeout_ms, on_done, c);
    WAIT_FOR(c, c->done);
}

static void refresh(Case *c)
{
    c->done = false;
    g_clear_error(&c->error);
    fore_qmp_refresh(c->qmp, on_done, c);
    WAIT_FOR(c, c->done);
}

/* As the owner does it: an operation whose effect is unknown is asked for again once QEMU is back.
 * Returns: how often the connection was lost */
static unsigned plug_until_done(Case *c, unsigned total)
{
    unsigned lost = 0;

    for (;;) {
        plug(c, total);
        if (!g_error_matches(c->error, FORE_ERROR, FORE_ERROR_CLOSED)) {
            g_assert_no_error(c->error);
            return lost;
        }
        lost++;
        WAIT_FOR(c, fore_qmp_is_up(c->qmp));
    }
}

static void assert_ids(const Case *c, unsigned vcpus)
{
    g_assert_cmpuint(fore_test_qmp_vcpus(c->server), ==, vcpus);
    for (unsigned i = 1; i < vcpus; i++) {
        g_autofree char *id = g_strdup_printf("fore-cpu-0-%u-0", i);
        g_assert_cmpstr(fore_test_qmp_id(c->server, i), ==, id);
    }
    g_assert_cmpuint(fore_test_qmp_added(c->server), ==, vcpus - 1);
}

/* --- the ordinary way --- */

static void test_truth(void)
{
    g_autoptr(Case) c = case_up(8);
    const ForeQmpTruth *t = fore_qmp_truth(c->qmp);

    g_assert_true(t->running);
    g_assert_cmpuint(t->vcpus_plugged, ==, 1);
    g_assert_cmpuint(t->vcpus_max, ==, 8);
    g_assert_cmpuint(t->base_bytes, ==, FORE_TEST_QMP_BASE);
    g_assert_true(t->has_vmem);
    g_assert_cmpuint(t->vmem_bytes, ==, 0);
    g_assert_cmpuint(t->vmem_max, ==, FORE_TEST_QMP_VMEM);
    g_assert_cmpuint(t->vmem_block, ==, FORE_TEST_QMP_BLOCK);
    g_assert_cmpstr(fore_qmp_reason(c->qmp), ==, "");
    fore_test_qmp_run(c->server, false);
    refresh(c);
    g_assert_no_error(c->error);
    g_assert_false(t->running);
}

static void test_plug_lowest_first(void)
{
    g_autoptr(Case) c = case_up(8);

    plug(c, 4);
    g_assert_no_error(c->error);
    assert_ids(c, 4);
    g_assert_cmpuint(fore_qmp_truth(c->qmp)->vcpus_plugged, ==, 4);
    plug(c, 4); /* what is there is not asked for */
    g_assert_no_error(c->error);
    g_assert_cmpuint(fore_test_qmp_count(c->server, "device_add"), ==, 3);
    plug(c, 2); /* less is never taken away here */
    g_assert_no_error(c->error);
    assert_ids(c, 4);
}

static void test_gap_is_filled(void)
{
    g_autoptr(Case) c = case_up(8);

    fore_test_qmp_plug(c->server, 1, "someone-elses");
    fore_test_qmp_plug(c->server, 3, "someone-elses-too");
    plug(c, 5);
    g_assert_no_error(c->error);
    g_assert_cmpuint(fore_test_qmp_added(c->server), ==, 2);
    g_assert_cmpstr(fore_test_qmp_id(c->server, 2), ==, "fore-cpu-0-2-0");
    g_assert_cmpstr(fore_test_qmp_id(c->server, 4), ==, "fore-cpu-0-4-0");
}

static void test_no_slot_left(void)
{
    g_autoptr(Case) c = case_up(3);

    plug(c, 5);
    g_assert_error(c->error, FORE_ERROR, FORE_ERROR_LIMIT);
    g_assert_nonnull(strstr(c->error->message, "maxcpus")); /* the remedy */
    g_assert_cmpuint(fore_qmp_truth(c->qmp)->vcpus_plugged, ==, 3);
}

static void test_vmem_grows_and_shrinks(void)
{
    g_autoptr(Case) c = case_up(2);

    set_vmem(c, 256 * MIB, 5000);
    g_assert_no_error(c->error);
    g_assert_cmpuint(fore_qmp_truth(c->qmp)->vmem_bytes, ==, 256 * MIB);
    g_assert_cmpuint(fore_qmp_truth(c->qmp)->vmem_requested, ==, 256 * MIB);
    set_vmem(c, 128 * MIB, 5000);
    g_assert_no_error(c->error);
    g_assert_cmpuint(fore_test_qmp_vmem(c->server), ==, 128 * MIB);
}

/* --- a guest that stops short --- */

static void test_vmem_stops_short(void)
{
    g_autoptr(Case) c = case_up(2);

    fore_test_qmp_limit(c->server, 130 * MIB);
    set_vmem(c, 256 * MIB, 250);
    g_assert_error(c->error, FORE_ERROR, FORE_ERROR_TIMEOUT);
    g_assert_nonnull(strstr(c->error->message, "130 MiB of 256 MiB"));
    g_assert_cmpuint(fore_qmp_truth(c->qmp)->vmem_bytes, ==, 130 * MIB);
    g_assert_cmpuint(fore_qmp_truth(c->qmp)->vmem_requested, ==, 256 * MIB);
    fore_test_qmp_limit(c->server, FORE_TEST_QMP_VMEM); /* late, and seen by the next look */
    refresh(c);
    g_assert_cmpuint(fore_qmp_truth(c->qmp)->vmem_bytes, ==, 256 * MIB);
}

/* --- QEMU says no --- */

static void test_refused_plug(void)
{
    g_autoptr(Case) c = case_up(4);

    fore_test_qmp_refuse(c->server, "device_add", "CPU hotplug is not supported without APIC");
    plug(c, 2);
    g_assert_error(c->error, FORE_ERROR, FORE_ERROR_FAILED);
    g_assert_nonnull(strstr(c->error->message, "GenericError: CPU hotplug is not supported"));
    g_assert_cmpuint(fore_test_qmp_vcpus(c->server), ==, 1);
    plug(c, 2); /* the next attempt is a new one */
    g_assert_no_error(c->error);
}

static void test_refused_vmem(void)
{
    g_autoptr(Case) c = case_up(2);

    set_vmem(c, FORE_TEST_QMP_VMEM + 2 * MIB, 5000);
    g_assert_error(c->error, FORE_ERROR, FORE_ERROR_FAILED);
    g_assert_nonnull(strstr(c->error->message, "requested-size"));
    g_assert_cmpuint(fore_test_qmp_requested(c->server), ==, 0);
}

/* Success without effect must end, not repeat for ever. */
static void test_yes_without_effect(void)
{
    g_autoptr(Case) c = case_up(4);
    unsigned tries = 0;

    c->done = false;
    fore_test_qmp_pretend(c->server, "device_add");
    fore_qmp_plug_vcpus(c->qmp, 2, on_done, c);
    while (!c->done) {
        if (fore_test_qmp_fault_is_spent(c->server)) {
            fore_test_qmp_pretend(c->server, "device_add");
            tries++;
        }
        g_main_context_iteration(c->context, TRUE);
    }
    g_assert_error(c->error, FORE_ERROR, FORE_ERROR_FAILED);
    g_assert_cmpuint(tries, <=, 4);
    g_assert_cmpuint(fore_test_qmp_vcpus(c->server), ==, 1);
}

/* --- the connection is lost --- */

static void test_cut_answer_of_device_add(void)
{
    g_autofree char *whole = g_strdup("{\"return\": {}, \"id\": 100}\r\n");

    for (size_t n = 0; n <= strlen(whole); n++) {
        g_autoptr(Case) c = case_up(6);
        fore_test_qmp_cut(c->server, "device_add", n);
        plug_until_done(c, 4);
        assert_ids(c, 4); /* nothing twice, nothing missing */
    }
}

static void test_cut_answers_of_queries(void)
{
    static const char *const queries[] = {"query-hotpluggable-cpus", "query-memory-devices",
                                          "query-memory-size-summary", "query-status"};
    static const size_t cuts[] = {0, 1, 12, 60, 1000000};

    for (unsigned i = 0; i < G_N_ELEMENTS(queries) * G_N_ELEMENTS(cuts); i++) {
        g_autoptr(Case) c = case_up(6);
        fore_test_qmp_cut(c->server, queries[i / G_N_ELEMENTS(cuts)], cuts[i % G_N_ELEMENTS(cuts)]);
        plug_until_done(c, 3);
        assert_ids(c, 3);
        g_assert_true(fore_test_qmp_fault_is_spent(c->server));
    }
}

static void test_cut_answer_of_qom_set(void)
{
    for (size_t n = 0; n <= 28; n += 4) {
        g_autoptr(Case) c = case_up(2);
        fore_test_qmp_cut(c->server, "qom-set", n);
        set_vmem(c, 64 * MIB, 5000);
        if (c->error != NULL) {
            g_assert_error(c->error, FORE_ERROR, FORE_ERROR_CLOSED);
            WAIT_FOR(c, fore_qmp_is_up(c->qmp));
            g_assert_cmpuint(fore_qmp_truth(c->qmp)->vmem_bytes, ==, 64 * MIB); /* it was done */
            set_vmem(c, 64 * MIB, 5000);
        }
        g_assert_no_error(c->error);
    }
}

static void test_cut_negotiation(void)
{
    static const size_t cuts[] = {0, 5, 100};

    for (unsigned i = 0; i < G_N_ELEMENTS(cuts); i++) {
        g_autoptr(Case) c = case_new(2);
        fore_test_qmp_cut(c->server, "qmp_capabilities", cuts[i]);
        WAIT_FOR(c, fore_qmp_is_up(c->qmp));
        g_assert_cmpuint(fore_test_qmp_connections(c->server), >=, 2);
        g_assert_true(fore_test_qmp_fault_is_spent(c->server));
    }
}

static void test_duplicate_id_is_done(void)
{
    g_autoptr(Case) c = case_up(4);

    /* QEMU made the device, yet its list did not show it when it was read. */
    fore_test_qmp_refuse(c->server, "device_add", "Duplicate device ID 'fore-cpu-0-1-0'");
    plug(c, 2);
    g_assert_no_error(c->error);
    assert_ids(c, 2);
}

static void test_lost_before_the_answer(void)
{
    g_autoptr(Case) c = case_up(4);

    fore_test_qmp_swallow(c->server, "device_add");
    c->done = false;
    fore_qmp_plug_vcpus(c->qmp, 3, on_done, c);
    WAIT_FOR(c, fore_test_qmp_added(c->server) == 1);
    fore_test_qmp_drop(c->server);
    WAIT_FOR(c, c->done);
    g_assert_error(c->error, FORE_ERROR, FORE_ERROR_CLOSED);
    g_assert_false(fore_qmp_is_up(c->qmp));
    WAIT_FOR(c, fore_qmp_is_up(c->qmp));
    g_assert_cmpuint(fore_qmp_truth(c->qmp)->vcpus_plugged, ==, 2);
    g_assert_cmpuint(plug_until_done(c, 3), ==, 0);
    assert_ids(c, 3);
}

static void test_socket_missing_then_there(void)
{
    g_autoptr(Case) c = case_up(4);

    fore_test_qmp_listen(c->server, false);
    WAIT_FOR(c, !fore_qmp_is_up(c->qmp) && c->downs >= 2); /* lost, and an attempt refused */
    g_assert_nonnull(strstr(fore_qmp_reason(c->qmp), c->path));
    plug(c, 2);
    g_assert_error(c->error, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
    fore_test_qmp_listen(c->server, true);
    WAIT_FOR(c, fore_qmp_is_up(c->qmp));
    g_assert_cmpuint(plug_until_done(c, 2), ==, 0);
    assert_ids(c, 2);
}

/* --- QEMU as an enemy --- */

static void test_silence(void)
{
    g_autoptr(Case) c = case_new(2);

    fore_test_qmp_greet(c->server, "");
    WAIT_FOR(c, c->downs > 0);
    g_assert_nonnull(strstr(fore_qmp_reason(c->qmp), "no greeting"));
    fore_test_qmp_greet(c->server, NULL);
    WAIT_FOR(c, fore_qmp_is_up(c->qmp));
}

static void test_silence_after_greeting(void)
{
    g_autoptr(Case) c = case_new(2);

    fore_test_qmp_swallow(c->server, "query-status");
    WAIT_FOR(c, c->downs > 0); /* its first look has a deadline too */
    g_assert_false(fore_qmp_is_up(c->qmp));
    WAIT_FOR(c, fore_qmp_is_up(c->qmp));
}

static void test_garbage_greeting(void)
{
    static const char *const bad[] = {"\r\n\r\nhello\r\n", "\x16\x03\x01\xff\xff\n", "{\"QMP\": \n",
                                      "[]\n", "{\"QMP\": {}} {}\n"};

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(Case) c = case_new(2);
        fore_test_qmp_greet(c->server, bad[i]);
        WAIT_FOR(c, c->downs > 0);
        g_assert_false(fore_qmp_is_up(c->qmp));
        fore_test_qmp_greet(c->server, NULL);
        WAIT_FOR(c, fore_qmp_is_up(c->qmp));
    }
}

/* One answer that breaks the bounds: the connection ends, and the next one works. */
static void assert_survives_answer(GString *text)
{
    g_autoptr(Case) c = case_up(3);

    fore_test_qmp_answer(c->server, "query-memory-devices", text);
    refresh(c);
    g_assert_error(c->error, FORE_ERROR, FORE_ERROR_CLOSED);
    WAIT_FOR(c, fore_qmp_is_up(c->qmp));
    g_assert_cmpuint(plug_until_done(c, 2), ==, 0);
    assert_ids(c, 2);
}

static void test_huge_answer(void)
{
    GString *text = g_string_new("{\"return\": \"");

    for (unsigned i = 0; i < 11u << 10; i++) {
        static const char kib[1025] = {[0 ... 1023] = 'x'};
        g_string_append(text, kib);
    }
    g_string_append(text, "\", \"id\": 1}\n");
    assert_survives_answer(text);
}

static void test_deep_answer(void)
{
    GString *text = g_string_new("{\"return\": ");

    for (unsigned i = 0; i < 100000; i++) {
        g_string_append_c(text, '[');
    }
    g_string_append_c(text, '\n');
    assert_survives_answer(text);
}

static void test_garbage_answer(void)
{
    assert_survives_answer(g_string_new("\xff\xfe\xfd\n"));
    assert_survives_answer(g_string_new("{\"return\": {\"a\": 1, \"a\": 2}}\n"));
    assert_survives_answer(g_string_new("{\"return\": NaN, \"id\": 3}\n"));
}

/* Well-formed JSON of another shape: an error that names the command; the truth stays whole. */
static void test_absurd_answers(void)
{
    static const struct {
        const char *command, *value;
    } bad[] = {
        {"query-hotpluggable-cpus", "{}"},
        {"query-hotpluggable-cpus", "[1]"},
        {"query-hotpluggable-cpus", "[{\"type\": \"x\", \"vcpus-count\": 1}]"},
        {"query-hotpluggable-cpus", "[{\"type\": \"x\", \"props\": {}, \"vcpus-count\": -1}]"},
        {"query-hotpluggable-cpus",
         "[{\"type\": \"x\", \"props\": {}, \"vcpus-count\": 99999999999}]"},
        {"query-memory-devices", "7"},
        {"query-memory-devices",
         "[{\"type\": \"virtio-mem\", \"data\": {\"id\": \"vmem0\", \"size\": -1}}]"},
        {"query-memory-devices",
         "[{\"type\": \"virtio-mem\", \"data\": {\"id\": \"vmem0\", \"size\": 0, "
         "\"requested-size\": 0, \"max-size\": 0, \"block-size\": 0}}]"},
        {"query-memory-size-summary", "{\"base-memory\": -5}"},
        {"query-memory-size-summary", "[]"},
        {"query-status", "{\"running\": 1}"},
    };
    g_autoptr(Case) c = case_up(3);
    ForeQmpTruth before;

    plug(c, 2);
    before = *fore_qmp_truth(c->qmp);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        fore_test_qmp_return(c->server, bad[i].command,
                             json_loads(bad[i].value, JSON_DECODE_ANY, NULL));
        refresh(c);
        g_test_message("%s -> %s: %s", bad[i].command, bad[i].value,
                       c->error != NULL ? c->error->message : "taken");
        g_assert_error(c->error, FORE_ERROR, FORE_ERROR_INVALID);
        g_assert_cmpmem(fore_qmp_truth(c->qmp), sizeof before, &before, sizeof before);
    }
    refresh(c);
    g_assert_no_error(c->error);
}

static void test_event_flood(void)
{
    g_autoptr(Case) c = case_up(4);

    for (unsigned i = 0; i < 20000; i++) {
        fore_test_qmp_event(c->server, "MEMORY_DEVICE_SIZE_CHANGE",
                            json_pack("{s:s,s:i}", "id", "vmem0", "size", (int)i));
    }
    g_assert_cmpuint(plug_until_done(c, 3), ==, 0);
    assert_ids(c, 3);
    WAIT_FOR(c, c->events == 20000);
    g_assert_cmpstr(c->last_event, ==, "MEMORY_DEVICE_SIZE_CHANGE");
}

static void test_free_while_busy(void)
{
    g_autoptr(Case) c = case_up(4);

    c->done = true; /* on_done would fail the test */
    fore_test_qmp_limit(c->server, 0);
    fore_qmp_set_vmem(c->qmp, 64 * MIB, 60000, on_done, c);
    fore_test_qmp_swallow(c->server, "device_add");
    fore_qmp_plug_vcpus(c->qmp, 2, on_done, c);
    WAIT_FOR(c, fore_test_qmp_added(c->server) == 1 &&
                    fore_test_qmp_count(c->server, "query-status") > 4);
    g_clear_pointer(&c->qmp, fore_qmp_free);
    WAIT_FOR(c, !fore_test_qmp_has_client(c->server));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent/qmp/the-truth-is-read-at-once", test_truth);
    g_test_add_func("/agent/qmp/vcpus-go-to-the-lowest-slot-first", test_plug_lowest_first);
    g_test_add_func("/agent/qmp/gaps-are-filled", test_gap_is_filled);
    g_test_add_func("/agent/qmp/too-few-slots-names-maxcpus", test_no_slot_left);
    g_test_add_func("/agent/qmp/virtio-mem-grows-and-shrinks", test_vmem_grows_and_shrinks);
    g_test_add_func("/agent/qmp/a-short-virtio-mem-is-a-timeout-with-the-truth",
                    test_vmem_stops_short);
    g_test_add_func("/agent/qmp/a-refused-plug-says-why", test_refused_plug);
    g_test_add_func("/agent/qmp/a-refused-size-says-why", test_refused_vmem);
    g_test_add_func("/agent/qmp/a-yes-without-effect-ends", test_yes_without_effect);
    g_test_add_func("/agent/qmp/a-cut-device-add-plugs-nothing-twice",
                    test_cut_answer_of_device_add);
    g_test_add_func("/agent/qmp/a-cut-query-plugs-nothing-twice", test_cut_answers_of_queries);
    g_test_add_func("/agent/qmp/a-cut-qom-set-is-read-back", test_cut_answer_of_qom_set);
    g_test_add_func("/agent/qmp/a-cut-negotiation-is-tried-again", test_cut_negotiation);
    g_test_add_func("/agent/qmp/duplicate-device-id-is-done", test_duplicate_id_is_done);
    g_test_add_func("/agent/qmp/a-lost-answer-is-found-again", test_lost_before_the_answer);
    g_test_add_func("/agent/qmp/a-missing-socket-is-waited-for", test_socket_missing_then_there);
    g_test_add_func("/agent/qmp/silence-meets-the-greeting-deadline", test_silence);
    g_test_add_func("/agent/qmp/silence-after-the-greeting-too", test_silence_after_greeting);
    g_test_add_func("/agent/qmp/a-garbage-greeting-is-dropped", test_garbage_greeting);
    g_test_add_func("/agent/qmp/an-answer-of-11-mib-is-dropped", test_huge_answer);
    g_test_add_func("/agent/qmp/nesting-of-100000-is-dropped", test_deep_answer);
    g_test_add_func("/agent/qmp/garbage-answers-are-dropped", test_garbage_answer);
    g_test_add_func("/agent/qmp/absurd-answers-leave-the-truth-whole", test_absurd_answers);
    g_test_add_func("/agent/qmp/an-event-flood-hides-no-answer", test_event_flood);
    g_test_add_func("/agent/qmp/freeing-calls-nothing-back", test_free_while_busy);
    return g_test_run();
}
