/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest agent against peers that lie: each is dropped, and the next one is served. */
#include <string.h>

#include "common/fore-error.h"
#include "tests/agent/test-sea-fixture.h"

typedef struct {
    const char *bytes;
    size_t size;
    bool closed, ready;
} Attack;

static void on_ready(ForeChannel *ch, gpointer data)
{
    Attack *attack = data;

    attack->ready = true;
    fore_channel_send(ch, attack->bytes, attack->size);
}

static void on_bytes(ForeChannel *ch, const char *bytes, size_t size, gpointer data)
{
}

static void on_closed(ForeChannel *ch, const GError *why, gpointer data)
{
    ((Attack *)data)->closed = true;
}

static const ForeChannelOps attack_ops = {on_ready, on_bytes, on_closed};

static gboolean too_late(gpointer data)
{
    g_error("the agent did not drop the peer within 20 s");
    return G_SOURCE_REMOVE;
}

/* Connects, sends, and waits for the agent to hang up.  Returns: whether TLS came up */
static bool attack(SeaTest *t, const ForeChannelConfig *config, const char *bytes, size_t size)
{
    g_autoptr(GMainContext) context = g_main_context_new();
    g_autoptr(GError) err = NULL;
    g_autoptr(GSource) timer = g_timeout_source_new_seconds(20);
    Attack state = {bytes, size, false, false};
    int fd = fore_connect(t->address, &err);
    ForeChannel *ch;

    g_assert_no_error(err);
    g_source_set_callback(timer, too_late, NULL, NULL);
    g_source_attach(timer, context);
    ch = fore_channel_new(context, fd, config, &attack_ops, &state);
    while (!state.closed) {
        g_main_context_iteration(context, TRUE);
    }
    g_source_destroy(timer);
    fore_channel_free(ch);
    return state.ready;
}

static void assert_serves(SeaTest *t)
{
    g_autoptr(ForeClient) client = sea_test_connect(t);
    g_autoptr(json_t) capacity = sea_test_call(client, "sea-capacity", NULL);

    g_assert_cmpint(sea_test_int(capacity, "vcpus-present"), ==, 3);
}

static void broken_lines(void)
{
    g_autoptr(SeaTest) t = sea_test_new(NULL, NULL);
    ForeChannelConfig config = sea_test_channel(t, t->host);
    g_autofree char *oversize = g_strnfill(200000, 'x');
    g_autofree char *deep = g_strnfill(2000, '[');
    g_autofree char *deep_line = g_strdup_printf("{\"execute\":%s\n", deep);
    g_autofree char *wide = g_strnfill(60000, ',');
    g_autofree char *wide_line = g_strdup_printf("{\"execute\":[%s\n", wide);
    const char *const lines[] = {"\x01\x02\xff garbage\n", "{}\n{\"execute\":3}\nnot json\n",
                                 oversize, deep_line, wide_line};

    for (unsigned i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_test_message("line %u", i);
        g_assert_true(attack(t, &config, lines[i], strlen(lines[i])));
        assert_serves(t);
    }
}

static void other_pin(void)
{
    g_autoptr(SeaTest) t = sea_test_new(NULL, NULL);
    g_autoptr(ForeIdentity) stranger = fore_identity_new("stranger", NULL);
    ForeChannelConfig config = sea_test_channel(t, stranger);
    g_autoptr(GError) err = NULL;

    g_assert_null(fore_client_new(t->address, &config, SEA_TEST_CALL_MS, &err));
    g_assert_nonnull(err);
    g_test_message("%s", err->message);
    assert_serves(t);
}

static void no_tls(void)
{
    g_autoptr(SeaTest) t = sea_test_new(NULL, NULL);
    const ForeChannelConfig plain = {.mode = FORE_CHANNEL_PLAIN};
    static const char hello[] = "{\"execute\":\"qmp_capabilities\"}\n";

    attack(t, &plain, hello, strlen(hello));
    attack(t, &plain, "", 0); /* silence: the handshake's deadline */
    assert_serves(t);
}

static void wrong_arguments(void)
{
    g_autoptr(SeaTest) t = sea_test_new(NULL, NULL);
    g_autoptr(ForeClient) client = sea_test_connect(t);
    static const char *const calls[][2] = {
        {"sea-grant", "{}"},
        {"sea-grant", "{\"grant\": 5}"},
        {"sea-attest", "{\"nonce\": \"!\", \"pcr-mask\": 1}"},
        {"sea-activate", "{\"credential-blob\": \"\"}"},
        {"sea-get-log", "{\"log\": \"/etc/shadow\", \"offset\": 0, \"length\": 1}"},
        {"sea-get-log", "{\"log\": \"ima\", \"offset\": -1, \"length\": 1}"},
        {"sea-get-log", "{\"log\": \"ima\", \"offset\": 0, \"length\": 32769}"},
        {"sea-release", "{\"vcpus\": 0, \"memory-bytes\": 1}"},
        {"sea-release", "{\"vcpus\": 1, \"memory-bytes\": -1}"},
        {"sea-interval", "{\"milliseconds\": 1e3}"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(calls); i++) {
        g_autofree char *message = sea_test_refused(
            client, calls[i][0], json_loads(calls[i][1], 0, NULL), FORE_ERROR_INVALID);
        g_assert_cmpuint(strlen(message), >, 0);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guest-agent/sea/a-line-that-breaks-a-bound-drops-the-peer-only",
                    broken_lines);
    g_test_add_func("/guest-agent/sea/another-hosts-key-is-refused", other_pin);
    g_test_add_func("/guest-agent/sea/a-peer-without-tls-is-dropped", no_tls);
    g_test_add_func("/guest-agent/sea/wrong-arguments-are-refused", wrong_arguments);
    return g_test_run();
}
