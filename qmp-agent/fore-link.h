/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A client wire that stays: connects, negotiates, and after any loss tries again with growing
 * pauses (0.1 s to 5 s).  Used towards QEMU, the SEA and the PAM.  A lost command's effect is
 * unknown: its reply is FORE_ERROR_CLOSED, and the owner re-queries when the link is up again.
 */
#include "common/fore-wire.h"

typedef struct ForeLink ForeLink;

typedef struct {
    void (*on_up)(ForeLink *link, gpointer data);
    void (*on_down)(ForeLink *link, const GError *why, gpointer data); /* also: an attempt failed */
    void (*on_event)(ForeLink *link, const char *event, const json_t *ev_data, gpointer data);
} ForeLinkOps;

/**
 * fore_link_new: starts connecting at once
 * @address: "unix:PATH" or "tcp:HOST:PORT"
 * @channel: copied, its pins too; NULL = plain; its identity must outlive the link
 */
ForeLink *fore_link_new(GMainContext *context, const char *address,
                        const ForeChannelConfig *channel, const ForeWireConfig *config,
                        const ForeLinkOps *ops, gpointer data);
/** fore_link_free: nothing is called back any more.  NULL allowed. */
void fore_link_free(ForeLink *link);

bool fore_link_is_up(const ForeLink *link);
/** fore_link_reason: why it is down, for people; "" when up */
const char *fore_link_reason(const ForeLink *link);
/** fore_link_peer_pin: as fore_channel_peer_pin(); NULL when down */
const char *fore_link_peer_pin(const ForeLink *link);
/** fore_link_execute: as fore_wire_execute(); when down the reply is FORE_ERROR_UNAVAILABLE, from
 * the loop */
void fore_link_execute(ForeLink *link, const char *command, json_t *arguments, unsigned timeout_ms,
                       ForeWireReply reply, gpointer data);
/** fore_link_reset: drop the connection and make a new one; @why: what the peer did, for people */
void fore_link_reset(ForeLink *link, const char *why);
