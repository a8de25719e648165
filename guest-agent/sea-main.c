/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foresee-sea: the secure enclave agent of a guest (see foresee-sea(8)). */
#include <fcntl.h>
#include <glib-unix.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "guest-agent/fore-sea.h"

enum { EXIT_FINE = 0, EXIT_TROUBLE = 1, EXIT_USAGE = 2 };

static gboolean on_signal(gpointer data)
{
    g_main_loop_quit(data);
    return G_SOURCE_CONTINUE;
}

/* A guest short of memory is when its host most needs to hear from it.  Without privilege: no. */
static void avoid_oom_killer(void)
{
    static const char score[] = "-900";
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0) {
        if (write(fd, score, strlen(score)) < 0) {
            g_debug("oom_score_adj stays as it is");
        }
        close(fd);
    }
}

static void prepare_process(void)
{
    static const struct rlimit no_core = {0, 0}; /* the channel's key is in memory */

    setrlimit(RLIMIT_CORE, &no_core);
    mallopt(M_ARENA_MAX, 1); /* threads here do not compete, and arenas cost memory */
    g_setenv("TSS2_LOG", "all+none", FALSE); /* errors arrive as GError, once */
    avoid_oom_killer();
}

static int serve(const ForeSeaConfig *config)
{
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    g_autoptr(GError) err = NULL;
    g_autoptr(ForeSea) sea = fore_sea_new(NULL, config, &err);

    if (!sea) {
        g_printerr("foresee-sea: %s\n", err->message);
        return EXIT_TROUBLE;
    }
    g_unix_signal_add(SIGTERM, on_signal, loop);
    g_unix_signal_add(SIGINT, on_signal, loop);
    g_message("VM %s, channel pin %s", config->vm_uuid, fore_sea_pin(sea));
    g_main_loop_run(loop);
    return EXIT_FINE;
}

int main(int argc, char **argv)
{
    g_autofree char *path = NULL, *port = NULL;
    gboolean version = FALSE;
    const GOptionEntry entries[] = {
        {"config", 'c', 0, G_OPTION_ARG_FILENAME, &path, "Configuration, " FORE_SEA_CONFIG_PATH,
         "FILE"},
        {"port", 'p', 0, G_OPTION_ARG_STRING, &port,
         "Device, or unix:PATH to listen on, instead of virtio port org.foresee.sea.0", "PORT"},
        {"version", 'V', 0, G_OPTION_ARG_NONE, &version, "Print the version and exit", NULL},
        {0}};
    g_autoptr(GOptionContext) context = g_option_context_new("- secure enclave agent of a guest");
    g_autoptr(GError) err = NULL;
    g_autoptr(ForeSeaConfig) config = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_set_description(
        context, "Exit status: 0 ended by a signal, 1 cannot serve, 2 wrong option or "
                 "configuration.\nManual page: foresee-sea(8)\n");
    if (!g_option_context_parse(context, &argc, &argv, &err) || argc > 1) {
        g_printerr("foresee-sea: %s; see --help\n", err ? err->message : "takes no arguments");
        return EXIT_USAGE;
    }
    if (version) {
        printf("foresee-sea %s\n", FORE_VERSION);
        return EXIT_FINE;
    }
    config = fore_sea_config_load(path ? path : FORE_SEA_CONFIG_PATH, &err);
    if (!config || (port && !fore_sea_config_set_port(config, port, &err))) {
        g_printerr("foresee-sea: %s\n", err->message);
        return EXIT_USAGE;
    }
    prepare_process();
    return serve(config);
}
