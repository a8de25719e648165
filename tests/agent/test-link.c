/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The client wire that stays: up, down, up again, and every command answered once. */
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "qmp-agent/fore-link.h"
#include "tests/lib/fore-test-qmp.h"

#define DEADLINE_S 30

typedef struct {
    GMainContext *context;
    char *dir, *path, *address;
    ForeTestQmp *server;
    ForeLink *link;
    unsigned ups, downs, events, replies;
    GError *error; /* of the newest reply */
    bool reset_on_event;
} Case;

static void on_up(ForeLink *link, gpointer data)
{
    ((Case *)data)->ups++;
}

static void on_down(ForeLink *link, const GError *why, gpointer data)
{
    ((Case *)data)->downs++;
}

static void on_event(ForeLink *link, const char *event, const json_t *ev_data, gpointer data)
{
    Case *c = data;

    c->events++;
    if (c->reset_on_event) {
        fore_link_reset(link, "test");
    }
}

static void on_reply(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    Case *c = data;

    c->replies++;
    g_clear_error(&c->error);
    c->error = error != NULL ? g_error_copy(error) : NULL;
}

static gboolean too_late(gpointer data)
{
    g_error("not within %d s: %s", DEADLINE_S, (const char *)data);
    return G_SOURCE_REMOVE;
}

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

static const ForeLinkOps ops = {on_up, on_down, on_event};

static Case *case_new(void)
{
    Case *c = g_new0(Case, 1);
    ForeWireConfig config = {.json = fore_json_limits_qmp};

    c->context = g_main_context_new();
    c->dir = g_dir_make_tmp("foresee-link-XXXXXX", NULL);
    c->path = g_build_filename(c->dir, "socket", NULL);
    c->address = g_strconcat("unix:", c->path, NULL);
    c->server = fore_test_qmp_new(c->context, c->path, 1, NULL, NULL);
    c->link = fore_link_new(c->context, c->address, NULL, &config, &ops, c);
    return c;
}

static void case_free(Case *c)
{
    fore_link_free(c->link);
    fore_test_qmp_free(c->server);
    g_assert_cmpint(g_rmdir(c->dir), ==, 0);
    g_clear_error(&c->error);
    g_main_context_unref(c->context);
    g_free(c->address);
    g_free(c->path);
    g_free(c->dir);
    g_free(c);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Case, case_free)

static void test_up_and_answered(void)
{
    g_autoptr(Case) c = case_new();

    g_assert_false(fore_link_is_up(c->link));
    g_assert_cmpstr(fore_link_reason(c->link), ==, "not connected yet");
    g_assert_cmpuint(c->ups + c->downs, ==, 0); /* nothing is called from within _new */
    WAIT_FOR(c, c->ups == 1);
    g_assert_cmpstr(fore_link_reason(c->link), ==, "");
    g_assert_null(fore_link_peer_pin(c->link)); /* plain */
    fore_link_execute(c->link, "query-status", NULL, 5000, on_reply, c);
    WAIT_FOR(c, c->replies == 1);
    g_assert_no_error(c->error);
}

static void test_down_refuses_from_the_loop(void)
{
    g_autoptr(Case) c = case_new();

    fore_test_qmp_listen(c->server, false);
    WAIT_FOR(c, c->downs >= 2); /* attempts go on */
    fore_link_execute(c->link, "query-status", json_object(), 5000, on_reply, c);
    g_assert_cmpuint(c->replies, ==, 0);
    WAIT_FOR(c, c->replies == 1);
    g_assert_error(c->error, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
    g_assert_nonnull(strstr(c->error->message, c->path));
    fore_link_execute(c->link, "query-status", NULL, 5000, NULL, NULL); /* nobody cares */
    fore_test_qmp_listen(c->server, true);
    WAIT_FOR(c, c->ups == 1);
}

static void test_loss_answers_and_returns(void)
{
    g_autoptr(Case) c = case_new();

    WAIT_FOR(c, c->ups == 1);
    fore_test_qmp_swallow(c->server, "query-status");
    fore_link_execute(c->link, "query-status", NULL, 60000, on_reply, c);
    WAIT_FOR(c, fore_test_qmp_fault_is_spent(c->server));
    fore_test_qmp_drop(c->server);
    WAIT_FOR(c, c->replies == 1);
    g_assert_error(c->error, FORE_ERROR, FORE_ERROR_CLOSED);
    WAIT_FOR(c, c->ups == 2);
    g_assert_cmpuint(c->downs, ==, 1);
}

static void test_deadline(void)
{
    g_autoptr(Case) c = case_new();

    WAIT_FOR(c, c->ups == 1);
    fore_test_qmp_swallow(c->server, "query-status");
    fore_link_execute(c->link, "query-status", NULL, 50, on_reply, c);
    WAIT_FOR(c, c->replies == 1);
    g_assert_error(c->error, FORE_ERROR, FORE_ERROR_TIMEOUT);
    g_assert_true(fore_link_is_up(c->link)); /* late is not gone */
}

/* Whoever waits for an answer must learn that none will come: else a plan waits for ever. */
static void test_reset_answers(void)
{
    g_autoptr(Case) c = case_new();

    WAIT_FOR(c, c->ups == 1);
    fore_test_qmp_swallow(c->server, "query-status");
    fore_link_execute(c->link, "query-status", NULL, 600000, on_reply, c);
    fore_link_reset(c->link, "test");
    WAIT_FOR(c, c->replies == 1);
    g_assert_error(c->error, FORE_ERROR, FORE_ERROR_CLOSED);
    WAIT_FOR(c, c->ups == 2);
}

static void test_reset_from_an_event(void)
{
    g_autoptr(Case) c = case_new();

    WAIT_FOR(c, c->ups == 1);
    c->reset_on_event = true;
    fore_test_qmp_swallow(c->server, "query-status");
    fore_link_execute(c->link, "query-status", NULL, 600000, on_reply, c);
    WAIT_FOR(c, fore_test_qmp_fault_is_spent(c->server));
    fore_test_qmp_event(c->server, "RESET", NULL);
    fore_test_qmp_event(c->server, "RESET", NULL); /* of the old session: not heard any more */
    WAIT_FOR(c, c->ups == 2);
    g_assert_cmpuint(c->events, ==, 1);
    g_assert_cmpuint(c->replies, ==, 1);
    g_assert_error(c->error, FORE_ERROR, FORE_ERROR_CLOSED);
    fore_link_reset(c->link, "test");
    fore_link_reset(c->link, "test"); /* down already: nothing more to drop */
    WAIT_FOR(c, c->ups == 3);
}

/* A peer's words go into logs, records and terminals: bounded, and nothing but plain text. */
static void test_error_text_is_plain(void)
{
    g_autoptr(Case) c = case_new();
    GString *desc = g_string_new("bell \a line\n letter é ");

    while (desc->len < 40000) {
        g_string_append(desc, "and so on ");
    }
    WAIT_FOR(c, c->ups == 1);
    fore_test_qmp_refuse(c->server, "query-status", desc->str);
    fore_link_execute(c->link, "query-status", NULL, 5000, on_reply, c);
    WAIT_FOR(c, c->replies == 1);
    g_assert_nonnull(c->error);
    g_assert_true(
        g_str_has_prefix(c->error->message, "GenericError: bell ? line? letter ?? and so on "));
    g_assert_cmpuint(strlen(c->error->message), <, 1100);
    g_string_free(desc, TRUE);
}

static void test_bad_address(void)
{
    g_autoptr(Case) c = case_new();
    ForeWireConfig config = {.json = fore_json_limits_qmp};

    fore_link_free(c->link);
    c->link = fore_link_new(c->context, "smoke-signals", NULL, &config, &ops, c);
    WAIT_FOR(c, c->downs == 1);
    g_assert_nonnull(strstr(fore_link_reason(c->link), "unix:PATH or tcp:HOST:PORT"));
}

static void test_free_is_silent(void)
{
    g_autoptr(Case) c = case_new();

    WAIT_FOR(c, c->ups == 1);
    fore_test_qmp_swallow(c->server, "query-status");
    fore_link_execute(c->link, "query-status", NULL, 10, on_reply, c);
    g_clear_pointer(&c->link, fore_link_free);
    WAIT_FOR(c, !fore_test_qmp_has_client(c->server));
    g_assert_cmpuint(c->replies, ==, 0);
}

/* An attempt that fails at once must not spin: 0.1 s, 0.2 s, 0.4 s, ... */
static void test_pauses_grow(void)
{
    g_autoptr(Case) c = case_new();
    gint64 start;

    fore_test_qmp_listen(c->server, false);
    WAIT_FOR(c, c->downs == 1);
    start = g_get_monotonic_time();
    WAIT_FOR(c, c->downs == 4);
    g_assert_cmpint(g_get_monotonic_time() - start, >=, 690000);
}

/* A TCP socket on the loopback address, of a port that the kernel chose. */
static int listen_tcp(char **ret_port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof addr;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(bind(fd, (struct sockaddr *)&addr, sizeof addr), ==, 0);
    g_assert_cmpint(listen(fd, 1), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&addr, &size), ==, 0);
    *ret_port = g_strdup_printf("%u", ntohs(addr.sin_port));
    return fd;
}

static gboolean on_accepted(gint fd, GIOCondition condition, gpointer data)
{
    int client = accept(fd, NULL, NULL);

    g_assert_cmpint(client, >=, 0);
    close(client);
    ((Case *)data)->events++;
    return G_SOURCE_CONTINUE;
}

/* The name is looked up beside the loop, and found again for each attempt. */
static void test_name(void)
{
    g_autoptr(Case) c = case_new();
    g_autofree char *port = NULL, *address = NULL;
    ForeWireConfig config = {.json = fore_json_limits_qmp};
    int fd = listen_tcp(&port);
    GSource *source = g_unix_fd_source_new(fd, G_IO_IN);

    g_source_set_callback(source, G_SOURCE_FUNC(on_accepted), c, NULL);
    g_source_attach(source, c->context);
    fore_link_free(c->link);
    address = g_strdup_printf("tcp:localhost:%s", port);
    c->link = fore_link_new(c->context, address, NULL, &config, &ops, c);
    WAIT_FOR(c, c->events >= 2);
    g_clear_pointer(&c->link, fore_link_free); /* perhaps in the middle of a look-up */
    while (g_main_context_iteration(c->context, FALSE)) {
    }
    g_source_destroy(source);
    g_source_unref(source);
    close(fd);
}

static void test_keepalive(void)
{
    g_autofree char *port = NULL, *address = NULL;
    int fd = listen_tcp(&port), client, on = 0;
    socklen_t size = sizeof on;

    address = g_strdup_printf("tcp:127.0.0.1:%s", port);
    client = fore_connect(address, NULL);
    g_assert_cmpint(client, >=, 0);
    g_assert_cmpint(getsockopt(client, SOL_SOCKET, SO_KEEPALIVE, &on, &size), ==, 0);
    g_assert_cmpint(on, ==, 1);
    size = sizeof on;
    g_assert_cmpint(getsockopt(client, IPPROTO_TCP, TCP_USER_TIMEOUT, &on, &size), ==, 0);
    g_assert_cmpint(on, ==, 60000);
    close(client);
    close(fd);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent/link/comes-up-and-is-answered", test_up_and_answered);
    g_test_add_func("/agent/link/down-refuses-from-the-loop", test_down_refuses_from_the_loop);
    g_test_add_func("/agent/link/a-loss-answers-and-comes-back", test_loss_answers_and_returns);
    g_test_add_func("/agent/link/a-late-answer-is-a-timeout", test_deadline);
    g_test_add_func("/agent/link/a-reset-answers-what-is-outstanding", test_reset_answers);
    g_test_add_func("/agent/link/a-reset-from-an-event-is-safe", test_reset_from_an_event);
    g_test_add_func("/agent/link/a-peers-error-text-is-bounded-and-plain",
                    test_error_text_is_plain);
    g_test_add_func("/agent/link/a-bad-address-says-what-is-right", test_bad_address);
    g_test_add_func("/agent/link/freeing-calls-nothing-back", test_free_is_silent);
    g_test_add_func("/agent/link/pauses-between-attempts-grow", test_pauses_grow);
    g_test_add_func("/agent/link/a-name-is-looked-up-beside-the-loop", test_name);
    g_test_add_func("/agent/link/a-peer-that-vanished-is-probed-for", test_keepalive);
    return g_test_run();
}
