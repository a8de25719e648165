/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as the peer of a wire: the first byte says of which half (0: a server's client, 1: a
 * client's server; 2 and 3 the same in two pieces).  Every command is answered once, every
 * answer comes once, and the wire ends when its peer does.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "common/fore-wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LONGEST  60000 /* fits a socket's buffer: nothing here may block */
#define COMMANDS 3

typedef struct {
    bool closed;
    unsigned replies, ready;
    ForeCall *kept; /* one command is answered late, after the peer is gone */
} State;

static void on_ready(ForeWire *wire, gpointer data)
{
    ((State *)data)->ready++;
}

static void on_command(ForeWire *wire, ForeCall *call, gpointer data)
{
    State *s = data;

    if (fore_call_command(call) == NULL || !json_is_object(fore_call_arguments(call)) ||
        fore_call_wire(call) != wire) {
        abort();
    }
    if (s->kept == NULL) {
        s->kept = call;
    } else if (fore_call_command(call)[0] == 'f') {
        g_autoptr(GError) no = g_error_new_literal(FORE_ERROR, FORE_ERROR_UNTRUSTED, "no");
        fore_call_fail(call, no);
    } else {
        fore_wire_event(wire, "SEEN", NULL);
        fore_call_return(call, json_incref((json_t *)fore_call_arguments(call)));
    }
}

static void on_event(ForeWire *wire, const char *event, const json_t *ev_data, gpointer data)
{
    if (event == NULL) {
        abort();
    }
}

static void on_closed(ForeWire *wire, const GError *why, gpointer data)
{
    State *s = data;

    if (s->closed) {
        abort();
    }
    s->closed = true;
}

static void on_reply(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    if ((ret == NULL) == (error == NULL) ||
        (error != NULL && !g_utf8_validate(error->message, -1, NULL))) {
        abort();
    }
    ((State *)data)->replies++;
}

static void run_idle(GMainContext *context)
{
    while (g_main_context_iteration(context, FALSE)) {
        /* until nothing is left to do */
    }
}

static void feed(int fd, GMainContext *context, const uint8_t *data, size_t size)
{
    if (size > 0 && send(fd, data, size, MSG_NOSIGNAL) < 0) {
        return; /* dropped already */
    }
    run_idle(context);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ForeWireOps ops = {on_ready, on_command, on_event, on_closed};
    ForeWireConfig config = {.json = fore_json_limits_guest, .greeting_timeout_ms = 600000};
    GMainContext *context = g_main_context_new();
    State s = {0};
    ForeWireRole role;
    ForeWire *wire;
    size_t first;
    int fds[2];

    if (size < 1 || size > LONGEST ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0) {
        g_main_context_unref(context);
        return 0;
    }
    role = data[0] & 1 ? FORE_WIRE_CLIENT : FORE_WIRE_SERVER;
    first = data[0] & 2 ? (size - 1) / 2 : size - 1;
    wire = fore_wire_new(context, fds[0], NULL, role, &config, &ops, &s);
    for (unsigned i = 0; i < COMMANDS && role == FORE_WIRE_CLIENT; i++) {
        fore_wire_execute(wire, "query", NULL, 600000, on_reply, &s);
    }
    run_idle(context);
    feed(fds[1], context, data + 1, first);
    feed(fds[1], context, data + 1 + first, size - 1 - first);
    close(fds[1]);
    while (!s.closed) {
        g_main_context_iteration(context, TRUE);
    }
    if (role == FORE_WIRE_CLIENT && s.replies != COMMANDS) {
        abort();
    }
    if (s.kept != NULL) {
        fore_call_return(s.kept, NULL); /* the peer is gone: it frees, and sends nothing */
    }
    fore_wire_free(wire);
    run_idle(context);
    g_main_context_unref(context);
    return 0;
}
