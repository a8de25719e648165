/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "profile/fore-store-seal.h"

#include "common/fore-bytes.h"
#include "profile/fore-bits.h"

void fore_store_seal(GByteArray *blob)
{
    fore_put_be32(blob, fore_crc32c(blob->data, blob->len));
}

size_t fore_store_unseal(const void *data, size_t size)
{
    ForeCursor cur;

    if (data == NULL || size <= FORE_SEAL_BYTES) {
        return 0;
    }
    fore_cursor_init(&cur, (const uint8_t *)data + size - FORE_SEAL_BYTES, FORE_SEAL_BYTES);
    return fore_cursor_be32(&cur) == fore_crc32c(data, size - FORE_SEAL_BYTES)
               ? size - FORE_SEAL_BYTES
               : 0;
}
