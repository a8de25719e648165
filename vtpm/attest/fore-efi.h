/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The UEFI structures that an event log carries and that a policy looks into: UEFI_VARIABLE_DATA
 * (TCG PC Client Platform Firmware Profile 1.06, 10.2.6), EFI_SIGNATURE_LIST (UEFI 2.10, 32.4.1)
 * and the forbidden list (dbx) made of them.  Device paths are never walked.  Pure.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const uint8_t *guid; /* [16], as in memory (mixed endian) */
    const uint8_t *name; /* UCS-2LE, not terminated */
    size_t name_chars;
    const uint8_t *data; /* borrowed, non-NULL also for size 0 */
    size_t size;
    size_t tail; /* bytes of the event behind what the structure declares */
} ForeEfiVariable;

/** fore_efi_variable_init: false when short or oversized; @ret then untouched.  Trailing bytes are
 * the caller's to judge (@ret->tail) */
bool fore_efi_variable_init(ForeEfiVariable *ret, const uint8_t *data, size_t size);
/** fore_efi_variable_is: a variable of the global or image security GUID with this ASCII name */
bool fore_efi_variable_is(const ForeEfiVariable *var, const char *name);

/* SHA-256 digests and certificates that must not run. */
typedef struct ForeDbx ForeDbx;
#define FORE_DBX_MAX         (4u << 20) /* bytes of an update */
#define FORE_DBX_MAX_ENTRIES 65536u

ForeDbx *fore_dbx_new(void);
void fore_dbx_free(ForeDbx *dbx); /* NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeDbx, fore_dbx_free)
/**
 * fore_dbx_add_lists: EFI_SIGNATURE_LISTs, bare or behind EFI_VARIABLE_AUTHENTICATION_2 (a
 * dbxupdate file; its PKCS#7 signature is not judged: the caller vouches for the file)
 * Errors: FORE_ERROR_INVALID (names the offset), FORE_ERROR_LIMIT; @dbx is then as before
 */
bool fore_dbx_add_lists(ForeDbx *dbx, const uint8_t *data, size_t size, GError **error);
/** fore_dbx_add_digest: one authenticode SHA-256   Errors: FORE_ERROR_LIMIT */
bool fore_dbx_add_digest(ForeDbx *dbx, const uint8_t digest[32], GError **error);
/** fore_dbx_add_cert: one DER certificate   Errors: FORE_ERROR_INVALID, FORE_ERROR_LIMIT */
bool fore_dbx_add_cert(ForeDbx *dbx, const uint8_t *der, size_t size, GError **error);
size_t fore_dbx_size(const ForeDbx *dbx); /* digests and certificates; NULL: 0 */
/** fore_dbx_has_digest: NULL @dbx forbids nothing */
bool fore_dbx_has_digest(const ForeDbx *dbx, const uint8_t digest[32]);
/** fore_dbx_has_cert: @der is listed whole, or by the SHA-256 of its to-be-signed part */
bool fore_dbx_has_cert(const ForeDbx *dbx, const uint8_t *der, size_t size);
