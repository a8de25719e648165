/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  A channel waits until its fd is writable (a connect has finished), then runs the
 * TLS handshake if there is one, then is ready.  Every callback may free the channel, so each step
 * holds a reference and looks at `dead` after calling out.  Output is queued and written when the
 * fd takes it; the queue is bounded.  A failure inside fore_channel_send() is delivered later from
 * the loop, never from within the call.
 */
#include "common/fore-channel.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "common/fore-tls.h"

#define READ_CHUNK           16384
#define DEFAULT_MAX_QUEUE    (4u << 20)
#define DEFAULT_HANDSHAKE_MS 2000
#define READS_PER_DISPATCH   8 /* so that one busy peer cannot keep the loop */

typedef enum { CONNECTING, HANDSHAKE, READY, FLUSHING, CLOSED } State;

struct ForeChannel {
    unsigned refs;
    bool dead; /* freed by its owner: nothing is called any more */
    State state;
    int fd;
    bool keep_fd, is_socket, paused;
    size_t max_queue;
    GMainContext *context;
    const ForeChannelOps *ops;
    gpointer data;
    ForeTls *tls;
    GByteArray *out;
    size_t out_done; /* bytes of @out already written */
    GSource *in_source, *out_source, *timer, *closing;
    GError *why;
};

static void drop_source(GSource **source)
{
    if (*source != NULL) {
        g_source_destroy(*source);
        g_source_unref(*source);
        *source = NULL;
    }
}

static void unref(ForeChannel *ch)
{
    if (--ch->refs > 0) {
        return;
    }
    fore_tls_free(ch->tls);
    g_byte_array_unref(ch->out);
    g_clear_error(&ch->why);
    g_main_context_unref(ch->context);
    g_free(ch);
}

static void stop(ForeChannel *ch)
{
    drop_source(&ch->in_source);
    drop_source(&ch->out_source);
    drop_source(&ch->timer);
    if (ch->fd >= 0 && !ch->keep_fd) {
        close(ch->fd);
    }
    ch->fd = -1;
    ch->state = CLOSED;
}

static gboolean on_closing(gpointer data)
{
    ForeChannel *ch = data;

    drop_source(&ch->closing);
    if (!ch->dead) {
        ch->ops->on_closed(ch, ch->why, ch->data);
    }
    return G_SOURCE_REMOVE;
}

static void on_closing_done(gpointer data)
{
    unref(data);
}

/* Ends the channel; on_closed comes from the loop.  Takes over @why (NULL: a clean end). */
static void finish(ForeChannel *ch, GError *why)
{
    if (ch->state == CLOSED) {
        g_clear_error(&why);
        return;
    }
    stop(ch);
    ch->why = why;
    ch->closing = g_idle_source_new();
    g_source_set_priority(ch->closing, G_PRIORITY_DEFAULT);
    ch->refs++;
    g_source_set_callback(ch->closing, on_closing, ch, on_closing_done);
    g_source_attach(ch->closing, ch->context);
}

static void watch_out(ForeChannel *ch);

static ssize_t write_some(ForeChannel *ch, const void *bytes, size_t size)
{
    return ch->is_socket ? send(ch->fd, bytes, size, MSG_NOSIGNAL) : write(ch->fd, bytes, size);
}

/* Writes what the fd takes now; watches for more room when something is left. */
static void flush(ForeChannel *ch)
{
    while (ch->state != CLOSED && ch->out_done < ch->out->len) {
        ssize_t n = write_some(ch, ch->out->data + ch->out_done, ch->out->len - ch->out_done);
        if (n >= 0) {
            ch->out_done += (size_t)n;
        } else if (errno == EAGAIN) {
            watch_out(ch);
            break;
        } else if (errno != EINTR) {
            finish(ch, g_error_new(FORE_ERROR, FORE_ERROR_CLOSED, "cannot write to peer: %s",
                                   g_strerror(errno)));
            return;
        }
    }
    if (ch->out_done == ch->out->len) {
        g_byte_array_set_size(ch->out, 0);
        ch->out_done = 0;
        drop_source(&ch->out_source);
        if (ch->state == FLUSHING) {
            finish(ch, NULL);
        }
    } else if (ch->out_done > READ_CHUNK) {
        g_byte_array_remove_range(ch->out, 0, (guint)ch->out_done);
        ch->out_done = 0;
    }
}

static void become_ready(ForeChannel *ch)
{
    drop_source(&ch->timer);
    ch->state = READY;
    ch->ops->on_ready(ch, ch->data);
}

/* Hands decrypted bytes out; false when the channel ended. */
static bool deliver_tls(ForeChannel *ch)
{
    char buf[READ_CHUNK];

    while (!ch->dead && ch->state == READY && !ch->paused) {
        size_t size = 0;
        bool end = false;
        GError *why = NULL;
        if (!fore_tls_read(ch->tls, buf, sizeof buf, &size, &end, &why)) {
            finish(ch, why);
            return false;
        }
        fore_tls_drain(ch->tls, ch->out);
        if (end) {
            finish(ch, NULL);
            return false;
        }
        if (size == 0) {
            break;
        }
        ch->ops->on_bytes(ch, buf, size, ch->data);
    }
    return !ch->dead && ch->state != CLOSED;
}

static void advance_tls(ForeChannel *ch)
{
    GError *why = NULL;

    if (ch->state == HANDSHAKE) {
        bool done = false;
        bool ok = fore_tls_handshake(ch->tls, &done, &why);
        fore_tls_drain(ch->tls, ch->out);
        if (!ok) {
            flush(ch); /* the alert tells the peer why */
            finish(ch, why);
            return;
        }
        flush(ch);
        if (!done || ch->state == CLOSED) {
            return;
        }
        become_ready(ch);
    }
    if (!ch->dead && ch->state == READY && deliver_tls(ch)) {
        flush(ch);
    }
}

/* One read; false when there was nothing more to do now. */
static bool read_once(ForeChannel *ch)
{
    char buf[READ_CHUNK];
    ssize_t n = read(ch->fd, buf, sizeof buf);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    if (n <= 0) {
        finish(ch, n < 0
                       ? g_error_new(FORE_ERROR, FORE_ERROR_CLOSED, "cannot read from peer: %s",
                                     g_strerror(errno))
                       : g_error_new(FORE_ERROR, FORE_ERROR_CLOSED, "peer closed the connection"));
        return false;
    }
    if (ch->tls == NULL) {
        ch->ops->on_bytes(ch, buf, (size_t)n, ch->data);
    } else {
        GError *why = NULL;
        if (!fore_tls_feed(ch->tls, buf, (size_t)n, &why)) {
            finish(ch, why);
            return false;
        }
        advance_tls(ch);
    }
    return n == (ssize_t)sizeof buf;
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer data)
{
    ForeChannel *ch = data;
    unsigned reads = 0;

    ch->refs++;
    if (condition & G_IO_IN) {
        while (reads++ < READS_PER_DISPATCH && !ch->dead && ch->in_source != NULL &&
               ch->state != FLUSHING && read_once(ch)) {
        }
    } else if (condition & (G_IO_HUP | G_IO_ERR | G_IO_NVAL)) {
        finish(ch, g_error_new(FORE_ERROR, FORE_ERROR_CLOSED, "peer closed the connection"));
    }
    unref(ch);
    return G_SOURCE_CONTINUE;
}

static GSource *watch(ForeChannel *ch, GIOCondition condition, GUnixFDSourceFunc fn)
{
    GSource *source = g_unix_fd_source_new(ch->fd, condition);

    g_source_set_callback(source, G_SOURCE_FUNC(fn), ch, NULL);
    g_source_attach(source, ch->context);
    return source;
}

static void watch_in(ForeChannel *ch)
{
    if (ch->in_source == NULL && !ch->paused && ch->fd >= 0) {
        ch->in_source = watch(ch, G_IO_IN | G_IO_HUP | G_IO_ERR, on_readable);
    }
}

static void connected(ForeChannel *ch)
{
    int so_error = 0;
    socklen_t size = sizeof so_error;

    drop_source(&ch->out_source);
    if (ch->is_socket && getsockopt(ch->fd, SOL_SOCKET, SO_ERROR, &so_error, &size) == 0 &&
        so_error != 0) {
        finish(ch, g_error_new(FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot connect: %s",
                               g_strerror(so_error)));
        return;
    }
    watch_in(ch);
    if (ch->tls == NULL) {
        become_ready(ch);
    } else {
        ch->state = HANDSHAKE;
        advance_tls(ch);
    }
}

static gboolean on_writable(gint fd, GIOCondition condition, gpointer data)
{
    ForeChannel *ch = data;

    ch->refs++;
    if (ch->state == CONNECTING) {
        if (ch->keep_fd && (condition & G_IO_HUP)) {
            finish(ch, g_error_new(FORE_ERROR, FORE_ERROR_CLOSED, "no peer on the port"));
        } else {
            connected(ch);
        }
    } else {
        flush(ch);
    }
    unref(ch);
    return G_SOURCE_CONTINUE;
}

static void watch_out(ForeChannel *ch)
{
    if (ch->out_source == NULL && ch->fd >= 0) {
        ch->out_source = watch(ch, G_IO_OUT | G_IO_HUP | G_IO_ERR, on_writable);
    }
}

static gboolean on_handshake_timeout(gpointer data)
{
    ForeChannel *ch = data;

    finish(ch, g_error_new(FORE_ERROR, FORE_ERROR_TIMEOUT,
                           ch->state == CONNECTING ? "connection not made in time"
                                                   : "TLS handshake not finished in time"));
    return G_SOURCE_REMOVE;
}

static void start_timer(ForeChannel *ch, unsigned ms)
{
    ch->timer = g_timeout_source_new(ms > 0 ? ms : DEFAULT_HANDSHAKE_MS);
    g_source_set_callback(ch->timer, on_handshake_timeout, ch, NULL);
    g_source_attach(ch->timer, ch->context);
}

ForeChannel *fore_channel_new(GMainContext *context, int fd, const ForeChannelConfig *config,
                              const ForeChannelOps *ops, gpointer data)
{
    ForeChannel *ch = g_new0(ForeChannel, 1);
    int type = 0;
    socklen_t size = sizeof type;
    GError *why = NULL;

    ch->refs = 1;
    ch->fd = fd;
    ch->keep_fd = config->keep_on_eof;
    ch->is_socket = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0;
    ch->max_queue = config->max_queue > 0 ? config->max_queue : DEFAULT_MAX_QUEUE;
    ch->context = context != NULL ? g_main_context_ref(context)
                                  : g_main_context_ref(g_main_context_default());
    ch->ops = ops;
    ch->data = data;
    ch->out = g_byte_array_new();
    g_unix_set_fd_nonblocking(fd, TRUE, NULL);
    if (config->mode != FORE_CHANNEL_PLAIN) {
        ch->tls = fore_tls_new(config, &why);
        if (ch->tls == NULL) {
            finish(ch, why);
            return ch;
        }
    }
    start_timer(ch, config->handshake_timeout_ms);
    watch_out(ch);
    return ch;
}

void fore_channel_free(ForeChannel *ch)
{
    if (ch == NULL) {
        return;
    }
    ch->dead = true;
    if (ch->state != CLOSED) {
        stop(ch);
    }
    drop_source(&ch->closing);
    unref(ch);
}

bool fore_channel_send(ForeChannel *ch, const void *bytes, size_t size)
{
    GError *why = NULL;

    if (ch->state != READY) {
        return false;
    }
    if (ch->out->len - ch->out_done + size > ch->max_queue) {
        finish(ch,
               g_error_new(FORE_ERROR, FORE_ERROR_LIMIT,
                           "peer does not read: more than %zu bytes wait for it", ch->max_queue));
        return false;
    }
    if (ch->tls == NULL) {
        g_byte_array_append(ch->out, bytes, (guint)size);
    } else if (!fore_tls_write(ch->tls, bytes, size, &why)) {
        finish(ch, why);
        return false;
    } else {
        fore_tls_drain(ch->tls, ch->out);
    }
    flush(ch);
    return ch->state != CLOSED;
}

void fore_channel_close_after_flush(ForeChannel *ch)
{
    if (ch->state == CLOSED || ch->state == FLUSHING) {
        return;
    }
    drop_source(&ch->in_source);
    if (ch->tls != NULL) {
        fore_tls_shutdown(ch->tls);
        fore_tls_drain(ch->tls, ch->out);
    }
    drop_source(&ch->timer);
    ch->state = FLUSHING;
    start_timer(ch, 0); /* a peer that does not read cannot hold us */
    flush(ch);
}

void fore_channel_pause(ForeChannel *ch, bool paused)
{
    ch->paused = paused;
    if (ch->state == CLOSED || ch->state == FLUSHING || ch->state == CONNECTING) {
        return;
    }
    if (paused) {
        drop_source(&ch->in_source);
        return;
    }
    watch_in(ch);
    if (ch->tls != NULL && ch->state == READY) {
        ch->refs++;
        advance_tls(ch); /* records may have been decrypted already */
        unref(ch);
    }
}

const char *fore_channel_peer_pin(const ForeChannel *ch)
{
    return ch->tls != NULL ? fore_tls_peer_pin(ch->tls) : NULL;
}
