/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Shared by fore-vtpm.c (at rest) and fore-vtpm-run.c (running). */
#include "vtpm/host/fore-vtpm.h"

/* Where the files of one vTPM are; (transfer full) strings. */
typedef struct {
    char *dir, *state, *key, *ek, *lock, *socket;
} ForeVtpmPaths;
void fore_vtpm_paths_init(ForeVtpmPaths *paths, const ForeVtpmHost *host, const char *uuid);
void fore_vtpm_paths_done(ForeVtpmPaths *paths);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ForeVtpmPaths, fore_vtpm_paths_done)

/** fore_vtpm_lock: -1 when another process holds it (EXISTS), or the vTPM does not exist
 * (NOT_FOUND) The file names the holder's pid. */
int fore_vtpm_lock(const ForeVtpmPaths *paths, const char *uuid, GError **error);
/** fore_vtpm_key: unseal. Errors: FORE_ERROR_UNTRUSTED */
GBytes *fore_vtpm_key(ForeTpm *tpm, const ForeVtpmPaths *paths, GError **error);
/** fore_vtpm_record: the state's digest as it is now goes into the ledger */
bool fore_vtpm_record(const ForeVtpmHost *host, const ForeVtpmPaths *paths, const char *uuid,
                      bool running, GError **error);
/** fore_vtpm_admit: is the state the one that the ledger has?  Then it is marked as running.
 *  Errors: FORE_ERROR_UNTRUSTED */
bool fore_vtpm_admit(const ForeVtpmHost *host, ForeTpm *tpm, const ForeVtpmPaths *paths,
                     const char *uuid, GError **error);
