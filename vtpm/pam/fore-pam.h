/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The attestation manager: enrols nodes and VMs, asks every node of a VM's pathway for fresh
 * evidence, judges it and signs what the VM may take (docs/wire-format.md, PAM).  One loop, no
 * thread: quotes verify in a fraction of a millisecond, and the attesters' TPMs work elsewhere.
 */
#include "common/fore-identity.h"
#include "vtpm/host/fore-key.h"
#include "vtpm/pam/fore-pam-config.h"

typedef struct ForePam ForePam;

/* The keys of a PAM, all P-256. */
typedef struct {
    ForeIdentity *channel; /* shown in TLS: agents, operators and attesters pin it; a PEM file of
                              mode 0600 in the state folder */
    ForeKey *signing;      /* signs grants and verdicts: SEAs pin it */
    ForeKey *next;         /* that SEAs are to learn; NULL: none */
} ForePamKeys;

/** fore_pam_prepare: the state folder and the keys in it; made when missing */
bool fore_pam_prepare(const ForePamConfig *config, ForePamKeys *ret, GError **error);
void fore_pam_keys_done(ForePamKeys *keys);

/**
 * fore_pam_new: opens the inventory and listens from now on
 * @context: where it runs   @config, @keys: borrowed, outlive it
 * Errors: FORE_ERROR_EXISTS ("already running", address taken), FORE_ERROR_UNTRUSTED (inventory,
 * audit log), FORE_ERROR_INVALID (a file that the configuration names), FORE_ERROR_UNAVAILABLE
 */
ForePam *fore_pam_new(GMainContext *context, const ForePamConfig *config, const ForePamKeys *keys,
                      GError **error);
/** fore_pam_free: drops all peers and open sessions.  NULL allowed. */
void fore_pam_free(ForePam *pam);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForePam, fore_pam_free)
