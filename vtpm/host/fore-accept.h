/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Accepting connections without spinning.  When the process has no descriptor left, accept() fails
 * and the listening socket stays readable: a loop would spin.  A spare descriptor is given up to
 * take the connection and close it at once, so that its peer learns that nobody has time for it.
 */
typedef struct {
    int spare;
} ForeAccept;

void fore_accept_init(ForeAccept *accept);
void fore_accept_done(ForeAccept *accept);
/**
 * fore_accept: the next connection of @listen_fd, non-blocking, close-on-exec, with TCP keepalive
 * (a peer that vanished is noticed within a minute)
 * Returns: fd, or -1: nothing there, or it was turned away for want of a descriptor
 */
int fore_accept(ForeAccept *accept, int listen_fd);
