/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Bytes collect until a newline; each line is one object within the wire's bounds. A
 * client waits for the greeting, sends qmp_capabilities and is then ready; commands that were given
 * before are queued.  Each command has an id of ours and a deadline; an answer without a known id
 * is dropped.  A server answers each command once, in any order.  A peer that breaks a bound or the
 * grammar is dropped: there is no resynchronising inside a stream that lies.
 */
#include "common/fore-wire.h"

#include <stdio.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"

struct ForeCall {
    ForeWire *wire; /* NULL once the peer is gone */
    json_t *id, *arguments;
    char *command;
};

typedef struct {
    ForeWire *wire;
    uint64_t id;
    ForeWireReply reply;
    gpointer data;
    GSource *timer;
} Pending;

struct ForeWire {
    unsigned refs;
    bool dead, ready, closed;
    ForeWireRole role;
    ForeWireConfig config;
    const ForeWireOps *ops;
    gpointer data;
    GMainContext *context;
    ForeChannel *channel;
    GByteArray *line;
    GQueue backlog;      /* client: char* lines to send once ready */
    GHashTable *pending; /* client: id -> Pending */
    GPtrArray *calls;    /* server: ForeCall owed an answer */
    uint64_t next_id;
    GSource *timer;  /* client: greeting */
    GSource *refill; /* token bucket */
    double tokens;
    gint64 refilled_us;
};

#define MAX_OPEN_CALLS 256  /* commands of one peer that wait for an answer */
#define MAX_DESC       1000 /* bytes of a peer's error text: it goes into logs and records */

static void drop_source(GSource **source)
{
    if (*source != NULL) {
        g_source_destroy(*source);
        g_source_unref(*source);
        *source = NULL;
    }
}

static void pending_free(gpointer p)
{
    Pending *pending = p;

    drop_source(&pending->timer);
    g_free(pending);
}

static void unref(ForeWire *wire)
{
    if (--wire->refs > 0) {
        return;
    }
    g_byte_array_unref(wire->line);
    g_queue_clear_full(&wire->backlog, g_free);
    g_hash_table_unref(wire->pending);
    g_ptr_array_unref(wire->calls);
    g_main_context_unref(wire->context);
    g_free(wire);
}

static GSource *after_ms(ForeWire *wire, unsigned ms, GSourceFunc fn, gpointer data)
{
    GSource *source = g_timeout_source_new(ms);

    g_source_set_callback(source, fn, data, NULL);
    g_source_attach(source, wire->context);
    return source;
}

static bool send_json(ForeWire *wire, json_t *object)
{
    g_autofree char *text = fore_json_dump_line(object);
    g_autofree char *line = g_strconcat(text, "\n", NULL);

    json_decref(object);
    return !wire->closed && fore_channel_send(wire->channel, line, strlen(line));
}

/* Answers everything outstanding, then tells the owner. */
static void close_wire(ForeWire *wire, const GError *why)
{
    g_autoptr(GError) gone = NULL;
    GHashTableIter iter;
    gpointer value;

    if (wire->closed) {
        return;
    }
    wire->refs++;
    wire->closed = true;
    wire->ready = false;
    drop_source(&wire->timer);
    drop_source(&wire->refill);
    for (guint i = 0; i < wire->calls->len; i++) {
        ((ForeCall *)wire->calls->pdata[i])->wire = NULL;
    }
    g_ptr_array_set_size(wire->calls, 0);
    gone = g_error_new(FORE_ERROR, FORE_ERROR_CLOSED, "connection closed: %s",
                       why != NULL ? why->message : "end of stream");
    for (;;) {
        Pending *p;
        g_hash_table_iter_init(&iter, wire->pending);
        if (wire->dead || !g_hash_table_iter_next(&iter, NULL, &value)) {
            break;
        }
        p = value;
        g_hash_table_iter_steal(&iter);
        if (p->reply != NULL) {
            p->reply(wire, NULL, gone, p->data);
        }
        pending_free(p);
    }
    if (!wire->dead && wire->ops->on_closed != NULL) {
        wire->ops->on_closed(wire, why, wire->data);
    }
    unref(wire);
}

/* The peer broke the contract. */
static void drop_peer(ForeWire *wire, GError *why)
{
    wire->refs++;
    fore_channel_close_after_flush(wire->channel);
    close_wire(wire, why);
    g_error_free(why);
    unref(wire);
}

void fore_wire_drop(ForeWire *wire, const GError *why)
{
    drop_peer(wire, g_error_copy(why));
}

/* --- server half --- */

static json_t *error_object(const char *class, const char *desc)
{
    g_autofree char *shown = g_utf8_make_valid(desc, -1);

    return json_pack("{s:{s:s,s:s}}", "error", "class", class, "desc", shown);
}

static void answer(ForeWire *wire, json_t *id, json_t *object)
{
    if (id != NULL) {
        json_object_set(object, "id", id);
    }
    send_json(wire, object);
}

static void call_free(ForeCall *call)
{
    if (call->wire != NULL) {
        g_ptr_array_remove_fast(call->wire->calls, call);
    }
    json_decref(call->id);
    json_decref(call->arguments);
    g_free(call->command);
    g_free(call);
}

const char *fore_call_command(const ForeCall *call)
{
    return call->command;
}

const json_t *fore_call_arguments(const ForeCall *call)
{
    return call->arguments;
}

ForeWire *fore_call_wire(ForeCall *call)
{
    return call->wire;
}

void fore_call_return(ForeCall *call, json_t *ret)
{
    if (call->wire != NULL) {
        answer(call->wire, call->id,
               json_pack("{s:o}", "return", ret != NULL ? ret : json_object()));
    } else {
        json_decref(ret);
    }
    call_free(call);
}

void fore_call_fail(ForeCall *call, const GError *error)
{
    if (call->wire != NULL) {
        ForeErrorCode code =
            error->domain == FORE_ERROR ? (ForeErrorCode)error->code : FORE_ERROR_FAILED;
        answer(call->wire, call->id, error_object(fore_error_code_name(code), error->message));
    }
    call_free(call);
}

void fore_wire_event(ForeWire *wire, const char *event, json_t *ev_data)
{
    gint64 now = g_get_real_time();

    if (!wire->ready) {
        json_decref(ev_data);
        return;
    }
    send_json(wire, json_pack("{s:s,s:o,s:{s:I,s:I}}", "event", event, "data",
                              ev_data != NULL ? ev_data : json_object(), "timestamp", "seconds",
                              (json_int_t)(now / G_USEC_PER_SEC), "microseconds",
                              (json_int_t)(now % G_USEC_PER_SEC)));
}

static void greet(ForeWire *wire)
{
    unsigned major = 0, minor = 0, micro = 0;

    sscanf(FORE_VERSION, "%u.%u.%u", &major, &minor, &micro);
    send_json(wire, json_pack("{s:{s:{s:{s:i,s:i,s:i},s:s},s:[]}}", "QMP", "version", "qemu",
                              "major", (int)major, "minor", (int)minor, "micro", (int)micro,
                              "package", "foresee " FORE_VERSION, "capabilities"));
}

static void on_request(ForeWire *wire, json_t *object)
{
    json_t *id = json_object_get(object, "id");
    json_t *arguments = json_object_get(object, "arguments");
    const char *command = json_string_value(json_object_get(object, "execute"));
    ForeCall *call;

    if (command == NULL || (arguments != NULL && !json_is_object(arguments))) {
        answer(wire, id,
               error_object("Invalid", "expected {\"execute\": NAME, \"arguments\": {}}"));
        return;
    }
    if (strcmp(command, "qmp_capabilities") == 0) {
        answer(wire, id, json_pack("{s:{}}", "return"));
        return;
    }
    if (wire->ops->on_command == NULL || wire->calls->len >= MAX_OPEN_CALLS) {
        answer(wire, id, error_object("Limit", "too many commands wait for an answer; slow down"));
        return;
    }
    call = g_new0(ForeCall, 1);
    call->wire = wire;
    call->id = json_incref(id);
    call->command = g_strdup(command);
    call->arguments = arguments != NULL ? json_incref(arguments) : json_object();
    g_ptr_array_add(wire->calls, call);
    wire->ops->on_command(wire, call, wire->data);
}

/* --- client half --- */

static void send_command(ForeWire *wire, char *line)
{
    fore_channel_send(wire->channel, line, strlen(line));
    g_free(line);
}

static gboolean on_deadline(gpointer data)
{
    Pending *p = data;
    ForeWire *wire = p->wire;
    g_autoptr(GError) late =
        g_error_new(FORE_ERROR, FORE_ERROR_TIMEOUT, "no answer within the deadline");

    wire->refs++;
    g_hash_table_steal(wire->pending, &p->id);
    if (p->reply != NULL && !wire->dead) {
        p->reply(wire, NULL, late, p->data);
    }
    pending_free(p);
    unref(wire);
    return G_SOURCE_REMOVE;
}

void fore_wire_execute(ForeWire *wire, const char *command, json_t *arguments, unsigned timeout_ms,
                       ForeWireReply reply, gpointer data)
{
    Pending *p = g_new0(Pending, 1);
    g_autoptr(json_t) object = NULL;
    g_autofree char *text = NULL;
    char *line;

    p->wire = wire;
    p->id = ++wire->next_id;
    p->reply = reply;
    p->data = data;
    /* A closed wire answers from the loop as well: the deadline of 0 ms does it. */
    p->timer = after_ms(wire, wire->closed ? 0 : timeout_ms, on_deadline, p);
    g_hash_table_insert(wire->pending, &p->id, p);
    object = json_pack("{s:s,s:I}", "execute", command, "id", (json_int_t)p->id);
    if (arguments != NULL) {
        json_object_set_new(object, "arguments", arguments);
    }
    text = fore_json_dump_line(object);
    line = g_strconcat(text, "\n", NULL);
    if (wire->ready) {
        send_command(wire, line);
    } else {
        g_queue_push_tail(&wire->backlog, line);
    }
}

static GError *peer_error(const json_t *object)
{
    const json_t *err = json_object_get(object, "error");
    const char *class = json_string_value(json_object_get(err, "class"));
    const char *desc = json_string_value(json_object_get(err, "desc"));

    g_autofree char *text =
        g_strdup_printf("%.32s: %." G_STRINGIFY(MAX_DESC) "s", class != NULL ? class : "Failed",
                        desc != NULL ? desc : "no description");

    return g_error_new_literal(FORE_ERROR, (gint)fore_error_code_from_name(class),
                               fore_text_plain(text));
}

static void on_answer(ForeWire *wire, const json_t *object)
{
    const json_t *ret = json_object_get(object, "return");
    uint64_t id = (uint64_t)json_integer_value(json_object_get(object, "id"));
    Pending *p = g_hash_table_lookup(wire->pending, &id);
    g_autoptr(GError) why = ret == NULL ? peer_error(object) : NULL;

    if (p == NULL) {
        return; /* its deadline has passed */
    }
    g_hash_table_steal(wire->pending, &p->id);
    if (p->reply != NULL) {
        p->reply(wire, ret, why, p->data);
    }
    pending_free(p);
}

static void become_ready(ForeWire *wire)
{
    char *line;

    drop_source(&wire->timer);
    wire->ready = true;
    if (wire->ops->on_ready != NULL) {
        wire->ops->on_ready(wire, wire->data);
    }
    while (!wire->dead && !wire->closed && (line = g_queue_pop_head(&wire->backlog)) != NULL) {
        send_command(wire, line);
    }
}

static void on_negotiated(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    if (error == NULL) {
        become_ready(wire);
    } else if (!wire->closed) {
        drop_peer(wire, g_error_copy(error));
    }
}

static void negotiate(ForeWire *wire)
{
    char *own;

    fore_wire_execute(wire, "qmp_capabilities", NULL, 2000, on_negotiated, NULL);
    own = g_queue_pop_tail(&wire->backlog); /* ours goes first, past the queue */
    send_command(wire, own);
}

static void on_client_line(ForeWire *wire, json_t *object)
{
    const char *event = json_string_value(json_object_get(object, "event"));

    if (json_object_get(object, "QMP") != NULL) {
        if (wire->timer != NULL) {
            drop_source(&wire->timer);
            negotiate(wire);
        }
    } else if (event != NULL) {
        if (wire->ops->on_event != NULL) {
            wire->ops->on_event(wire, event, json_object_get(object, "data"), wire->data);
        }
    } else if (json_object_get(object, "return") != NULL ||
               json_object_get(object, "error") != NULL) {
        on_answer(wire, object);
    }
}

/* --- lines --- */

static gboolean on_refill(gpointer data);

static void refill_tokens(ForeWire *wire)
{
    double rate = wire->config.max_per_second;
    gint64 now = g_get_monotonic_time();

    wire->tokens += rate * (double)(now - wire->refilled_us) / G_USEC_PER_SEC;
    wire->tokens = MIN(wire->tokens, rate);
    wire->refilled_us = now;
}

/* Without a token the wire stops reading until its debt is paid. */
static void hold_while_in_debt(ForeWire *wire)
{
    if (wire->tokens < 0 && wire->refill == NULL) {
        double ms = 1000 * -wire->tokens / wire->config.max_per_second;
        fore_channel_pause(wire->channel, true);
        wire->refill = after_ms(wire, (unsigned)ms + 1, on_refill, wire);
    }
}

static gboolean on_refill(gpointer data)
{
    ForeWire *wire = data;

    drop_source(&wire->refill);
    refill_tokens(wire);
    hold_while_in_debt(wire);
    if (wire->refill == NULL) {
        fore_channel_pause(wire->channel, false);
    }
    return G_SOURCE_REMOVE;
}

/* A read may hold many lines; they all run and go into debt, so the mean rate is held. */
static void spend_token(ForeWire *wire)
{
    if (wire->config.max_per_second > 0) {
        refill_tokens(wire);
        wire->tokens -= 1;
        hold_while_in_debt(wire);
    }
}

static void on_line(ForeWire *wire, const char *text, size_t size)
{
    GError *why = NULL;
    g_autoptr(json_t) object = NULL;

    if (size > 0 && text[size - 1] == '\r') {
        size--;
    }
    if (size == 0) {
        return;
    }
    object = fore_json_parse(text, size, &wire->config.json, &why);
    if (object == NULL) {
        drop_peer(wire, why);
        return;
    }
    spend_token(wire);
    if (wire->role == FORE_WIRE_SERVER) {
        on_request(wire, object);
    } else {
        on_client_line(wire, object);
    }
}

static void on_bytes(ForeChannel *ch, const char *bytes, size_t size, gpointer data)
{
    ForeWire *wire = data;

    wire->refs++;
    while (size > 0 && !wire->dead && !wire->closed) {
        const char *end = memchr(bytes, '\n', size);
        size_t n = end != NULL ? (size_t)(end - bytes) : size;
        if (wire->line->len + n > wire->config.json.max_bytes) {
            drop_peer(wire, g_error_new(FORE_ERROR, FORE_ERROR_LIMIT,
                                        "peer sent a line of more than %zu bytes",
                                        wire->config.json.max_bytes));
            break;
        }
        g_byte_array_append(wire->line, (const guint8 *)bytes, (guint)n);
        if (end == NULL) {
            break;
        }
        bytes += n + 1;
        size -= n + 1;
        on_line(wire, (const char *)wire->line->data, wire->line->len);
        g_byte_array_set_size(wire->line, 0);
    }
    unref(wire);
}

static void on_channel_ready(ForeChannel *ch, gpointer data)
{
    ForeWire *wire = data;

    if (wire->role == FORE_WIRE_SERVER) {
        wire->refs++;
        wire->ready = true;
        greet(wire);
        if (wire->ops->on_ready != NULL) {
            wire->ops->on_ready(wire, wire->data);
        }
        unref(wire);
    }
}

static void on_channel_closed(ForeChannel *ch, const GError *why, gpointer data)
{
    close_wire(data, why);
}

static gboolean on_greeting_timeout(gpointer data)
{
    ForeWire *wire = data;

    drop_source(&wire->timer);
    drop_peer(wire, g_error_new(FORE_ERROR, FORE_ERROR_TIMEOUT,
                                "no greeting within the deadline: the peer is stopped, busy with "
                                "another client, or does not speak QMP"));
    return G_SOURCE_REMOVE;
}

ForeWire *fore_wire_new(GMainContext *context, int fd, const ForeChannelConfig *channel,
                        ForeWireRole role, const ForeWireConfig *config, const ForeWireOps *ops,
                        gpointer data)
{
    static const ForeChannelOps channel_ops = {on_channel_ready, on_bytes, on_channel_closed};
    static const ForeChannelConfig plain = {.mode = FORE_CHANNEL_PLAIN};
    ForeWire *wire = g_new0(ForeWire, 1);

    wire->refs = 1;
    wire->role = role;
    wire->config = *config;
    wire->ops = ops;
    wire->data = data;
    wire->context = g_main_context_ref(context != NULL ? context : g_main_context_default());
    wire->line = g_byte_array_new();
    g_queue_init(&wire->backlog);
    wire->pending = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, pending_free);
    wire->calls = g_ptr_array_new();
    wire->tokens = config->max_per_second;
    wire->refilled_us = g_get_monotonic_time();
    wire->channel =
        fore_channel_new(wire->context, fd, channel != NULL ? channel : &plain, &channel_ops, wire);
    if (role == FORE_WIRE_CLIENT) {
        unsigned ms = config->greeting_timeout_ms > 0 ? config->greeting_timeout_ms : 2000;
        wire->timer = after_ms(wire, ms, on_greeting_timeout, wire);
    }
    return wire;
}

void fore_wire_free(ForeWire *wire)
{
    if (wire == NULL) {
        return;
    }
    wire->dead = true;
    wire->closed = true;
    wire->ready = false;
    drop_source(&wire->timer);
    drop_source(&wire->refill);
    g_hash_table_remove_all(wire->pending);
    for (guint i = 0; i < wire->calls->len; i++) {
        ((ForeCall *)wire->calls->pdata[i])->wire = NULL;
    }
    g_ptr_array_set_size(wire->calls, 0);
    fore_channel_free(wire->channel);
    wire->channel = NULL;
    unref(wire);
}

ForeChannel *fore_wire_channel(ForeWire *wire)
{
    return wire->channel;
}

bool fore_wire_is_ready(const ForeWire *wire)
{
    return wire->ready;
}
