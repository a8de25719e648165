/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * foresee-store: serves one store file that no daemon has open, on a socket, until its one client
 * has gone. `foresee store --db FILE` starts it; so a file is looked at with the same commands as a
 * daemon.
 */
#include <errno.h>
#include <glib-unix.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "qmp-agent/fore-store-key.h"
#include "qmp-agent/fore-store-view.h"

enum { EXIT_USAGE = 2, EXIT_CONFIG = 3, EXIT_UNAVAILABLE_NOW = 5, EXIT_NOT_TRUSTED = 6 };

typedef struct {
    GMainLoop *loop;
    ForeStoreView *view;
} Server;

static void on_command(ForeWire *wire, ForeCall *call, gpointer data)
{
    g_autoptr(GError) error = NULL;
    Server *server = data;

    if (!fore_store_view_call(server->view, call, &error)) {
        error = g_error_new(FORE_ERROR, FORE_ERROR_NOT_FOUND, "no command '%s' on a file",
                            fore_call_command(call));
    }
    if (error != NULL) {
        fore_call_fail(call, error);
    }
}

static void on_closed(ForeWire *wire, const GError *why, gpointer data)
{
    g_main_loop_quit(((Server *)data)->loop);
}

static int fail(const GError *error)
{
    fprintf(stderr, "%s\n", error->message);
    if (g_error_matches(error, FORE_ERROR, FORE_ERROR_UNTRUSTED)) {
        return EXIT_NOT_TRUSTED;
    }
    return g_error_matches(error, FORE_ERROR, FORE_ERROR_INVALID) ? EXIT_CONFIG
                                                                  : EXIT_UNAVAILABLE_NOW;
}

static ForeConfig *make_config(const char *path, const char *key_file, GError **error)
{
    ForeConfig *config = fore_config_load(path, error);

    if (config != NULL && key_file != NULL) {
        g_free(config->store_key_file);
        config->store_key_file = g_strdup(key_file);
    }
    return config;
}

static int serve(const char *db, const char *config_path, const char *key_file, int fd)
{
    static const ForeWireOps ops = {NULL, on_command, NULL, on_closed};
    ForeWireConfig wire_config = {.json = fore_json_limits_peer};
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeConfig) config = make_config(config_path, key_file, &error);
    g_autoptr(ForeStore) store = NULL;
    Server server = {0};
    ForeStoreTiers tiers;
    ForeWire *wire;

    store = config != NULL ? fore_store_key_open(config, db, &error) : NULL;
    if (store == NULL || !fore_store_tiers_parse(config->tiers, &tiers, &error)) {
        return fail(error);
    }
    fore_store_set_tiers(store, &tiers);
    server.loop = g_main_loop_new(NULL, FALSE);
    server.view = fore_store_view_new(g_main_context_default(), store, config, true);
    wire = fore_wire_new(g_main_context_default(), fd, NULL, FORE_WIRE_SERVER, &wire_config, &ops,
                         &server);
    g_main_loop_run(server.loop);
    fore_wire_free(wire);
    fore_store_view_free(server.view);
    g_main_loop_unref(server.loop);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    gboolean create = FALSE;
    g_autofree char *db = NULL, *config = NULL, *key_file = NULL, *address = NULL;
    const GOptionEntry entries[] = {
        {"db", 0, 0, G_OPTION_ARG_FILENAME, &db, "The store", "FILE"},
        {"config", 0, 0, G_OPTION_ARG_FILENAME, &config, "foreseed's configuration", "FILE"},
        {"key-file", 0, 0, G_OPTION_ARG_FILENAME, &key_file, "Its key in hex", "FILE"},
        {"create", 0, 0, G_OPTION_ARG_NONE, &create, "Make it when there is none", NULL},
        {"listen", 0, 0, G_OPTION_ARG_STRING, &address, "Where the one client comes", "ADDRESS"},
        {NULL},
    };
    g_autoptr(GOptionContext) options = g_option_context_new("- serve one store file");
    g_autoptr(GError) error = NULL;
    int fd, client;

    g_option_context_add_main_entries(options, entries, NULL);
    if (!g_option_context_parse(options, &argc, &argv, &error) || argc > 1 || db == NULL ||
        address == NULL) {
        fprintf(stderr, "%s\n", error != NULL ? error->message : "--db and --listen are needed");
        return EXIT_USAGE;
    }
    if (!create && !g_file_test(db, G_FILE_TEST_EXISTS)) {
        fprintf(stderr, "no store '%s'\n", db);
        return EXIT_CONFIG;
    }
    signal(SIGPIPE, SIG_IGN);
    fd = fore_listen(address, &error);
    if (fd < 0) {
        return fail(error);
    }
    g_unix_set_fd_nonblocking(fd, FALSE, NULL);
    printf("ready\n");
    fflush(stdout);
    client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    close(fd);
    if (client < 0) {
        fprintf(stderr, "nobody came: %s\n", g_strerror(errno));
        return EXIT_UNAVAILABLE_NOW;
    }
    return serve(db, config, key_file, client);
}
