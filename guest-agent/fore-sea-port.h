/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The way to the host: the virtio-serial port org.foresee.sea.0 (or, for tests and containers, a
 * Unix socket), TLS 1.3 with the host's key pinned, one peer at a time.  When a peer goes, breaks a
 * bound or cannot prove its key, the port waits for the next one.
 */
#include <glib.h>

#include "common/fore-identity.h"
#include "common/fore-wire.h"

#define FORE_SEA_PORT_NAME "org.foresee.sea.0"

typedef struct ForeSeaPort ForeSeaPort;

typedef struct {
    void (*on_ready)(ForeSeaPort *port, gpointer data); /* a host with the right key is there */
    void (*on_command)(ForeSeaPort *port, ForeCall *call, gpointer data);
    /* The peer is gone, ready or not; @why NULL: a clean end */
    void (*on_closed)(ForeSeaPort *port, const GError *why, gpointer data);
} ForeSeaPortOps;

/**
 * fore_sea_port_new
 * @address: NULL: find the device by its name below @sysfs_root; "/dev/x": that device;
 *           "unix:PATH": listen there
 * @identity, @host_pin: must outlive the port
 * Errors: of fore_listen(); a device that is missing is waited for
 */
ForeSeaPort *fore_sea_port_new(GMainContext *context, const char *address, const char *sysfs_root,
                               ForeIdentity *identity, const char *host_pin,
                               const ForeSeaPortOps *ops, gpointer data, GError **error);
void fore_sea_port_free(ForeSeaPort *port); /* NULL allowed; calls nothing back */

/** fore_sea_port_event: to the host, when one is ready; @ev_data: (transfer full) */
void fore_sea_port_event(ForeSeaPort *port, const char *event, json_t *ev_data);
