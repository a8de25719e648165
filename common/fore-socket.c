/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses of fore-channel.h: "unix:PATH" and "tcp:HOST:PORT" to file descriptors. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fore-channel.h"
#include "common/fore-error.h"

#define BACKLOG    64
#define IDLE_S     30 /* of silence before a TCP peer is probed, */
#define INTERVAL_S 10 /* so often, */
#define PROBES     3  /* so many times */

static bool unix_address(const char *path, struct sockaddr_un *ret, GError **error)
{
    memset(ret, 0, sizeof *ret);
    ret->sun_family = AF_UNIX;
    if (path[0] == '\0' || strlen(path) >= sizeof ret->sun_path) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "socket path '%s' must have 1..%zu bytes", path, sizeof ret->sun_path - 1);
        return false;
    }
    g_strlcpy(ret->sun_path, path, sizeof ret->sun_path);
    return true;
}

static int fail_fd(int fd, GError **error, ForeErrorCode code, const char *what,
                   const char *address)
{
    int saved = errno;

    if (fd >= 0) {
        close(fd);
    }
    g_set_error(error, FORE_ERROR, code, "cannot %s '%s': %s", what, address, g_strerror(saved));
    return -1;
}

static int connect_unix(const char *path, GError **error)
{
    struct sockaddr_un addr;
    int fd;

    if (!unix_address(path, &addr, error)) {
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 ||
        (connect(fd, (struct sockaddr *)&addr, sizeof addr) != 0 && errno != EINPROGRESS)) {
        bool nobody = errno == ECONNREFUSED || errno == ENOENT;
        return fail_fd(fd, error, nobody ? FORE_ERROR_NOT_FOUND : FORE_ERROR_UNAVAILABLE,
                       "connect to", path);
    }
    return fd;
}

/* "HOST:PORT" or "[V6]:PORT"; the host is looked up, so an operator gives numbers where DNS may be
 * slow. */
static struct addrinfo *resolve(const char *text, bool passive, GError **error)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = passive ? AI_PASSIVE : 0};
    const char *colon = strrchr(text, ':');
    g_autofree char *host = NULL;
    struct addrinfo *found = NULL;
    int rc;

    if (colon == NULL || colon[1] == '\0') {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "'tcp:%s' must read tcp:HOST:PORT",
                    text);
        return NULL;
    }
    host = g_strndup(text, (gsize)(colon - text));
    if (host[0] == '[' && colon > text + 1 && colon[-1] == ']') {
        memmove(host, host + 1, strlen(host));
        host[strlen(host) - 1] = '\0';
    }
    rc = getaddrinfo(host[0] != '\0' ? host : NULL, colon + 1, &hints, &found);
    if (rc != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot resolve 'tcp:%s': %s", text,
                    gai_strerror(rc));
        return NULL;
    }
    return found;
}

/* A peer that vanished without a word (its machine, a firewall between) is noticed after
 * IDLE_S + PROBES * INTERVAL_S, and what was sent to it is given up as soon. */
static void keep_alive(int fd)
{
    const int on = 1, idle = IDLE_S, interval = INTERVAL_S, probes = PROBES;
    const unsigned unheard_ms = 1000 * (IDLE_S + PROBES * INTERVAL_S);

    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unheard_ms, sizeof unheard_ms);
}

static int connect_tcp(const char *text, GError **error)
{
    struct addrinfo *ai = resolve(text, false, error);
    int fd, rc;

    if (ai == NULL) {
        return -1;
    }
    fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        keep_alive(fd);
    }
    rc = fd >= 0 ? connect(fd, ai->ai_addr, ai->ai_addrlen) : -1;
    freeaddrinfo(ai);
    if (fd < 0 || (rc != 0 && errno != EINPROGRESS)) {
        return fail_fd(fd, error, FORE_ERROR_UNAVAILABLE, "connect to", text);
    }
    return fd;
}

int fore_connect(const char *address, GError **error)
{
    if (g_str_has_prefix(address, "unix:")) {
        return connect_unix(address + 5, error);
    }
    if (g_str_has_prefix(address, "tcp:")) {
        return connect_tcp(address + 4, error);
    }
    g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                "address '%s' must read unix:PATH or tcp:HOST:PORT", address);
    return -1;
}

/* A socket file that nobody listens on is a leftover and goes; a live one stays. */
static bool clear_stale(const char *path, const struct sockaddr_un *addr, GError **error)
{
    struct stat st;
    int fd, why;

    if (lstat(path, &st) != 0) {
        return true;
    }
    if (!S_ISSOCK(st.st_mode)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_EXISTS,
                    "'%s' exists and is no socket; remove it or choose another path", path);
        return false;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    why = fd >= 0 && connect(fd, (const struct sockaddr *)addr, sizeof *addr) == 0 ? 0 : errno;
    if (fd >= 0) {
        close(fd);
    }
    if (why != ECONNREFUSED) { /* connected, or alive but busy: EAGAIN is a full backlog */
        g_set_error(error, FORE_ERROR, FORE_ERROR_EXISTS, "another process is listening on '%s'",
                    path);
        return false;
    }
    unlink(path);
    return true;
}

static int listen_unix(const char *path, GError **error)
{
    struct sockaddr_un addr;
    mode_t old;
    int fd, rc;

    if (!unix_address(path, &addr, error) || !clear_stale(path, &addr, error)) {
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    old = umask(0177);
    rc = fd >= 0 ? bind(fd, (struct sockaddr *)&addr, sizeof addr) : -1;
    umask(old);
    if (rc != 0 || listen(fd, BACKLOG) != 0) {
        return fail_fd(fd, error, FORE_ERROR_UNAVAILABLE, "listen on", path);
    }
    return fd;
}

static int listen_tcp(const char *text, GError **error)
{
    struct addrinfo *ai = resolve(text, true, error);
    int fd, rc, one = 1;

    if (ai == NULL) {
        return -1;
    }
    fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    }
    rc = fd >= 0 ? bind(fd, ai->ai_addr, ai->ai_addrlen) : -1;
    freeaddrinfo(ai);
    if (rc != 0 || listen(fd, BACKLOG) != 0) {
        return fail_fd(fd, error, errno == EADDRINUSE ? FORE_ERROR_EXISTS : FORE_ERROR_UNAVAILABLE,
                       "listen on", text);
    }
    return fd;
}

int fore_listen(const char *address, GError **error)
{
    if (g_str_has_prefix(address, "unix:")) {
        return listen_unix(address + 5, error);
    }
    if (g_str_has_prefix(address, "tcp:")) {
        return listen_tcp(address + 4, error);
    }
    g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                "address '%s' must read unix:PATH or tcp:HOST:PORT", address);
    return -1;
}
