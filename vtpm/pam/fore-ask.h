/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * One conversation with one attester: connect, TLS with its pinned key, a command and perhaps more
 * of them one after the other, gone.  A connection of its own for each keeps a slow node from
 * holding up others and leaves no state that could go stale.  Nothing here blocks: names are looked
 * up in the background.  One deadline covers look-up, handshake and the first command; each command
 * after an answer has it anew, because a long measurement list comes in many answers; and all of it
 * together may take FORE_ASK_TOTAL deadlines, so that a node which trickles holds nobody up for
 * long.
 */
#include <glib.h>
#include <jansson.h>

#include "common/fore-identity.h"

#define FORE_ASK_TOTAL 10 /* deadlines that a whole conversation may take */

typedef struct ForeAsk ForeAsk;

typedef struct {
    GMainContext *context;
    ForeIdentity *identity; /* shown to the attester; borrowed, outlives the question */
    const char *address;    /* of the attester: "unix:PATH" or "tcp:HOST:PORT" */
    const char *pin;        /* that it must have */
    unsigned timeout_ms;    /* without progress */
} ForeAskTarget;

/**
 * ForeAskReply: called once for each command, from the loop; may free the conversation
 * @ret: the attester's "return" (borrowed), or NULL
 * @error: set exactly when @ret is NULL: FORE_ERROR_TIMEOUT, FORE_ERROR_CLOSED or UNAVAILABLE (not
 * reached), else the attester's own
 */
typedef void (*ForeAskReply)(const json_t *ret, const GError *error, gpointer data);

/** fore_ask_new: never fails; what goes wrong comes as the answer.  @arguments: (transfer full) */
ForeAsk *fore_ask_new(const ForeAskTarget *target, const char *command, json_t *arguments,
                      ForeAskReply reply, gpointer data);
/** fore_ask_again: the next command, after a reply without error; @arguments: (transfer full).  The
 *  same reply function is called, within a new deadline or what is left of the total */
void fore_ask_again(ForeAsk *ask, const char *command, json_t *arguments);
/** fore_ask_free: forgets it; no answer comes any more.  NULL allowed. */
void fore_ask_free(ForeAsk *ask);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeAsk, fore_ask_free)
