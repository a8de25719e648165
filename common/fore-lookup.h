/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Host names of addresses (fore-channel.h), looked up in the background: fore_connect() would block
 * for as long as a name server is silent.
 */
#include <glib.h>

typedef struct ForeLookup ForeLookup;

/**
 * ForeLookupDone: called once, from the loop; may free the look-up
 * @address: "tcp:NUMBER:PORT" (borrowed), or NULL
 * @error: set exactly when @address is NULL: FORE_ERROR_UNAVAILABLE
 */
typedef void (*ForeLookupDone)(const char *address, const GError *error, gpointer data);

/**
 * fore_lookup_new
 * @nth: which of the name's addresses, from 0, counted round: who tries again tries the next one
 * Returns: NULL when @address holds no name: connect at once; @done is not called
 */
ForeLookup *fore_lookup_new(GMainContext *context, const char *address, unsigned nth,
                            ForeLookupDone done, gpointer data);
/** fore_lookup_free: forgets it; @done is not called any more.  NULL allowed */
void fore_lookup_free(ForeLookup *lookup);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeLookup, fore_lookup_free)
