/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A byte stream on a non-blocking file descriptor (Unix socket, TCP, virtio-serial), plain or
 * inside TLS 1.3, driven by one GMainContext.  Mutual TLS with pinned keys (see fore-identity.h).
 */
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/fore-identity.h"

typedef struct ForeChannel ForeChannel;

typedef struct {
    void (*on_ready)(ForeChannel *ch,
                     gpointer data); /* plain: at once (from the loop); TLS: handshake done */
    void (*on_bytes)(ForeChannel *ch, const char *bytes, size_t size, gpointer data);
    /* Once, and last; @why is NULL for a clean end.  The callee may free the channel here. */
    void (*on_closed)(ForeChannel *ch, const GError *why, gpointer data);
} ForeChannelOps;

typedef enum {
    FORE_CHANNEL_PLAIN,
    FORE_CHANNEL_TLS_CLIENT,
    FORE_CHANNEL_TLS_SERVER
} ForeChannelMode;

typedef struct {
    ForeChannelMode mode;
    ForeIdentity *identity;  /* TLS: borrowed, must outlive the channel */
    const char *const *pins; /* TLS: NULL-terminated accepted peer pins; NULL accepts any key, and
                                the caller must bind fore_channel_peer_pin() by other proof */
    unsigned handshake_timeout_ms; /* TLS: 0 means 2000 */
    size_t max_queue;              /* bytes waiting to be written before close; 0 means 4 MiB */
    bool keep_on_eof; /* virtio-serial in a guest: end of file means "host went away" and
                         closes with FORE_ERROR_CLOSED, but the fd stays the caller's */
} ForeChannelConfig;

/**
 * fore_channel_new: take over @fd (closed with the channel, except keep_on_eof) and start
 * @context: where all callbacks run; @ops: static; @data: for @ops
 * Never fails: what goes wrong arrives in on_closed.
 */
ForeChannel *fore_channel_new(GMainContext *context, int fd, const ForeChannelConfig *config,
                              const ForeChannelOps *ops, gpointer data);
/** fore_channel_free: drops everything at once, calls nothing back.  NULL is allowed. */
void fore_channel_free(ForeChannel *ch);

/** fore_channel_send: queue @size bytes; false when closed or the queue would pass its bound (then
 *  the channel closes with FORE_ERROR_LIMIT from the loop) */
bool fore_channel_send(ForeChannel *ch, const void *bytes, size_t size);
/** fore_channel_close_after_flush: no more reading; on_closed follows when the queue is written */
void fore_channel_close_after_flush(ForeChannel *ch);
/** fore_channel_pause: stop (true) or resume (false) reading: back-pressure on the peer */
void fore_channel_pause(ForeChannel *ch, bool paused);
/** fore_channel_peer_pin: 64 hex characters once ready; NULL for plain */
const char *fore_channel_peer_pin(const ForeChannel *ch);

/**
 * fore_connect: non-blocking connect to "unix:PATH" or "tcp:HOST:PORT"; a host that is a name is
 * looked up first, which blocks: a loop asks fore_lookup_new() before (fore-lookup.h).  TCP peers
 * that vanish are noticed within about a minute
 * Returns: fd, possibly still connecting (errors then arrive in on_closed), or -1 with
 *          FORE_ERROR_INVALID (address), FORE_ERROR_NOT_FOUND (Unix: nobody listens there),
 *          FORE_ERROR_UNAVAILABLE (busy, no right, no route)
 */
int fore_connect(const char *address, GError **error);
/**
 * fore_listen: listening non-blocking fd on "unix:PATH" (mode 0600, a stale socket file is
 * replaced, a live one refused with FORE_ERROR_EXISTS) or "tcp:HOST:PORT"
 */
int fore_listen(const char *address, GError **error);
