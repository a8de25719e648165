/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The bounded cursor: the only way bytes from outside are read.  A short read poisons the cursor,
 * every later read then yields 0/NULL; ask fore_cursor_ok() once at the end.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const uint8_t *at;
    size_t left;   /* bytes not yet read */
    bool poisoned; /* a read went past the end */
} ForeCursor;

void fore_cursor_init(ForeCursor *cur, const void *data, size_t size);
bool fore_cursor_ok(const ForeCursor *cur);       /* nothing was read past the end */
bool fore_cursor_finished(const ForeCursor *cur); /* ok, and every byte was consumed */

uint8_t fore_cursor_u8(ForeCursor *cur);
uint16_t fore_cursor_be16(ForeCursor *cur);
uint32_t fore_cursor_be32(ForeCursor *cur);
uint64_t fore_cursor_be64(ForeCursor *cur);
uint16_t fore_cursor_le16(ForeCursor *cur);
uint32_t fore_cursor_le32(ForeCursor *cur);
uint64_t fore_cursor_le64(ForeCursor *cur);
/** fore_cursor_f32, fore_cursor_f64: IEEE 754, little-endian; any bits, NaN and infinity too */
float fore_cursor_f32(ForeCursor *cur);
double fore_cursor_f64(ForeCursor *cur);

/** fore_cursor_take: @n bytes, borrowed from the buffer; NULL (and poisoned) when fewer are left */
const uint8_t *fore_cursor_take(ForeCursor *cur, size_t n);

/**
 * fore_cursor_sized16: a TPM2B: big-endian 16-bit size, then that many bytes
 * @ret_size: bytes in the returned buffer; 0 on failure
 * Returns: borrowed pointer (non-NULL also for size 0), or NULL when poisoned
 */
const uint8_t *fore_cursor_sized16(ForeCursor *cur, size_t *ret_size);

/* Writers append to a GByteArray, big-endian or little-endian. */
void fore_put_u8(GByteArray *out, uint8_t v);
void fore_put_be16(GByteArray *out, uint16_t v);
void fore_put_be32(GByteArray *out, uint32_t v);
void fore_put_be64(GByteArray *out, uint64_t v);
void fore_put_le16(GByteArray *out, uint16_t v);
void fore_put_le32(GByteArray *out, uint32_t v);
void fore_put_le64(GByteArray *out, uint64_t v);
void fore_put_f32(GByteArray *out, float v);
void fore_put_f64(GByteArray *out, double v);

/**
 * fore_hex_encode: lower-case hex of @size bytes
 * Returns: (transfer full)
 */
char *fore_hex_encode(const void *data, size_t size);
/**
 * fore_hex_decode: strict inverse: even length, hex digits only, at most @max bytes
 * Returns: (transfer full) or NULL when malformed or longer than @max
 */
GBytes *fore_hex_decode(const char *text, size_t max);

/** fore_b64_encode: base64 with padding (RFC 4648 section 4). Returns: (transfer full) */
char *fore_b64_encode(const void *data, size_t size);
/** fore_b64_decode: strict inverse, at most @max bytes. Returns: (transfer full) or NULL */
GBytes *fore_b64_decode(const char *text, size_t max);

/**
 * fore_text_plain: what is not printable ASCII becomes '?', in place
 * For text of peers, which gets cut at a number of bytes (half a letter is no UTF-8, and then no
 * JSON) and shown on terminals.  Returns: @text
 */
char *fore_text_plain(char *text);
