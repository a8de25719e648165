/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * One encrypted file that is replaced as a whole:
 *     "FOREINV1" | 12 bytes nonce | AES-256-GCM ciphertext | 16 bytes tag
 * The magic is authenticated too.  Also the key beside it, in a file or sealed to a TPM.
 */
#include <glib.h>
#include <stdbool.h>

#define FORE_INVENTORY_KEY_SIZE 32
#define FORE_INVENTORY_FILE_MAX (64u << 20) /* bytes */

/**
 * fore_inventory_key: load or make the key
 * @may_create: false when an inventory exists already: a fresh key could not open it
 * @ret: 32 bytes; cleanse after use
 */
bool fore_inventory_key(const char *dir, const char *tcti, bool may_create,
                        guint8 ret[FORE_INVENTORY_KEY_SIZE], GError **error);

/**
 * fore_file_replace: @bytes become the file; on disk when true.  Mode 0600
 * @ret_replaced: the new file is in place, also when false is returned because the folder would not
 * sync; may be NULL
 */
bool fore_file_replace(const char *path, const void *bytes, size_t size, bool *ret_replaced,
                       GError **error);

/** fore_inventory_encrypt: (transfer full) */
GBytes *fore_inventory_encrypt(const guint8 key[FORE_INVENTORY_KEY_SIZE], const char *text,
                               GError **error);
/** fore_inventory_decrypt: text (transfer full), terminated. FORE_ERROR_UNTRUSTED: key or file */
char *fore_inventory_decrypt(const guint8 key[FORE_INVENTORY_KEY_SIZE], const void *bytes,
                             size_t size, GError **error);
