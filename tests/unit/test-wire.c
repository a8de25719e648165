/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The wire and the channel over socket pairs, plain and in TLS, with peers that keep and break the
 * rules. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "common/fore-wire.h"

typedef struct {
    GMainContext *context;
    ForeIdentity *server_id, *client_id;
    ForeWire *server, *client;
    ForeCall *kept; /* a command that waits for its answer */
    bool server_ready, client_ready;
    GError *server_closed, *client_closed;
    json_t *ret;
    GError *failed;
    bool replied;
    unsigned events;
    unsigned commands;
} Pair;

static gboolean too_late(gpointer data)
{
    g_error("the test did not finish within its deadline");
    return G_SOURCE_REMOVE;
}

static void run_until(Pair *p, const bool *flag)
{
    GSource *timer = g_timeout_source_new_seconds(20);

    g_source_set_callback(timer, too_late, NULL, NULL);
    g_source_attach(timer, p->context);
    while (!*flag) {
        g_main_context_iteration(p->context, TRUE);
    }
    g_source_destroy(timer);
    g_source_unref(timer);
}

static void run_until_set(Pair *p, GError **where)
{
    while (*where == NULL) {
        g_main_context_iteration(p->context, TRUE);
    }
}

static void server_is_ready(ForeWire *w, gpointer data)
{
    ((Pair *)data)->server_ready = true;
}

static void client_is_ready(ForeWire *w, gpointer data)
{
    ((Pair *)data)->client_ready = true;
}

static void on_command(ForeWire *w, ForeCall *call, gpointer data)
{
    Pair *p = data;

    p->commands++;
    if (strcmp(fore_call_command(call), "keep") == 0) {
        p->kept = call;
    } else if (strcmp(fore_call_command(call), "fail") == 0) {
        g_autoptr(GError) e = g_error_new(FORE_ERROR, FORE_ERROR_UNTRUSTED, "no \xff thanks");
        fore_call_fail(call, e);
    } else {
        fore_wire_event(w, "SEEN", json_pack("{s:i}", "n", 1));
        fore_call_return(call, json_incref((json_t *)fore_call_arguments(call)));
    }
}

static void on_event(ForeWire *w, const char *event, const json_t *d, gpointer data)
{
    Pair *p = data;

    g_assert_cmpstr(event, ==, "SEEN");
    g_assert_cmpint(json_integer_value(json_object_get(d, "n")), ==, 1);
    p->events++;
}

static void server_closed(ForeWire *w, const GError *why, gpointer data)
{
    ((Pair *)data)->server_closed =
        why ? g_error_copy(why) : g_error_new(FORE_ERROR, FORE_ERROR_CLOSED, "clean");
}

static void client_closed(ForeWire *w, const GError *why, gpointer data)
{
    ((Pair *)data)->client_closed =
        why ? g_error_copy(why) : g_error_new(FORE_ERROR, FORE_ERROR_CLOSED, "clean");
}

static const ForeWireOps server_ops = {server_is_ready, on_command, NULL, server_closed};
static const ForeWireOps client_ops = {client_is_ready, NULL, on_event, client_closed};

static void on_reply(ForeWire *w, const json_t *ret, const GError *error, gpointer data)
{
    Pair *p = data;

    g_assert_true((ret == NULL) != (error == NULL));
    p->replied = true;
    json_decref(p->ret);
    g_clear_error(&p->failed);
    p->ret = ret ? json_deep_copy(ret) : NULL;
    p->failed = error ? g_error_copy(error) : NULL;
}

static void pair_init(Pair *p)
{
    memset(p, 0, sizeof *p);
    p->context = g_main_context_new();
    p->server_id = fore_identity_new("server", NULL);
    p->client_id = fore_identity_new("client", NULL);
}

/* Returns the raw client end when @with_client is false. */
static int pair_start(Pair *p, bool tls, bool with_client, const char *server_pins_client,
                      const ForeWireConfig *config)
{
    const char *pins[] = {server_pins_client, NULL};
    const char *server_pin[] = {fore_identity_pin(p->server_id), NULL};
    ForeChannelConfig sc = {tls ? FORE_CHANNEL_TLS_SERVER : FORE_CHANNEL_PLAIN, p->server_id,
                            server_pins_client ? pins : NULL};
    ForeChannelConfig cc = {tls ? FORE_CHANNEL_TLS_CLIENT : FORE_CHANNEL_PLAIN, p->client_id,
                            server_pin};
    ForeWireConfig standard = {.json = fore_json_limits_guest};
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    p->server = fore_wire_new(p->context, fds[0], &sc, FORE_WIRE_SERVER,
                              config ? config : &standard, &server_ops, p);
    if (with_client) {
        p->client =
            fore_wire_new(p->context, fds[1], &cc, FORE_WIRE_CLIENT, &standard, &client_ops, p);
    }
    return fds[1];
}

static void pair_done(Pair *p)
{
    fore_wire_free(p->client);
    fore_wire_free(p->server);
    fore_identity_free(p->server_id);
    fore_identity_free(p->client_id);
    json_decref(p->ret);
    g_clear_error(&p->failed);
    g_clear_error(&p->server_closed);
    g_clear_error(&p->client_closed);
    g_main_context_unref(p->context);
}

static void check_exchange(bool tls)
{
    Pair p;

    pair_init(&p);
    pair_start(&p, tls, true, fore_identity_pin(p.client_id), NULL);
    fore_wire_execute(p.client, "echo", json_pack("{s:s}", "text", "a\nb"), 5000, on_reply, &p);
    run_until(&p, &p.replied);
    g_assert_no_error(p.failed);
    g_assert_cmpstr(json_string_value(json_object_get(p.ret, "text")), ==, "a\nb");
    g_assert_cmpuint(p.events, ==, 1);
    if (tls) {
        g_assert_cmpstr(fore_channel_peer_pin(fore_wire_channel(p.server)), ==,
                        fore_identity_pin(p.client_id));
    }
    p.replied = false;
    fore_wire_execute(p.client, "fail", NULL, 5000, on_reply, &p);
    run_until(&p, &p.replied);
    g_assert_error(p.failed, FORE_ERROR, FORE_ERROR_UNTRUSTED);
    pair_done(&p);
}

static void test_plain(void)
{
    check_exchange(false);
}

static void test_tls(void)
{
    check_exchange(true);
}

static void test_wrong_pin(void)
{
    Pair p;
    g_autoptr(ForeIdentity) other = fore_identity_new("other", NULL);

    pair_init(&p);
    pair_start(&p, true, true, fore_identity_pin(other), NULL);
    run_until_set(&p, &p.server_closed);
    g_assert_error(p.server_closed, FORE_ERROR, FORE_ERROR_UNTRUSTED);
    run_until_set(&p, &p.client_closed);
    g_assert_false(p.server_ready);
    g_assert_cmpuint(p.commands, ==, 0);
    pair_done(&p);
}

static void test_deadline_and_late_answer(void)
{
    Pair p;

    pair_init(&p);
    pair_start(&p, false, true, NULL, NULL);
    fore_wire_execute(p.client, "keep", NULL, 30, on_reply, &p);
    run_until(&p, &p.replied);
    g_assert_error(p.failed, FORE_ERROR, FORE_ERROR_TIMEOUT);
    g_clear_error(&p.failed);
    fore_call_return(p.kept, NULL); /* comes too late and is dropped */
    p.replied = false;
    fore_wire_execute(p.client, "echo", NULL, 5000, on_reply, &p);
    run_until(&p, &p.replied);
    g_assert_no_error(p.failed);
    pair_done(&p);
}

static void test_closed_answers_all(void)
{
    Pair p;

    pair_init(&p);
    pair_start(&p, true, true, fore_identity_pin(p.client_id), NULL);
    fore_wire_execute(p.client, "keep", NULL, 60000, on_reply, &p);
    while (p.kept == NULL) {
        g_main_context_iteration(p.context, TRUE);
    }
    fore_wire_free(p.server);
    p.server = NULL;
    g_assert_null(fore_call_wire(p.kept));
    run_until(&p, &p.replied);
    g_assert_error(p.failed, FORE_ERROR, FORE_ERROR_CLOSED);
    fore_call_return(p.kept, NULL);
    pair_done(&p);
}

static void check_hostile(const char *bytes, size_t size, ForeErrorCode code)
{
    Pair p;
    int fd;

    pair_init(&p);
    fd = pair_start(&p, false, false, NULL, NULL);
    run_until(&p, &p.server_ready);
    for (size_t done = 0; done < size && p.server_closed == NULL;) {
        ssize_t n = send(fd, bytes + done, MIN(size - done, 8192), MSG_NOSIGNAL | MSG_DONTWAIT);
        done += n > 0 ? (size_t)n : 0;
        g_main_context_iteration(p.context, FALSE);
    }
    run_until_set(&p, &p.server_closed);
    g_assert_error(p.server_closed, FORE_ERROR, (int)code);
    g_assert_cmpuint(p.commands, ==, 0);
    close(fd);
    pair_done(&p);
}

static void test_hostile_lines(void)
{
    g_autofree char *longline = g_strnfill(70000, 'x');
    g_autofree char *deep = g_strnfill(400, '[');
    g_autoptr(GString) nested = g_string_new("{\"execute\":\"echo\",\"arguments\":{\"a\":");
    g_autofree char *commas = g_strnfill(5000, ',');
    g_autofree char *wide = g_strdup_printf("{\"a\":[%s]}\n", commas);

    g_string_append(nested, deep);
    g_string_append_c(nested, '\n');
    check_hostile(longline, strlen(longline), FORE_ERROR_LIMIT);
    check_hostile(nested->str, nested->len, FORE_ERROR_LIMIT);
    check_hostile(wide, strlen(wide), FORE_ERROR_LIMIT);
    check_hostile("\xff\xfe garbage\n", 11, FORE_ERROR_INVALID);
    check_hostile("[]\n", 3, FORE_ERROR_INVALID);
    check_hostile("{\"execute\":\"echo\",\"execute\":\"fail\"}\n", 36, FORE_ERROR_INVALID);
    check_hostile("{\"execute\":1e999}\n", 18, FORE_ERROR_INVALID);
    check_hostile("{\"execute\":\"\xc3\x28\"}\n", 17, FORE_ERROR_INVALID);
}

static void test_garbage_instead_of_tls(void)
{
    Pair p;
    int fd;
    char junk[512];

    memset(junk, 0x5a, sizeof junk);
    pair_init(&p);
    fd = pair_start(&p, true, false, fore_identity_pin(p.client_id), NULL);
    g_assert_cmpint(send(fd, junk, sizeof junk, MSG_NOSIGNAL), ==, sizeof junk);
    run_until_set(&p, &p.server_closed);
    g_assert_error(p.server_closed, FORE_ERROR, FORE_ERROR_INVALID);
    close(fd);
    pair_done(&p);
}

static void test_silent_peer(void)
{
    Pair p;
    ForeWireConfig config = {.json = fore_json_limits_qmp, .greeting_timeout_ms = 30};
    int fds[2];

    pair_init(&p);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    p.client = fore_wire_new(p.context, fds[1], NULL, FORE_WIRE_CLIENT, &config, &client_ops, &p);
    fore_wire_execute(p.client, "query-status", NULL, 60000, on_reply, &p);
    run_until_set(&p, &p.client_closed);
    g_assert_error(p.client_closed, FORE_ERROR, FORE_ERROR_TIMEOUT);
    g_assert_true(p.replied);
    close(fds[0]);
    pair_done(&p);
}

static void test_rate_is_held(void)
{
    Pair p;
    ForeWireConfig config = {.json = fore_json_limits_guest, .max_per_second = 20};
    int fd;
    gint64 start;

    pair_init(&p);
    fd = pair_start(&p, false, false, NULL, &config);
    run_until(&p, &p.server_ready);
    for (unsigned i = 0; i < 40; i++) {
        g_assert_cmpint(send(fd, "{\"execute\":\"echo\"}\n", 19, MSG_NOSIGNAL), ==, 19);
    }
    start = g_get_monotonic_time();
    /* One read may hold all 40 lines; what counts is that the next read waits for its tokens. */
    while (p.commands < 40) {
        g_main_context_iteration(p.context, TRUE);
    }
    g_assert_cmpint(send(fd, "{\"execute\":\"echo\"}\n", 19, MSG_NOSIGNAL), ==, 19);
    while (p.commands < 41) {
        g_main_context_iteration(p.context, TRUE);
    }
    /* 41 lines at 20 a second with a burst of 20: the last must wait for about a second. */
    g_assert_cmpint(g_get_monotonic_time() - start, >=, G_USEC_PER_SEC * 9 / 10);
    close(fd);
    pair_done(&p);
}

/* --- a wire that is freed by the very callback it makes --- */

static void free_and_stop(ForeWire *w, Pair *p)
{
    if (w == p->server) {
        p->server = NULL;
    } else {
        p->client = NULL;
    }
    fore_wire_free(w);
    p->replied = true;
}

static void free_on_ready(ForeWire *w, gpointer data)
{
    free_and_stop(w, data);
}

static void free_on_command(ForeWire *w, ForeCall *call, gpointer data)
{
    Pair *p = data;

    p->kept = call;
    free_and_stop(w, p);
}

static void free_on_event(ForeWire *w, const char *event, const json_t *d, gpointer data)
{
    free_and_stop(w, data);
}

static void free_on_closed(ForeWire *w, const GError *why, gpointer data)
{
    free_and_stop(w, data);
}

static void free_on_reply(ForeWire *w, const json_t *ret, const GError *error, gpointer data)
{
    free_and_stop(w, data);
}

static void check_free(bool tls, const ForeWireOps *server, const ForeWireOps *client,
                       const char *command, unsigned timeout_ms, ForeWireReply reply)
{
    ForeWireConfig config = {.json = fore_json_limits_guest, .max_per_second = 1000};
    Pair p;
    ForeChannelConfig sc, cc;
    int fds[2];

    pair_init(&p);
    sc = (ForeChannelConfig){tls ? FORE_CHANNEL_TLS_SERVER : FORE_CHANNEL_PLAIN, p.server_id};
    cc = (ForeChannelConfig){tls ? FORE_CHANNEL_TLS_CLIENT : FORE_CHANNEL_PLAIN, p.client_id};
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    p.server = fore_wire_new(p.context, fds[0], &sc, FORE_WIRE_SERVER, &config, server, &p);
    p.client = fore_wire_new(p.context, fds[1], &cc, FORE_WIRE_CLIENT, &config, client, &p);
    fore_wire_execute(p.client, command, NULL, timeout_ms, reply, &p);
    fore_wire_execute(p.client, "echo", NULL, 5000, reply, &p);
    run_until(&p, &p.replied);
    while (g_main_context_iteration(p.context, FALSE)) {
        /* what was on its way finds nobody */
    }
    if (p.kept != NULL) {
        fore_call_return(p.kept, NULL);
    }
    pair_done(&p);
}

static void test_freed_in_a_callback(void)
{
    static const ForeWireOps ready = {free_on_ready, on_command, NULL, server_closed},
                             command = {NULL, free_on_command, NULL, server_closed},
                             client_ready = {free_on_ready, NULL, on_event, client_closed},
                             event = {NULL, NULL, free_on_event, client_closed},
                             closed = {NULL, NULL, on_event, free_on_closed};

    for (unsigned tls = 0; tls < 2; tls++) {
        check_free(tls, &ready, &client_ops, "echo", 5000, NULL);
        check_free(tls, &command, &client_ops, "echo", 5000, NULL);
        check_free(tls, &server_ops, &client_ready, "echo", 5000, NULL);
        check_free(tls, &server_ops, &event, "echo", 5000, NULL);
        check_free(tls, &server_ops, &client_ops, "echo", 5000, free_on_reply);
        check_free(tls, &server_ops, &client_ops, "keep", 0, free_on_reply);
        /* the server goes as it is asked: the client's end tells its owner */
        check_free(tls, &command, &closed, "echo", 5000, NULL);
        check_free(tls, &command, &client_ops, "echo", 5000, free_on_reply);
    }
}

/* A listener whose backlog is full is alive: its socket must not be taken away. */
static void test_busy_listener_stays(void)
{
    g_autofree char *dir = g_dir_make_tmp("foresee-wire-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "socket", NULL);
    g_autofree char *address = g_strconcat("unix:", path, NULL);
    g_autoptr(GError) error = NULL;
    int fd = fore_listen(address, &error), waiting, again;

    g_assert_no_error(error);
    g_assert_cmpint(listen(fd, 0), ==, 0);
    waiting = fore_connect(address, &error);
    g_assert_no_error(error);
    again = fore_listen(address, &error);
    g_assert_cmpint(again, ==, -1);
    g_assert_error(error, FORE_ERROR, FORE_ERROR_EXISTS);
    g_clear_error(&error);
    close(waiting);
    close(fd);
    again = fore_listen(address, &error); /* a leftover goes */
    g_assert_no_error(error);
    close(again);
    unlink(path);
    rmdir(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/common/wire/command-answer-and-event-cross-plain", test_plain);
    g_test_add_func("/common/wire/command-answer-and-event-cross-tls", test_tls);
    g_test_add_func("/common/channel/unpinned-key-is-refused", test_wrong_pin);
    g_test_add_func("/common/channel/garbage-instead-of-tls-is-dropped",
                    test_garbage_instead_of_tls);
    g_test_add_func("/common/wire/late-answer-is-dropped", test_deadline_and_late_answer);
    g_test_add_func("/common/wire/closing-answers-what-is-outstanding", test_closed_answers_all);
    g_test_add_func("/common/wire/hostile-lines-drop-the-peer", test_hostile_lines);
    g_test_add_func("/common/wire/silent-peer-meets-the-greeting-deadline", test_silent_peer);
    g_test_add_func("/common/wire/any-callback-may-free-it", test_freed_in_a_callback);
    g_test_add_func("/common/socket/busy-listener-keeps-its-socket", test_busy_listener_stays);
    g_test_add_func("/common/wire/rate-is-held-by-back-pressure", test_rate_is_held);
    return g_test_run();
}
