/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * One question to one attester: connect, TLS with its pinned key, one command, one answer, gone.  A
 * connection of its own for each question keeps a slow node from holding up others and leaves no
 * state that could go stale.
 */
#include <glib.h>
#include <jansson.h>

#include "common/fore-identity.h"

typedef struct ForeAsk ForeAsk;

typedef struct {
    GMainContext *context;
    ForeIdentity *identity; /* shown to the attester; borrowed, outlives the question */
    const char *address;    /* of the attester */
    const char *pin;        /* that it must have */
    unsigned timeout_ms;    /* for all of it */
} ForeAskTarget;

/**
 * ForeAskReply: called once, from the loop; may free the question
 * @ret: the attester's "return" (borrowed), or NULL
 * @error: set exactly when @ret is NULL: FORE_ERROR_TIMEOUT, FORE_ERROR_CLOSED or UNAVAILABLE (not
 * reached), else the attester's own
 */
typedef void (*ForeAskReply)(const json_t *ret, const GError *error, gpointer data);

/** fore_ask_new: never fails; what goes wrong comes as the answer.  @arguments: (transfer full) */
ForeAsk *fore_ask_new(const ForeAskTarget *target, const char *command, json_t *arguments,
                      ForeAskReply reply, gpointer data);
/** fore_ask_free: forgets it; no answer comes any more.  NULL allowed. */
void fore_ask_free(ForeAsk *ask);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeAsk, fore_ask_free)
