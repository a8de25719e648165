/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vtpm/host/fore-log.h"

#include <glib.h>

static void on_message(const char *domain, GLogLevelFlags level, const char *message, gpointer data)
{
    g_autofree char *plain = g_strdup(message);

    for (char *c = plain; *c != '\0'; c++) {
        if (g_ascii_iscntrl(*c)) {
            *c = '?';
        }
    }
    g_log_default_handler(domain, level, plain, data);
}

void fore_log_one_line(void)
{
    g_log_set_default_handler(on_message, NULL);
}
