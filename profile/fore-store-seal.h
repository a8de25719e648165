/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Every compressed blob of the store ends with its CRC-32C: pages are guarded by SQLCipher's HMAC,
 * this guards what was wrong before it was encrypted.  Internal to profile/.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_SEAL_BYTES 4

/** fore_store_seal: append the checksum of what is there */
void fore_store_seal(GByteArray *blob);
/** fore_store_unseal: bytes before the checksum, or 0 when it does not fit */
size_t fore_store_unseal(const void *data, size_t size);
