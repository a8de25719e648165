/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vtpm/host/fore-accept.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#define IDLE_S     30 /* before the first probe */
#define INTERVAL_S 10
#define PROBES     3

static int open_spare(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void fore_accept_init(ForeAccept *accept)
{
    accept->spare = open_spare();
}

void fore_accept_done(ForeAccept *accept)
{
    if (accept->spare >= 0) {
        close(accept->spare);
    }
    accept->spare = -1;
}

/* A Unix socket has no such options, and needs none: its peer's end is told at once. */
static void keep_alive(int fd)
{
    const int on = 1, idle = IDLE_S, interval = INTERVAL_S, probes = PROBES;

    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

static void turn_away(ForeAccept *accept, int listen_fd)
{
    int fd;

    fore_accept_done(accept);
    fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        close(fd);
    }
    accept->spare = open_spare();
}

int fore_accept(ForeAccept *accept, int listen_fd)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0) {
        keep_alive(fd);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        turn_away(accept, listen_fd);
    }
    return fd;
}
