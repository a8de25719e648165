/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/agent/test-foreseed-fixture.h"

#include <ftw.h>
#include <glib-unix.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define STORE_KEY "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

gboolean foreseed_test_too_late(gpointer data)
{
    g_error("not within %d s: %s", FORESEED_TEST_DEADLINE_S, (const char *)data);
    return G_SOURCE_REMOVE;
}

char *foreseed_test_path(const ForeseedTest *t, const char *name)
{
    return g_build_filename(t->dir, name, NULL);
}

void foreseed_test_configure(ForeseedTest *t, const char *more)
{
    /* Room in the ledger must not depend on the machine the test runs on. */
    g_autofree char *text = g_strdup_printf(
        "[foreseed]\ncontrol=%s\nstate-dir=%s/state\nstore-key-file=%s/key\novercommit=64\n"
        "reserve-memory=0\n%s",
        t->control, t->dir, t->dir, more != NULL ? more : "");
    g_autoptr(GError) err = NULL;

    g_file_set_contents(t->config, text, -1, &err);
    g_assert_no_error(err);
}

ForeseedTest *foreseed_test_new(const char *more)
{
    ForeseedTest *t = g_new0(ForeseedTest, 1);
    g_autofree char *key = NULL, *socket = NULL;
    g_autoptr(GError) err = NULL;

    t->context = g_main_context_default(); /* where child watches live */
    t->dir = g_dir_make_tmp("foreseed-XXXXXX", &err);
    g_assert_no_error(err);
    t->config = foreseed_test_path(t, "foreseed.conf");
    socket = foreseed_test_path(t, "control");
    t->control = g_strconcat("unix:", socket, NULL);
    t->log = g_string_new(NULL);
    t->log_fd = -1;
    t->events = g_ptr_array_new_with_free_func((GDestroyNotify)json_decref);
    key = foreseed_test_path(t, "key");
    g_file_set_contents(key, STORE_KEY "\n", -1, &err);
    g_assert_no_error(err);
    foreseed_test_configure(t, more);
    return t;
}

/* --- the process --- */

static gboolean on_log(gint fd, GIOCondition condition, gpointer data)
{
    ForeseedTest *t = data;
    char buf[4096];
    ssize_t n = read(fd, buf, sizeof buf);

    if (n > 0) {
        g_string_append_len(t->log, buf, n);
    }
    return n > 0 ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static void on_exit_of_child(GPid pid, gint status, gpointer data)
{
    ForeseedTest *t = data;

    t->exited = true;
    t->status = status;
}

/* A test that aborts takes its daemon along. */
static void die_with_parent(gpointer data)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static void spawn(ForeseedTest *t)
{
    const char *program = g_getenv("FORE_FORESEED");
    char *argv[] = {(char *)program, (char *)"--config", t->config, NULL};
    g_autoptr(GError) err = NULL;

    g_assert_nonnull(program);
    g_assert_cmpint(t->pid, ==, 0);
    g_string_truncate(t->log, 0);
    t->exited = false;
    g_spawn_async_with_pipes(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, die_with_parent, NULL,
                             &t->pid, NULL, NULL, &t->log_fd, &err);
    g_assert_no_error(err);
    t->child = g_child_watch_source_new(t->pid);
    g_source_set_callback(t->child, G_SOURCE_FUNC(on_exit_of_child), t, NULL);
    g_source_attach(t->child, t->context);
    t->log_source = g_unix_fd_source_new(t->log_fd, G_IO_IN | G_IO_HUP);
    g_source_set_callback(t->log_source, G_SOURCE_FUNC(on_log), t, NULL);
    g_source_attach(t->log_source, t->context);
}

static void drop(GSource **source)
{
    if (*source != NULL) {
        g_source_destroy(*source);
        g_clear_pointer(source, g_source_unref);
    }
}

/* Waits for the end, reads the rest of the log. */
static void reap(ForeseedTest *t)
{
    WAIT_FOR(t, t->exited);
    drop(&t->log_source);
    while (on_log(t->log_fd, G_IO_IN, t) == G_SOURCE_CONTINUE) {
        /* to the end */
    }
    close(t->log_fd);
    t->log_fd = -1;
    drop(&t->child);
    g_clear_pointer(&t->link, fore_link_free);
    t->pid = 0;
}

static void on_event(ForeLink *link, const char *event, const json_t *ev_data, gpointer data)
{
    ForeseedTest *t = data;

    g_ptr_array_add(t->events,
                    json_pack("{s:s,s:o}", "event", event, "data",
                              ev_data != NULL ? json_deep_copy(ev_data) : json_object()));
}

static void on_link_change(ForeLink *link, gpointer data)
{
}

static void on_link_down(ForeLink *link, const GError *why, gpointer data)
{
}

void foreseed_test_start(ForeseedTest *t)
{
    static const ForeLinkOps ops = {on_link_change, on_link_down, on_event};
    ForeWireConfig config = {.json = fore_json_limits_qmp};

    spawn(t);
    WAIT_FOR(t, t->exited || strstr(t->log->str, "ready on") != NULL);
    if (t->exited) {
        g_error("foreseed ended before it was ready: %s", t->log->str);
    }
    t->link = fore_link_new(t->context, t->control, NULL, &config, &ops, t);
    WAIT_FOR(t, fore_link_is_up(t->link));
}

int foreseed_test_start_fails(ForeseedTest *t)
{
    spawn(t);
    reap(t);
    g_test_message("%s", t->log->str);
    g_assert_true(WIFEXITED(t->status));
    return WEXITSTATUS(t->status);
}

int foreseed_test_stop(ForeseedTest *t)
{
    kill(t->pid, SIGTERM);
    reap(t);
    if (!WIFEXITED(t->status)) {
        g_error("foreseed ended by signal %d: %s", WTERMSIG(t->status), t->log->str);
    }
    return WEXITSTATUS(t->status);
}

void foreseed_test_kill(ForeseedTest *t)
{
    kill(t->pid, SIGKILL);
    reap(t);
}

static int on_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

void foreseed_test_free(ForeseedTest *t)
{
    if (t->pid != 0) {
        int code = foreseed_test_stop(t);
        if (code != 0) { /* a sanitizer's complaint shows here */
            g_error("foreseed ended with %d: %s", code, t->log->str);
        }
    }
    nftw(t->dir, on_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    g_ptr_array_unref(t->events);
    g_string_free(t->log, TRUE);
    g_free(t->control);
    g_free(t->config);
    g_free(t->dir);
    g_free(t);
}

/* --- commands --- */

typedef struct {
    bool done;
    json_t *ret;
    GError *error;
} Answer;

static void on_answer(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    Answer *answer = data;

    answer->done = true;
    answer->ret = ret != NULL ? json_deep_copy(ret) : NULL;
    answer->error = error != NULL ? g_error_copy(error) : NULL;
}

json_t *foreseed_test_ask(ForeseedTest *t, const char *command, json_t *arguments, GError **error)
{
    Answer answer = {0};

    fore_link_execute(t->link, command, arguments, FORESEED_TEST_DEADLINE_S * 1000, on_answer,
                      &answer);
    while (!answer.done && !t->exited) {
        g_main_context_iteration(t->context, TRUE);
    }
    if (t->exited) {
        reap(t);
        g_error("foreseed ended (status %d) during '%s': %s", t->status, command, t->log->str);
    }
    if (answer.ret == NULL) {
        g_propagate_error(error, answer.error);
    }
    return answer.ret;
}

json_t *foreseed_test_call(ForeseedTest *t, const char *command, json_t *arguments)
{
    g_autoptr(GError) err = NULL;
    json_t *ret = foreseed_test_ask(t, command, arguments, &err);

    g_assert_no_error(err);
    return ret;
}

void foreseed_test_do(ForeseedTest *t, const char *command, json_t *arguments)
{
    json_decref(foreseed_test_call(t, command, arguments));
}

void foreseed_test_refused(ForeseedTest *t, const char *command, json_t *arguments,
                           ForeErrorCode code, const char *part)
{
    g_autoptr(GError) err = NULL;
    json_t *ret = foreseed_test_ask(t, command, arguments, &err);

    g_assert_null(ret);
    g_test_message("%s: %s", command, err->message);
    g_assert_error(err, FORE_ERROR, (int)code);
    if (strstr(err->message, part) == NULL) {
        g_error("'%s' does not say '%s'", err->message, part);
    }
}

/* --- events and VMs --- */

static bool fits(const json_t *event, const char *name, const char *key, const char *value)
{
    const json_t *d = json_object_get(event, "data");

    return strcmp(json_string_value(json_object_get(event, "event")), name) == 0 &&
           (key == NULL || g_strcmp0(json_string_value(json_object_get(d, key)), value) == 0);
}

static const json_t *next_event(ForeseedTest *t, const char *name, const char *key,
                                const char *value)
{
    while (t->seen < t->events->len) {
        const json_t *event = t->events->pdata[t->seen++];
        if (fits(event, name, key, value)) {
            return json_object_get(event, "data");
        }
    }
    return NULL;
}

const json_t *foreseed_test_event(ForeseedTest *t, const char *name, const char *key,
                                  const char *value)
{
    const json_t *found = NULL;

    g_test_message("waiting for %s%s%s", name, key != NULL ? " with " : "",
                   key != NULL ? value : "");
    WAIT_FOR(t, (found = next_event(t, name, key, value)) != NULL || t->exited);
    g_assert_nonnull(found);
    return found;
}

unsigned foreseed_test_count(const ForeseedTest *t, const char *name)
{
    unsigned n = 0;

    for (guint i = 0; i < t->events->len; i++) {
        n += fits(t->events->pdata[i], name, NULL, NULL);
    }
    return n;
}

json_t *foreseed_test_vm(ForeseedTest *t, const char *name)
{
    g_autoptr(json_t) ret = foreseed_test_call(t, "query-vms", json_pack("{s:s}", "name", name));
    json_t *list = json_object_get(ret, "vms");

    g_assert_cmpuint(json_array_size(list), ==, 1);
    return json_incref(json_array_get(list, 0));
}

void foreseed_test_wait_state(ForeseedTest *t, const char *name, const char *state)
{
    gint64 deadline = g_get_monotonic_time() + FORESEED_TEST_DEADLINE_S * G_USEC_PER_SEC;

    for (;;) {
        g_autoptr(json_t) vm = foreseed_test_vm(t, name);
        const char *is = json_string_value(json_object_get(vm, "state"));
        if (strcmp(is, state) == 0) {
            return;
        }
        if (g_get_monotonic_time() > deadline) {
            g_error("'%s' is %s, not %s", name, is, state);
        }
        foreseed_test_event(t, "FORECAST", "name", name); /* one step of the loop further */
    }
}

json_t *foreseed_test_record(const ForeseedTest *t, const char *name, const char *uuid)
{
    g_autofree char *base = foreseed_test_path(t, name);
    g_autofree char *qmp = g_strconcat(base, ".qmp", NULL);
    g_autofree char *sea = g_strconcat(base, ".sea", NULL);
    g_autofree char *page = g_strconcat(base, ".page", NULL);

    return json_pack("{s:s,s:s,s:s,s:s,s:s}", "name", name, "uuid", uuid, "qmp", qmp, "sea", sea,
                     "page", page);
}

void foreseed_test_add(ForeseedTest *t, const char *name, const char *uuid, json_t *policy)
{
    json_t *record = foreseed_test_record(t, name, uuid);

    if (policy != NULL) {
        json_object_set_new(record, "policy", policy);
    }
    foreseed_test_do(t, "vm-add", record);
}
