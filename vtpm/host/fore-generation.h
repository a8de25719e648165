/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The generation ledger: which state each vTPM had last, so that a copy of an older state, or of
 * another VM's, is not started.  A file of digests, authenticated with a key that is sealed to the
 * host TPM; its version is a counter in that TPM, which never goes back.  So the file cannot be put
 * back either.  The file's lock is held from open to close: keep it short.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vtpm/tpm/fore-tpm.h"

#define FORE_GENERATION_INDEX   0x01800F10u /* NV counter in the host TPM */
#define FORE_GENERATION_MAX_VMS 4096

typedef struct {
    uint8_t digest[32]; /* of the state's files, see fore_vtpm_digest() */
    bool running;       /* an instance has the state open, or had when the host went down */
    uint64_t changes;   /* how often the digest has moved */
    int64_t changed_ms; /* UTC, when it last did */
} ForeGeneration;

typedef struct ForeGenerations ForeGenerations;

/**
 * fore_generations_open: lock, read, authenticate; an empty ledger when there never was one
 * @dir: absolute, exists
 * @tpm: host TPM, borrowed until close
 * Errors: FORE_ERROR_UNTRUSTED (edited, put back, or its file or key is gone), FORE_ERROR_TIMEOUT
 * (another process holds it), FORE_ERROR_UNAVAILABLE (disk, TPM)
 */
ForeGenerations *fore_generations_open(const char *dir, ForeTpm *tpm, GError **error);
void fore_generations_close(ForeGenerations *g); /* unlocks; NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeGenerations, fore_generations_close)

/** fore_generations_get: false when the VM is not in the ledger */
bool fore_generations_get(const ForeGenerations *g, const char *uuid, ForeGeneration *ret);
/** fore_generations_put: durable when it returns. Errors: FORE_ERROR_LIMIT, FORE_ERROR_UNAVAILABLE
 */
bool fore_generations_put(ForeGenerations *g, const char *uuid, const ForeGeneration *generation,
                          GError **error);
bool fore_generations_remove(ForeGenerations *g, const char *uuid, GError **error);
typedef void (*ForeGenerationEach)(const char *uuid, const ForeGeneration *generation,
                                   gpointer data);
void fore_generations_each(const ForeGenerations *g, ForeGenerationEach fn, gpointer data);
