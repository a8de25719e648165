/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works: a virtio-serial port answers POLLHUP at once while nobody holds its host end, so it
 * cannot be waited for in the loop without spinning.  The fd stays open and is asked every 100 to
 * 500 ms; once the hang-up is gone, a wire takes it.  After the wire the fd is closed: that throws
 * away what the former peer left in the port's buffers.
 */
#include "guest-agent/fore-sea-port.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RETRY_MIN_MS     100
#define RETRY_MAX_MS     500
#define PORTS_MAX        256 /* virtio ports that are looked at */
#define COMMANDS_PER_S   100
#define QUEUE_MAX        (512u << 10)
#define HANDSHAKE_MAX_MS 3000

struct ForeSeaPort {
    GMainContext *context;
    char *device; /* NULL: find it */
    char *ports_dir;
    const ForeSeaPortOps *ops;
    gpointer data;
    const char *pins[2];
    ForeChannelConfig channel;
    int listen_fd; /* -1: a device */
    int fd;        /* of the device, -1: not open */
    ForeWire *wire;
    GSource *source; /* retry timer, or the listening socket */
    unsigned retry_ms;
};

static void wait_for_peer(ForeSeaPort *port);

static void drop_source(GSource **source)
{
    if (*source) {
        g_source_destroy(*source);
        g_clear_pointer(source, g_source_unref);
    }
}

static void on_wire_ready(ForeWire *wire, gpointer data)
{
    ForeSeaPort *port = data;

    port->retry_ms = RETRY_MIN_MS;
    port->ops->on_ready(port, port->data);
}

static void on_wire_command(ForeWire *wire, ForeCall *call, gpointer data)
{
    ForeSeaPort *port = data;

    port->ops->on_command(port, call, port->data);
}

static void close_device(ForeSeaPort *port)
{
    if (port->fd >= 0) {
        close(port->fd);
        port->fd = -1;
    }
}

static void on_wire_closed(ForeWire *wire, const GError *why, gpointer data)
{
    ForeSeaPort *port = data;

    port->ops->on_closed(port, why, port->data);
    port->wire = NULL;
    fore_wire_free(wire);
    close_device(port);
    wait_for_peer(port);
}

static const ForeWireOps wire_ops = {
    .on_ready = on_wire_ready, .on_command = on_wire_command, .on_closed = on_wire_closed};

static void start_wire(ForeSeaPort *port, int fd)
{
    ForeWireConfig config = {.json = fore_json_limits_guest, .max_per_second = COMMANDS_PER_S};

    port->wire = fore_wire_new(port->context, fd, &port->channel, FORE_WIRE_SERVER, &config,
                               &wire_ops, port);
}

/* The device whose name is ours, (transfer full), NULL when there is none (yet). */
static char *find_device(const ForeSeaPort *port)
{
    g_autoptr(GDir) dir = g_dir_open(port->ports_dir, 0, NULL);
    const char *entry;

    for (unsigned i = 0; dir && i < PORTS_MAX && (entry = g_dir_read_name(dir)); i++) {
        g_autofree char *path = g_build_filename(port->ports_dir, entry, "name", NULL);
        char name[64] = "";
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, name, sizeof name - 1);
        if (fd >= 0) {
            close(fd);
        }
        if (n > 0 && g_str_equal(g_strchomp(name), FORE_SEA_PORT_NAME)) {
            return g_build_filename("/dev", entry, NULL);
        }
    }
    return NULL;
}

static bool device_has_peer(ForeSeaPort *port)
{
    struct pollfd ask = {.events = POLLIN | POLLOUT};

    if (port->fd < 0) {
        g_autofree char *path = port->device ? g_strdup(port->device) : find_device(port);
        port->fd = path ? open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC) : -1;
        if (port->fd < 0) {
            return false;
        }
    }
    ask.fd = port->fd;
    if (poll(&ask, 1, 0) < 0 || (ask.revents & (POLLERR | POLLNVAL))) {
        close_device(port); /* unplugged; the next try opens what is there then */
        return false;
    }
    return !(ask.revents & POLLHUP);
}

static gboolean on_retry(gpointer data)
{
    ForeSeaPort *port = data;

    drop_source(&port->source);
    if (device_has_peer(port)) {
        start_wire(port, port->fd);
    } else {
        wait_for_peer(port);
    }
    return G_SOURCE_REMOVE;
}

static gboolean on_connection(gint listen_fd, GIOCondition condition, gpointer data)
{
    ForeSeaPort *port = data;
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0) { /* the peer left again */
        return G_SOURCE_CONTINUE;
    }
    drop_source(&port->source); /* the next one waits in the backlog */
    start_wire(port, fd);
    return G_SOURCE_REMOVE;
}

static void wait_for_peer(ForeSeaPort *port)
{
    if (port->listen_fd >= 0) {
        port->source = g_unix_fd_source_new(port->listen_fd, G_IO_IN);
        g_source_set_callback(port->source, G_SOURCE_FUNC(on_connection), port, NULL);
    } else {
        port->source = g_timeout_source_new(port->retry_ms);
        g_source_set_callback(port->source, on_retry, port, NULL);
        port->retry_ms = MIN(port->retry_ms * 2, RETRY_MAX_MS);
    }
    g_source_attach(port->source, port->context);
}

ForeSeaPort *fore_sea_port_new(GMainContext *context, const char *address, const char *sysfs_root,
                               ForeIdentity *identity, const char *host_pin,
                               const ForeSeaPortOps *ops, gpointer data, GError **error)
{
    bool listening = address && g_str_has_prefix(address, "unix:");
    int listen_fd = listening ? fore_listen(address, error) : -1;
    ForeSeaPort *port;

    if (listening && listen_fd < 0) {
        return NULL;
    }
    port = g_new0(ForeSeaPort, 1);
    port->context =
        context ? g_main_context_ref(context) : g_main_context_ref(g_main_context_default());
    port->device = listening ? NULL : g_strdup(address);
    port->ports_dir = g_build_filename(sysfs_root, "class/virtio-ports", NULL);
    port->ops = ops;
    port->data = data;
    port->pins[0] = host_pin;
    port->channel = (ForeChannelConfig){
        .mode = FORE_CHANNEL_TLS_SERVER,
        .identity = identity,
        .pins = port->pins,
        .handshake_timeout_ms = HANDSHAKE_MAX_MS,
        .max_queue = QUEUE_MAX,
        .keep_on_eof = !listening,
    };
    port->listen_fd = listen_fd;
    port->fd = -1;
    port->retry_ms = RETRY_MIN_MS;
    wait_for_peer(port);
    return port;
}

void fore_sea_port_free(ForeSeaPort *port)
{
    if (!port) {
        return;
    }
    drop_source(&port->source);
    fore_wire_free(port->wire);
    close_device(port);
    if (port->listen_fd >= 0) {
        close(port->listen_fd);
    }
    g_main_context_unref(port->context);
    g_free(port->device);
    g_free(port->ports_dir);
    g_free(port);
}

void fore_sea_port_event(ForeSeaPort *port, const char *event, json_t *ev_data)
{
    if (port->wire && fore_wire_is_ready(port->wire)) {
        fore_wire_event(port->wire, event, ev_data);
    } else {
        json_decref(ev_data);
    }
}
