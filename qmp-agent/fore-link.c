/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp-agent/fore-link.h"

#include "common/fore-error.h"
#include "common/fore-lookup.h"

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 5000

typedef struct {
    ForeLink *link;
    ForeWireReply reply;
    gpointer data;
    GSource *source;
} Refusal;

struct ForeLink {
    GMainContext *context;
    char *address, *reason;
    char **pins;
    ForeChannelConfig channel;
    bool has_channel;
    ForeWireConfig config;
    const ForeLinkOps *ops;
    gpointer data;
    ForeWire *wire;
    GSource *timer;
    ForeLookup *lookup; /* of the address, while it runs */
    GSList *refusals;   /* Refusal */
    unsigned backoff_ms;
    unsigned attempts; /* so far: each takes the next address of a name */
};

static void attempt(ForeLink *link);

static gboolean on_timer(gpointer data)
{
    ForeLink *link = data;

    g_clear_pointer(&link->timer, g_source_unref);
    attempt(link);
    return G_SOURCE_REMOVE;
}

static void retry_later(ForeLink *link)
{
    if (link->timer != NULL) {
        return;
    }
    link->timer = g_timeout_source_new(link->backoff_ms);
    g_source_set_callback(link->timer, on_timer, link, NULL);
    g_source_attach(link->timer, link->context);
    link->backoff_ms = MIN(2 * link->backoff_ms, BACKOFF_MAX_MS);
}

static void went_down(ForeLink *link, const GError *why)
{
    g_free(link->reason);
    link->reason = g_strdup(why != NULL ? why->message : "the peer closed the connection");
    retry_later(link);
    link->ops->on_down(link, why, link->data);
}

static void on_ready(ForeWire *wire, gpointer data)
{
    ForeLink *link = data;

    link->backoff_ms = BACKOFF_MIN_MS;
    g_free(link->reason);
    link->reason = g_strdup("");
    link->ops->on_up(link, link->data);
}

static void on_event(ForeWire *wire, const char *event, const json_t *ev_data, gpointer data)
{
    ForeLink *link = data;

    if (link->ops->on_event != NULL) {
        link->ops->on_event(link, event, ev_data, link->data);
    }
}

static void on_closed(ForeWire *wire, const GError *why, gpointer data)
{
    ForeLink *link = data;

    fore_wire_free(g_steal_pointer(&link->wire));
    went_down(link, why);
}

static void connect_to(ForeLink *link, const char *address)
{
    static const ForeWireOps ops = {on_ready, NULL, on_event, on_closed};
    g_autoptr(GError) why = NULL;
    int fd = fore_connect(address, &why);

    if (fd < 0) {
        went_down(link, why);
        return;
    }
    link->wire = fore_wire_new(link->context, fd, link->has_channel ? &link->channel : NULL,
                               FORE_WIRE_CLIENT, &link->config, &ops, link);
}

static void on_found(const char *address, const GError *error, gpointer data)
{
    ForeLink *link = data;

    g_clear_pointer(&link->lookup, fore_lookup_free);
    if (address == NULL) {
        went_down(link, error);
        return;
    }
    connect_to(link, address);
}

static void attempt(ForeLink *link)
{
    link->lookup = fore_lookup_new(link->context, link->address, link->attempts++, on_found, link);
    if (link->lookup == NULL) {
        connect_to(link, link->address);
    }
}

ForeLink *fore_link_new(GMainContext *context, const char *address,
                        const ForeChannelConfig *channel, const ForeWireConfig *config,
                        const ForeLinkOps *ops, gpointer data)
{
    ForeLink *link = g_new0(ForeLink, 1);

    link->context = g_main_context_ref(context);
    link->address = g_strdup(address);
    link->reason = g_strdup("not connected yet");
    link->config = *config;
    link->ops = ops;
    link->data = data;
    if (channel != NULL) {
        link->has_channel = true;
        link->channel = *channel;
        link->pins = g_strdupv((char **)channel->pins);
        link->channel.pins = (const char *const *)link->pins;
    }
    /* The first attempt too comes from the loop, so that the owner is complete when it is called.
     */
    link->backoff_ms = 1;
    retry_later(link);
    link->backoff_ms = BACKOFF_MIN_MS;
    return link;
}

static void refusal_free(gpointer data)
{
    Refusal *refusal = data;

    g_source_destroy(refusal->source);
    g_source_unref(refusal->source);
    g_free(refusal);
}

void fore_link_free(ForeLink *link)
{
    if (link == NULL) {
        return;
    }
    fore_wire_free(link->wire);
    fore_lookup_free(link->lookup);
    if (link->timer != NULL) {
        g_source_destroy(link->timer);
        g_source_unref(link->timer);
    }
    g_slist_free_full(link->refusals, refusal_free);
    g_strfreev(link->pins);
    g_free(link->address);
    g_free(link->reason);
    g_main_context_unref(link->context);
    g_free(link);
}

bool fore_link_is_up(const ForeLink *link)
{
    return link->wire != NULL && fore_wire_is_ready(link->wire);
}

const char *fore_link_reason(const ForeLink *link)
{
    return link->reason;
}

const char *fore_link_peer_pin(const ForeLink *link)
{
    return fore_link_is_up(link) ? fore_channel_peer_pin(fore_wire_channel(link->wire)) : NULL;
}

static gboolean on_refuse(gpointer data)
{
    Refusal *refusal = data;
    ForeLink *link = refusal->link;
    g_autoptr(GError) why = g_error_new(FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                                        "'%s' is not connected: %s", link->address, link->reason);
    ForeWireReply reply = refusal->reply;
    gpointer reply_data = refusal->data;

    link->refusals = g_slist_remove(link->refusals, refusal);
    refusal_free(refusal);
    reply(NULL, NULL, why, reply_data);
    return G_SOURCE_REMOVE;
}

void fore_link_execute(ForeLink *link, const char *command, json_t *arguments, unsigned timeout_ms,
                       ForeWireReply reply, gpointer data)
{
    Refusal *refusal;

    if (fore_link_is_up(link)) {
        fore_wire_execute(link->wire, command, arguments, timeout_ms, reply, data);
        return;
    }
    json_decref(arguments);
    if (reply == NULL) {
        return;
    }
    refusal = g_new0(Refusal, 1);
    *refusal = (Refusal){link, reply, data, g_idle_source_new()};
    g_source_set_priority(refusal->source, G_PRIORITY_DEFAULT);
    g_source_set_callback(refusal->source, on_refuse, refusal, NULL);
    g_source_attach(refusal->source, link->context);
    link->refusals = g_slist_prepend(link->refusals, refusal);
}

void fore_link_reset(ForeLink *link, const char *why)
{
    g_autoptr(GError) error = NULL;

    if (link->wire == NULL) {
        return;
    }
    error =
        g_error_new(FORE_ERROR, FORE_ERROR_CLOSED, "'%s' was hung up on: %s", link->address, why);
    fore_wire_drop(link->wire, error); /* who waits for an answer learns that none will come */
}
