/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The conventions of QMP on every socket we serve or use (docs/wire-format.md): a greeting
 * {"QMP": ...}, one JSON object a line, "execute"/"arguments"/"id", "return" or "error", "event"
 * with "timestamp".  One object serves both halves; the client half also speaks to QEMU itself.
 */
#include <stdbool.h>

#include "common/fore-channel.h"
#include "common/fore-json.h"

typedef struct ForeWire ForeWire;
typedef struct ForeCall ForeCall; /* a received command that is owed exactly one answer */

typedef enum {
    FORE_WIRE_SERVER, /* greets, receives commands, sends events */
    FORE_WIRE_CLIENT  /* waits for the greeting, negotiates, sends commands, receives events */
} ForeWireRole;

typedef struct {
    ForeJsonLimits json;          /* of a line */
    unsigned greeting_timeout_ms; /* client: 0 means 2000 */
    double max_per_second; /* token bucket on received lines, burst = one second's worth; 0 = none.
                              Over it the wire stops reading (back-pressure) until tokens return */
} ForeWireConfig;

typedef struct {
    void (*on_ready)(ForeWire *wire, gpointer data); /* client: negotiated; server: greeting sent */
    void (*on_command)(ForeWire *wire, ForeCall *call,
                       gpointer data); /* server; NULL refuses all */
    void (*on_event)(ForeWire *wire, const char *event, const json_t *ev_data, gpointer data);
    void (*on_closed)(ForeWire *wire, const GError *why, gpointer data); /* once, last; may free */
} ForeWireOps;

/**
 * fore_wire_new: a wire over @fd, as fore_channel_new() (same ownership of fd)
 * Outstanding commands are answered with FORE_ERROR_CLOSED before on_closed.
 */
ForeWire *fore_wire_new(GMainContext *context, int fd, const ForeChannelConfig *channel,
                        ForeWireRole role, const ForeWireConfig *config, const ForeWireOps *ops,
                        gpointer data);
/** fore_wire_free: drops it; outstanding commands' callbacks are NOT called.  NULL allowed. */
void fore_wire_free(ForeWire *wire);
/** fore_wire_drop: end it as when the peer breaks a rule: outstanding commands are answered with
 *  FORE_ERROR_CLOSED, then on_closed(@why), from within this call */
void fore_wire_drop(ForeWire *wire, const GError *why);
ForeChannel *fore_wire_channel(ForeWire *wire);
bool fore_wire_is_ready(const ForeWire *wire);

/* --- client half --- */
/**
 * ForeWireReply: the end of one command
 * @ret: "return" value (borrowed), or NULL
 * @error: set exactly when @ret is NULL: FORE_ERROR_TIMEOUT, FORE_ERROR_CLOSED, or the peer's error
 *         with code from its class and message "CLASS: DESC"
 */
typedef void (*ForeWireReply)(ForeWire *wire, const json_t *ret, const GError *error,
                              gpointer data);
/**
 * fore_wire_execute: send a command
 * @arguments: (transfer full) object or NULL
 * @timeout_ms: deadline on the monotonic clock; after it the reply is dropped when it comes
 * @reply: called once from the loop, never from within this call; NULL to ignore
 */
void fore_wire_execute(ForeWire *wire, const char *command, json_t *arguments, unsigned timeout_ms,
                       ForeWireReply reply, gpointer data);

/* --- server half --- */
const char *fore_call_command(const ForeCall *call);
const json_t *fore_call_arguments(const ForeCall *call); /* an object, empty when absent */
ForeWire *fore_call_wire(ForeCall *call);                /* NULL once the peer is gone */
void fore_call_return(ForeCall *call, json_t *ret); /* (transfer full) NULL means {}; frees @call */
void fore_call_fail(ForeCall *call, const GError *error); /* frees @call */
/** fore_wire_event: send an event; @ev_data: (transfer full) object or NULL */
void fore_wire_event(ForeWire *wire, const char *event, json_t *ev_data);

/* --- blocking client, for command-line tools and tests only --- */
typedef struct ForeClient ForeClient;
/** fore_client_new: connect and negotiate; @channel as for fore_channel_new(), NULL = plain */
ForeClient *fore_client_new(const char *address, const ForeChannelConfig *channel,
                            unsigned timeout_ms, GError **error);
void fore_client_free(ForeClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeClient, fore_client_free)
/** fore_client_call: (transfer full) the "return" value.  @arguments: (transfer full) or NULL */
json_t *fore_client_call(ForeClient *client, const char *command, json_t *arguments,
                         unsigned timeout_ms, GError **error);
/** fore_client_next_event: (transfer full) {"event","data","timestamp"}; NULL + TIMEOUT or CLOSED
 */
json_t *fore_client_next_event(ForeClient *client, unsigned timeout_ms, GError **error);
