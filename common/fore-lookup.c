/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How it works: GResolver looks names up in threads of its own and answers through the loop.  What
 * was cancelled answers once more, after the look-up is gone: that answer touches nothing. */
#include "common/fore-lookup.h"

#include <gio/gio.h>
#include <string.h>

#include "common/fore-error.h"

struct ForeLookup {
    GCancellable *cancel;
    char *port;
    unsigned nth;
    ForeLookupDone done;
    gpointer data;
};

static void on_resolved(GObject *resolver, GAsyncResult *result, gpointer data)
{
    ForeLookup *lookup = data;
    g_autoptr(GError) why = NULL, error = NULL;
    GList *found = g_resolver_lookup_by_name_finish(G_RESOLVER(resolver), result, &why);
    g_autofree char *host = NULL, *address = NULL;

    if (g_error_matches(why, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
        return; /* @lookup is gone */
    }
    if (found == NULL) {
        error = g_error_new(FORE_ERROR, FORE_ERROR_UNAVAILABLE, "%s", why->message);
        lookup->done(NULL, error, lookup->data);
        return;
    }
    host = g_inet_address_to_string(g_list_nth_data(found, lookup->nth % g_list_length(found)));
    address = g_strdup_printf(strchr(host, ':') != NULL ? "tcp:[%s]:%s" : "tcp:%s:%s", host,
                              lookup->port);
    g_resolver_free_addresses(found);
    lookup->done(address, NULL, lookup->data);
}

/* The host of "tcp:HOST:PORT" when it is a name, and its port; else NULL. */
static char *name_of(const char *address, char **ret_port)
{
    const char *text = g_str_has_prefix(address, "tcp:") ? address + 4 : NULL;
    const char *colon = text != NULL ? strrchr(text, ':') : NULL;
    g_autofree char *host = colon != NULL ? g_strndup(text, (gsize)(colon - text)) : NULL;

    if (host == NULL || host[0] == '\0' || host[0] == '[' || g_hostname_is_ip_address(host)) {
        return NULL;
    }
    *ret_port = g_strdup(colon + 1);
    return g_steal_pointer(&host);
}

ForeLookup *fore_lookup_new(GMainContext *context, const char *address, unsigned nth,
                            ForeLookupDone done, gpointer data)
{
    g_autoptr(GResolver) resolver = NULL;
    g_autofree char *port = NULL;
    g_autofree char *name = name_of(address, &port);
    ForeLookup *lookup;

    if (name == NULL) {
        return NULL;
    }
    resolver = g_resolver_get_default();
    lookup = g_new0(ForeLookup, 1);
    lookup->cancel = g_cancellable_new();
    lookup->port = g_steal_pointer(&port);
    lookup->nth = nth;
    lookup->done = done;
    lookup->data = data;
    g_main_context_push_thread_default(context);
    g_resolver_lookup_by_name_async(resolver, name, lookup->cancel, on_resolved, lookup);
    g_main_context_pop_thread_default(context);
    return lookup;
}

void fore_lookup_free(ForeLookup *lookup)
{
    if (lookup == NULL) {
        return;
    }
    g_cancellable_cancel(lookup->cancel);
    g_object_unref(lookup->cancel);
    g_free(lookup->port);
    g_free(lookup);
}
