/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vtpm/pam/fore-ask.h"

#include "common/fore-error.h"
#include "common/fore-wire.h"

struct ForeAsk {
    ForeWire *wire;
    GSource *failed; /* the connection could not even be begun */
    GError *why;
    char *pin;
    const char *pins[2];
    ForeAskReply reply; /* NULL once called */
    gpointer data;
};

static void deliver(ForeAsk *ask, const json_t *ret, const GError *error)
{
    ForeAskReply reply = ask->reply;

    ask->reply = NULL;
    if (reply != NULL) {
        reply(ret, error, ask->data); /* @ask may be gone now */
    }
}

static void on_reply(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    deliver(data, ret, error);
}

static gboolean on_failed(gpointer data)
{
    ForeAsk *ask = data;
    g_autoptr(GError) why = g_steal_pointer(&ask->why);

    deliver(ask, NULL, why);
    return G_SOURCE_REMOVE;
}

/* The wire has answered what was outstanding before this. */
static void on_closed(ForeWire *wire, const GError *why, gpointer data)
{
}

static const ForeWireOps wire_ops = {.on_closed = on_closed};

ForeAsk *fore_ask_new(const ForeAskTarget *target, const char *command, json_t *arguments,
                      ForeAskReply reply, gpointer data)
{
    ForeAsk *ask = g_new0(ForeAsk, 1);
    /* one deadline, that of the command, so that silence at any stage is called silence */
    unsigned later_ms = target->timeout_ms + 1000;
    ForeWireConfig wire = {.json = fore_json_limits_guest, .greeting_timeout_ms = later_ms};
    ForeChannelConfig channel = {.mode = FORE_CHANNEL_TLS_CLIENT,
                                 .identity = target->identity,
                                 .handshake_timeout_ms = later_ms};
    int fd = fore_connect(target->address, &ask->why);

    ask->reply = reply;
    ask->data = data;
    if (fd < 0) {
        /* whatever the address lacks: to whoever asked, the attester is not there */
        ask->why->code = FORE_ERROR_UNAVAILABLE;
        json_decref(arguments);
        ask->failed = g_idle_source_new();
        g_source_set_callback(ask->failed, on_failed, ask, NULL);
        g_source_attach(ask->failed, target->context);
        return ask;
    }
    ask->pin = g_strdup(target->pin);
    ask->pins[0] = ask->pin;
    channel.pins = ask->pins;
    ask->wire =
        fore_wire_new(target->context, fd, &channel, FORE_WIRE_CLIENT, &wire, &wire_ops, ask);
    fore_wire_execute(ask->wire, command, arguments, target->timeout_ms, on_reply, ask);
    return ask;
}

void fore_ask_free(ForeAsk *ask)
{
    if (ask == NULL) {
        return;
    }
    if (ask->failed != NULL) {
        g_source_destroy(ask->failed);
        g_source_unref(ask->failed);
    }
    fore_wire_free(ask->wire);
    g_clear_error(&ask->why);
    g_free(ask->pin);
    g_free(ask);
}
