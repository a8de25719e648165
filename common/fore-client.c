/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The blocking client of fore-wire.h: a wire on a private loop, for tools and tests. */
#include "common/fore-error.h"
#include "common/fore-wire.h"

#define MAX_EVENTS 4096 /* kept until they are asked for; the oldest go first */

struct ForeClient {
    GMainContext *context;
    ForeWire *wire;
    GQueue events; /* json_t */
    GError *closed;
    bool is_ready;
};

typedef struct {
    bool done;
    json_t *ret;
    GError *error;
} Answer;

static void on_ready(ForeWire *wire, gpointer data)
{
    ((ForeClient *)data)->is_ready = true;
}

static void on_event(ForeWire *wire, const char *event, const json_t *ev_data, gpointer data)
{
    ForeClient *client = data;

    if (client->events.length >= MAX_EVENTS) {
        json_decref(g_queue_pop_head(&client->events));
    }
    g_queue_push_tail(&client->events,
                      json_pack("{s:s,s:o,s:f}", "event", event, "data",
                                ev_data != NULL ? json_deep_copy(ev_data) : json_object(),
                                "timestamp", (double)g_get_real_time() / G_USEC_PER_SEC));
}

static void on_closed(ForeWire *wire, const GError *why, gpointer data)
{
    ForeClient *client = data;

    client->closed = why != NULL
                         ? g_error_copy(why)
                         : g_error_new(FORE_ERROR, FORE_ERROR_CLOSED, "peer closed the connection");
}

static gboolean set_true(gpointer data)
{
    *(bool *)data = true;
    return G_SOURCE_REMOVE;
}

/* Runs the loop until *done, the end of the wire (with @until_closed) or the deadline. */
static bool run(ForeClient *client, const bool *done, unsigned timeout_ms)
{
    bool late = false;
    GSource *timer = g_timeout_source_new(timeout_ms);

    g_source_set_callback(timer, set_true, &late, NULL);
    g_source_attach(timer, client->context);
    while (!*done && !late && client->closed == NULL) {
        g_main_context_iteration(client->context, TRUE);
    }
    g_source_destroy(timer);
    g_source_unref(timer);
    return *done;
}

static void set_why(ForeClient *client, const char *what, GError **error)
{
    if (client->closed != NULL) {
        g_propagate_error(error, g_error_copy(client->closed));
    } else {
        g_set_error(error, FORE_ERROR, FORE_ERROR_TIMEOUT, "%s", what);
    }
}

ForeClient *fore_client_new(const char *address, const ForeChannelConfig *channel,
                            unsigned timeout_ms, GError **error)
{
    static const ForeWireOps ops = {on_ready, NULL, on_event, on_closed};
    ForeWireConfig config = {.json = fore_json_limits_qmp, .greeting_timeout_ms = timeout_ms};
    ForeClient *client;
    int fd = fore_connect(address, error);

    if (fd < 0) {
        return NULL;
    }
    client = g_new0(ForeClient, 1);
    client->context = g_main_context_new();
    g_queue_init(&client->events);
    client->wire =
        fore_wire_new(client->context, fd, channel, FORE_WIRE_CLIENT, &config, &ops, client);
    if (!run(client, &client->is_ready, timeout_ms)) {
        set_why(client, "no greeting within the deadline", error);
        g_prefix_error(error, "'%s': ", address);
        fore_client_free(client);
        return NULL;
    }
    return client;
}

void fore_client_free(ForeClient *client)
{
    if (client == NULL) {
        return;
    }
    fore_wire_free(client->wire);
    g_queue_clear_full(&client->events, (GDestroyNotify)json_decref);
    g_clear_error(&client->closed);
    g_main_context_unref(client->context);
    g_free(client);
}

static void on_reply(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    Answer *answer = data;

    answer->done = true;
    answer->ret = ret != NULL ? json_deep_copy(ret) : NULL;
    answer->error = error != NULL ? g_error_copy(error) : NULL;
}

json_t *fore_client_call(ForeClient *client, const char *command, json_t *arguments,
                         unsigned timeout_ms, GError **error)
{
    Answer answer = {0};

    if (client->closed != NULL) {
        json_decref(arguments);
        set_why(client, "", error);
        return NULL;
    }
    fore_wire_execute(client->wire, command, arguments, timeout_ms, on_reply, &answer);
    /* The wire answers in any case, by its own deadline or by closing. */
    while (!answer.done) {
        g_main_context_iteration(client->context, TRUE);
    }
    if (answer.ret == NULL) {
        g_propagate_error(error, answer.error);
    }
    return answer.ret;
}

json_t *fore_client_next_event(ForeClient *client, unsigned timeout_ms, GError **error)
{
    bool late = false;
    GSource *timer = g_timeout_source_new(timeout_ms);
    json_t *event;

    g_source_set_callback(timer, set_true, &late, NULL);
    g_source_attach(timer, client->context);
    while ((event = g_queue_pop_head(&client->events)) == NULL && !late && client->closed == NULL) {
        g_main_context_iteration(client->context, TRUE);
    }
    g_source_destroy(timer);
    g_source_unref(timer);
    if (event == NULL) {
        set_why(client, "no event within the time given", error);
    }
    return event;
}
