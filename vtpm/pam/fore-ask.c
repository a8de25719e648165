/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  One timer is the deadline of everything; whatever stage it finds, silence at that
 * stage is called silence.  Only an answer sets it anew, and never beyond the total.
 */
#include "vtpm/pam/fore-ask.h"

#include "common/fore-error.h"
#include "common/fore-lookup.h"
#include "common/fore-wire.h"

struct ForeAsk {
    GMainContext *context;
    ForeIdentity *identity;
    ForeWire *wire; /* NULL while the name is looked up */
    GSource *timer;
    GSource *failed; /* the connection could not even be begun */
    GError *why;
    ForeLookup *lookup; /* NULL: none runs */
    char *pin;
    const char *pins[2];
    char *command; /* waits for the connection */
    json_t *arguments;
    unsigned timeout_ms;
    gint64 total_us; /* monotonic time by which all of it is over */
    bool pending;    /* a command is owed a reply */
    ForeAskReply reply;
    gpointer data;
};

static void deliver(ForeAsk *ask, const json_t *ret, const GError *error)
{
    if (ask->pending) {
        ask->pending = false;
        ask->reply(ret, error, ask->data); /* @ask may be gone now */
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

    g_clear_pointer(&ask->failed, g_source_unref);
    deliver(ask, NULL, why);
    return G_SOURCE_REMOVE;
}

/* From the loop, because whoever asks does not expect the answer from within its question. */
static void fail_soon(ForeAsk *ask, GError *why /* (transfer full) */)
{
    g_assert(ask->failed == NULL);
    ask->why = why;
    ask->failed = g_idle_source_new();
    g_source_set_priority(ask->failed, G_PRIORITY_DEFAULT);
    g_source_set_callback(ask->failed, on_failed, ask, NULL);
    g_source_attach(ask->failed, ask->context);
}

static gboolean on_deadline(gpointer data)
{
    ForeAsk *ask = data;
    bool over = g_get_monotonic_time() + 1000 >= ask->total_us; /* timers count whole ms */
    g_autoptr(GError) why =
        over ? g_error_new(FORE_ERROR, FORE_ERROR_TIMEOUT, "not all of it within %u ms",
                           FORE_ASK_TOTAL * ask->timeout_ms)
             : g_error_new(FORE_ERROR, FORE_ERROR_TIMEOUT, "no answer within %u ms",
                           ask->timeout_ms);

    deliver(ask, NULL, why);
    return G_SOURCE_REMOVE;
}

static void source_done(GSource **source)
{
    if (*source != NULL) {
        g_source_destroy(*source);
        g_clear_pointer(source, g_source_unref);
    }
}

static void start_deadline(ForeAsk *ask)
{
    gint64 left_ms = MAX(ask->total_us - g_get_monotonic_time(), 0) / 1000;

    source_done(&ask->timer);
    ask->timer = g_timeout_source_new((guint)MIN(left_ms, (gint64)ask->timeout_ms));
    g_source_set_callback(ask->timer, on_deadline, ask, NULL);
    g_source_attach(ask->timer, ask->context);
}

/* The wire has answered what was outstanding before this. */
static void on_closed(ForeWire *wire, const GError *why, gpointer data)
{
}

static const ForeWireOps wire_ops = {.on_closed = on_closed};

static void connect_to(ForeAsk *ask, const char *address)
{
    /* the timer is the deadline; these only must not be shorter */
    unsigned later_ms = ask->timeout_ms + 1000;
    ForeWireConfig wire = {.json = fore_json_limits_guest, .greeting_timeout_ms = later_ms};
    ForeChannelConfig channel = {.mode = FORE_CHANNEL_TLS_CLIENT,
                                 .identity = ask->identity,
                                 .pins = ask->pins,
                                 .handshake_timeout_ms = later_ms};
    GError *why = NULL;
    int fd = fore_connect(address, &why);

    if (fd < 0) {
        /* whatever the address lacks: to whoever asked, the attester is not there */
        why->code = FORE_ERROR_UNAVAILABLE;
        fail_soon(ask, why);
        return;
    }
    ask->wire = fore_wire_new(ask->context, fd, &channel, FORE_WIRE_CLIENT, &wire, &wire_ops, ask);
    fore_wire_execute(ask->wire, ask->command, g_steal_pointer(&ask->arguments), later_ms, on_reply,
                      ask);
}

static void on_found(const char *address, const GError *error, gpointer data)
{
    ForeAsk *ask = data;

    g_clear_pointer(&ask->lookup, fore_lookup_free);
    if (address == NULL) {
        fail_soon(ask, g_error_copy(error));
        return;
    }
    connect_to(ask, address);
}

/* --- life --- */

ForeAsk *fore_ask_new(const ForeAskTarget *target, const char *command, json_t *arguments,
                      ForeAskReply reply, gpointer data)
{
    ForeAsk *ask = g_new0(ForeAsk, 1);

    ask->context = g_main_context_ref(target->context);
    ask->identity = target->identity;
    ask->pin = g_strdup(target->pin);
    ask->pins[0] = ask->pin;
    ask->command = g_strdup(command);
    ask->arguments = arguments;
    ask->timeout_ms = target->timeout_ms;
    ask->reply = reply;
    ask->data = data;
    ask->pending = true;
    ask->total_us =
        g_get_monotonic_time() + (gint64)FORE_ASK_TOTAL * 1000 * (gint64)target->timeout_ms;
    start_deadline(ask);
    ask->lookup = fore_lookup_new(ask->context, target->address, 0, on_found, ask);
    if (ask->lookup == NULL) {
        connect_to(ask, target->address);
    }
    return ask;
}

void fore_ask_again(ForeAsk *ask, const char *command, json_t *arguments)
{
    g_assert(!ask->pending && ask->wire != NULL);
    ask->pending = true;
    start_deadline(ask);
    fore_wire_execute(ask->wire, command, arguments, ask->timeout_ms + 1000, on_reply, ask);
}

void fore_ask_free(ForeAsk *ask)
{
    if (ask == NULL) {
        return;
    }
    fore_lookup_free(ask->lookup);
    source_done(&ask->failed);
    source_done(&ask->timer);
    fore_wire_free(ask->wire);
    g_clear_error(&ask->why);
    json_decref(ask->arguments);
    g_free(ask->command);
    g_free(ask->pin);
    g_main_context_unref(ask->context);
    g_free(ask);
}
