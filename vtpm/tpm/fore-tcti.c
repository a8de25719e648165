/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * swtpm's data socket carries bare TPM commands and responses.  A response starts with a 10-byte
 * header whose second field is its whole size (TPM 2.0 Library Part 3, 4.4).  ESYS treats TRY_AGAIN
 * as "call me again, for ever", so a deadline that passes is an I/O error, and the connection is
 * then dead: a late response must not be taken for the next command's.
 */
#include "vtpm/tpm/fore-tcti.h"

#include <arpa/inet.h>
#include <errno.h>
#include <glib-unix.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fore-error.h"

#define MAGIC       0x464f5245544354u /* "FORETCT" */
#define HEADER      10
#define MAX_MESSAGE 4096 /* TPM2_MAX_RESPONSE_SIZE and TPM2_MAX_COMMAND_SIZE */
#define DEADLINE_MS 30000

struct ForeTcti {
    TSS2_TCTI_CONTEXT_COMMON_V1 v1; /* first: ESYS sees this */
    int fd;
    unsigned deadline_ms;
    bool broken, timed_out;
    bool have; /* @response holds a whole response that was not fetched yet */
    uint8_t response[MAX_MESSAGE];
    size_t response_size;
};

static bool wait_for(ForeTcti *t, short events, gint64 until_us)
{
    struct pollfd pfd = {.fd = t->fd, .events = events};

    for (;;) {
        gint64 left_us = until_us - g_get_monotonic_time();
        int n = poll(&pfd, 1, left_us > 0 ? (int)(left_us / 1000 + 1) : 0);

        if (n > 0) {
            return true;
        }
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 || g_get_monotonic_time() >= until_us) {
            t->timed_out = n == 0;
            return false;
        }
    }
}

static TSS2_RC break_off(ForeTcti *t)
{
    t->broken = true;
    return TSS2_TCTI_RC_IO_ERROR;
}

static gint64 deadline(const ForeTcti *t)
{
    return g_get_monotonic_time() + (gint64)t->deadline_ms * 1000;
}

static TSS2_RC on_transmit(TSS2_TCTI_CONTEXT *context, size_t size, const uint8_t *command)
{
    ForeTcti *t = (ForeTcti *)context;
    gint64 until = deadline(t);
    size_t done = 0;

    if (t->broken) {
        return TSS2_TCTI_RC_IO_ERROR;
    }
    while (done < size) {
        ssize_t n = send(t->fd, command + done, size - done, MSG_NOSIGNAL);

        if (n > 0) {
            done += (size_t)n;
        } else if ((n == 0 || (errno != EAGAIN && errno != EINTR)) ||
                   !wait_for(t, POLLOUT, until)) {
            return break_off(t);
        }
    }
    t->have = false;
    t->response_size = 0;
    return TSS2_RC_SUCCESS;
}

static bool read_exactly(ForeTcti *t, size_t want, gint64 until)
{
    while (t->response_size < want) {
        ssize_t n = recv(t->fd, t->response + t->response_size, want - t->response_size, 0);

        if (n > 0) {
            t->response_size += (size_t)n;
        } else if ((n == 0 || (errno != EAGAIN && errno != EINTR)) || !wait_for(t, POLLIN, until)) {
            return false;
        }
    }
    return true;
}

/* @response NULL asks only for the size. */
static TSS2_RC on_receive(TSS2_TCTI_CONTEXT *context, size_t *size, uint8_t *response,
                          int32_t timeout)
{
    ForeTcti *t = (ForeTcti *)context;
    gint64 until = deadline(t);
    uint32_t total;

    if (size == NULL) {
        return TSS2_TCTI_RC_BAD_REFERENCE;
    }
    if (t->broken) {
        return TSS2_TCTI_RC_IO_ERROR;
    }
    if (!t->have) {
        if (!read_exactly(t, HEADER, until)) {
            return break_off(t);
        }
        memcpy(&total, t->response + 2, sizeof(total));
        total = ntohl(total);
        if (total < HEADER || total > MAX_MESSAGE || !read_exactly(t, total, until)) {
            return break_off(t);
        }
        t->have = true;
    }
    if (response != NULL) {
        if (*size < t->response_size) {
            *size = t->response_size;
            return TSS2_TCTI_RC_INSUFFICIENT_BUFFER;
        }
        memcpy(response, t->response, t->response_size);
        t->have = false;
    }
    *size = t->response_size;
    return TSS2_RC_SUCCESS;
}

/* ESYS never finalizes the TCTI that it was given; fore_tcti_free() does. */
static void on_finalize(TSS2_TCTI_CONTEXT *context)
{
}

static TSS2_RC on_cancel(TSS2_TCTI_CONTEXT *context)
{
    return TSS2_TCTI_RC_NOT_IMPLEMENTED;
}

static TSS2_RC on_poll_handles(TSS2_TCTI_CONTEXT *context, TSS2_TCTI_POLL_HANDLE *handles,
                               size_t *n)
{
    return TSS2_TCTI_RC_NOT_IMPLEMENTED;
}

static TSS2_RC on_locality(TSS2_TCTI_CONTEXT *context, uint8_t locality)
{
    return locality == 0 ? TSS2_RC_SUCCESS : TSS2_TCTI_RC_NOT_IMPLEMENTED;
}

static int connect_unix(const char *path, GError **error)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd;

    if (g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path)) >= sizeof(addr.sun_path)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "TPM socket path '%s' is longer than %zu bytes; use a shorter one", path,
                    sizeof(addr.sun_path) - 1);
        return -1;
    }
    /* Non-blocking also here: with a full backlog connect() on a Unix socket would wait. */
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "cannot connect to the TPM emulator at '%s': %s", path, g_strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

static int connect_tcp(const char *host, unsigned port, GError **error)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1, fd;

    if (inet_pton(AF_INET, host, &addr.sin_addr) != 1) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "TPM host '%s' is not a numeric IPv4 address; give 127.0.0.1", host);
        return -1;
    }
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 ||
        !g_unix_set_fd_nonblocking(fd, TRUE, NULL)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "cannot connect to the TPM emulator at %s:%u: %s", host, port,
                    g_strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static int connect_config(const char *config, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(config, ",", 4);
    const char *path = NULL, *host = "127.0.0.1";
    guint64 port = 0;

    for (char **p = parts; *p != NULL; p++) {
        if (g_str_has_prefix(*p, "path=")) {
            path = *p + strlen("path=");
        } else if (g_str_has_prefix(*p, "host=")) {
            host = *p + strlen("host=");
        } else if (!g_str_has_prefix(*p, "port=") ||
                   !g_ascii_string_to_unsigned(*p + strlen("port="), 10, 1, 65535, &port, NULL)) {
            path = NULL;
            port = 0;
            break;
        }
    }
    if ((path == NULL) == (port == 0)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "TPM address 'swtpm:%s' is not understood; give swtpm:path=SOCKET or "
                    "swtpm:host=127.0.0.1,port=PORT",
                    config);
        return -1;
    }
    return path != NULL ? connect_unix(path, error) : connect_tcp(host, (unsigned)port, error);
}

ForeTcti *fore_tcti_new(const char *config, GError **error)
{
    int fd = connect_config(config, error);
    ForeTcti *t;

    if (fd < 0) {
        return NULL;
    }
    t = g_new0(ForeTcti, 1);
    t->fd = fd;
    t->deadline_ms = DEADLINE_MS;
    t->v1 = (TSS2_TCTI_CONTEXT_COMMON_V1){
        .magic = MAGIC,
        .version = 1,
        .transmit = on_transmit,
        .receive = on_receive,
        .finalize = on_finalize,
        .cancel = on_cancel,
        .getPollHandles = on_poll_handles,
        .setLocality = on_locality,
    };
    return t;
}

void fore_tcti_free(ForeTcti *t)
{
    if (t != NULL) {
        close(t->fd);
        g_free(t);
    }
}

TSS2_TCTI_CONTEXT *fore_tcti_context(ForeTcti *t)
{
    return (TSS2_TCTI_CONTEXT *)&t->v1;
}

void fore_tcti_set_deadline(ForeTcti *t, unsigned deadline_ms)
{
    t->deadline_ms = deadline_ms;
}

bool fore_tcti_timed_out(const ForeTcti *t)
{
    return t->timed_out;
}
