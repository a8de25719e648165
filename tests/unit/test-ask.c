/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A conversation with an attester: what its deadline counts from, and what all of it may take. */
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "common/fore-wire.h"
#include "vtpm/pam/fore-ask.h"

#define DEADLINE_S 60

/* An attester that answers each command after a while, and its asker. */
typedef struct {
    GMainContext *context;
    char *dir, *address;
    ForeIdentity *identity;
    int fd;
    GSource *listening, *delay, *alarm;
    ForeWire *wire;
    ForeCall *call; /* waits for its delay */
    unsigned delay_ms, answers, wanted;
    ForeAsk *ask;
    bool over;
    GError *error;
} Talk;

static gboolean on_delay(gpointer data)
{
    Talk *t = data;

    g_clear_pointer(&t->delay, g_source_unref);
    fore_call_return(g_steal_pointer(&t->call), NULL);
    return G_SOURCE_REMOVE;
}

static void on_command(ForeWire *wire, ForeCall *call, gpointer data)
{
    Talk *t = data;

    t->call = call;
    t->delay = g_timeout_source_new(t->delay_ms);
    g_source_set_callback(t->delay, on_delay, t, NULL);
    g_source_attach(t->delay, t->context);
}

static void on_closed(ForeWire *wire, const GError *why, gpointer data)
{
}

static gboolean on_connection(gint fd, GIOCondition condition, gpointer data)
{
    static const ForeWireOps ops = {.on_command = on_command, .on_closed = on_closed};
    Talk *t = data;
    ForeChannelConfig channel = {.mode = FORE_CHANNEL_TLS_SERVER, .identity = t->identity};
    ForeWireConfig config = {.json = fore_json_limits_peer};
    int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    g_assert_cmpint(client, >=, 0);
    t->wire = fore_wire_new(t->context, client, &channel, FORE_WIRE_SERVER, &config, &ops, t);
    return G_SOURCE_CONTINUE;
}

static void on_reply(const json_t *ret, const GError *error, gpointer data)
{
    Talk *t = data;

    if (ret == NULL) {
        t->error = g_error_copy(error);
        t->over = true;
    } else if (++t->answers == t->wanted) {
        t->over = true;
    } else {
        fore_ask_again(t->ask, "attester-get-log", NULL);
    }
}

static gboolean on_alarm(gpointer data)
{
    g_error("the conversation does not end");
    return G_SOURCE_REMOVE;
}

static void talk(Talk *t, unsigned timeout_ms)
{
    ForeAskTarget target = {t->context, t->identity, t->address, fore_identity_pin(t->identity),
                            timeout_ms};

    t->ask = fore_ask_new(&target, "attester-quote", NULL, on_reply, t);
    while (!t->over) {
        g_main_context_iteration(t->context, TRUE);
    }
}

static Talk *talk_new(unsigned delay_ms, unsigned wanted)
{
    Talk *t = g_new0(Talk, 1);
    g_autoptr(GError) error = NULL;

    t->context = g_main_context_new();
    t->delay_ms = delay_ms;
    t->wanted = wanted;
    t->dir = g_dir_make_tmp("fore-ask-XXXXXX", &error);
    g_assert_no_error(error);
    t->address = g_strdup_printf("unix:%s/attester", t->dir);
    t->identity = fore_identity_new("attester", &error);
    g_assert_no_error(error);
    t->fd = fore_listen(t->address, &error);
    g_assert_no_error(error);
    t->listening = g_unix_fd_source_new(t->fd, G_IO_IN);
    g_source_set_callback(t->listening, G_SOURCE_FUNC(on_connection), t, NULL);
    g_source_attach(t->listening, t->context);
    t->alarm = g_timeout_source_new_seconds(DEADLINE_S);
    g_source_set_callback(t->alarm, on_alarm, t, NULL);
    g_source_attach(t->alarm, t->context);
    return t;
}

static void source_done(GSource *source)
{
    if (source != NULL) {
        g_source_destroy(source);
        g_source_unref(source);
    }
}

static void talk_free(Talk *t)
{
    fore_ask_free(t->ask);
    source_done(t->delay);
    source_done(t->listening);
    source_done(t->alarm);
    fore_wire_free(t->wire);
    if (t->call != NULL) {
        fore_call_return(t->call, NULL);
    }
    close(t->fd);
    unlink(t->address + strlen("unix:"));
    rmdir(t->dir);
    fore_identity_free(t->identity);
    g_main_context_unref(t->context);
    g_clear_error(&t->error);
    g_free(t->address);
    g_free(t->dir);
    g_free(t);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Talk, talk_free)

static void test_progress(void)
{
    g_autoptr(Talk) t = talk_new(300, 8); /* 2.4 s in all, each answer far within 2 s */

    talk(t, 2000);
    g_assert_no_error(t->error);
    g_assert_cmpuint(t->answers, ==, 8);
}

static void test_trickle(void)
{
    g_autoptr(Talk) t = talk_new(100, G_MAXUINT); /* it would go on for ever */

    talk(t, 500);
    g_assert_error(t->error, FORE_ERROR, FORE_ERROR_TIMEOUT);
    g_assert_nonnull(strstr(t->error->message, "not all of it"));
    g_assert_cmpuint(t->answers, >, 0);
}

static void test_silence(void)
{
    g_autoptr(Talk) t = talk_new(1000 * DEADLINE_S, 1);

    talk(t, 300);
    g_assert_error(t->error, FORE_ERROR, FORE_ERROR_TIMEOUT);
    g_assert_cmpuint(t->answers, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pam/ask/each-answer-sets-the-deadline-anew", test_progress);
    g_test_add_func("/pam/ask/trickling-ends-with-the-total", test_trickle);
    g_test_add_func("/pam/ask/silence-ends-with-the-deadline", test_silence);
    return g_test_run();
}
