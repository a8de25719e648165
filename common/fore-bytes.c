/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/fore-bytes.h"

#include <string.h>

void fore_cursor_init(ForeCursor *cur, const void *data, size_t size)
{
    cur->at = data;
    cur->left = data != NULL ? size : 0;
    cur->poisoned = false;
}

bool fore_cursor_ok(const ForeCursor *cur)
{
    return !cur->poisoned;
}

bool fore_cursor_finished(const ForeCursor *cur)
{
    return !cur->poisoned && cur->left == 0;
}

const uint8_t *fore_cursor_take(ForeCursor *cur, size_t n)
{
    static const uint8_t nothing;
    const uint8_t *at = cur->at;

    if (cur->poisoned || n > cur->left) {
        cur->poisoned = true;
        return NULL;
    }
    if (n == 0) {
        return at != NULL ? at : &nothing;
    }
    cur->at += n;
    cur->left -= n;
    return at;
}

static uint64_t take_be(ForeCursor *cur, unsigned n)
{
    const uint8_t *p = fore_cursor_take(cur, n);
    uint64_t v = 0;

    for (unsigned i = 0; p != NULL && i < n; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

static uint64_t take_le(ForeCursor *cur, unsigned n)
{
    const uint8_t *p = fore_cursor_take(cur, n);
    uint64_t v = 0;

    for (unsigned i = n; p != NULL && i > 0; i--) {
        v = v << 8 | p[i - 1];
    }
    return v;
}

uint8_t fore_cursor_u8(ForeCursor *cur)
{
    return (uint8_t)take_be(cur, 1);
}

uint16_t fore_cursor_be16(ForeCursor *cur)
{
    return (uint16_t)take_be(cur, 2);
}

uint32_t fore_cursor_be32(ForeCursor *cur)
{
    return (uint32_t)take_be(cur, 4);
}

uint64_t fore_cursor_be64(ForeCursor *cur)
{
    return take_be(cur, 8);
}

uint16_t fore_cursor_le16(ForeCursor *cur)
{
    return (uint16_t)take_le(cur, 2);
}

uint32_t fore_cursor_le32(ForeCursor *cur)
{
    return (uint32_t)take_le(cur, 4);
}

uint64_t fore_cursor_le64(ForeCursor *cur)
{
    return take_le(cur, 8);
}

float fore_cursor_f32(ForeCursor *cur)
{
    uint32_t bits = fore_cursor_le32(cur);
    float v;

    memcpy(&v, &bits, sizeof(v));
    return v;
}

double fore_cursor_f64(ForeCursor *cur)
{
    uint64_t bits = fore_cursor_le64(cur);
    double v;

    memcpy(&v, &bits, sizeof(v));
    return v;
}

const uint8_t *fore_cursor_sized16(ForeCursor *cur, size_t *ret_size)
{
    size_t size = fore_cursor_be16(cur);
    const uint8_t *p = fore_cursor_take(cur, size);

    *ret_size = p != NULL ? size : 0;
    return p;
}

static void put(GByteArray *out, uint64_t v, unsigned n, bool big)
{
    uint8_t buf[8];

    for (unsigned i = 0; i < n; i++) {
        buf[big ? n - 1 - i : i] = (uint8_t)(v >> (8 * i));
    }
    g_byte_array_append(out, buf, n);
}

void fore_put_u8(GByteArray *out, uint8_t v)
{
    put(out, v, 1, true);
}

void fore_put_be16(GByteArray *out, uint16_t v)
{
    put(out, v, 2, true);
}

void fore_put_be32(GByteArray *out, uint32_t v)
{
    put(out, v, 4, true);
}

void fore_put_be64(GByteArray *out, uint64_t v)
{
    put(out, v, 8, true);
}

void fore_put_le16(GByteArray *out, uint16_t v)
{
    put(out, v, 2, false);
}

void fore_put_le32(GByteArray *out, uint32_t v)
{
    put(out, v, 4, false);
}

void fore_put_le64(GByteArray *out, uint64_t v)
{
    put(out, v, 8, false);
}

void fore_put_f32(GByteArray *out, float v)
{
    uint32_t bits;

    memcpy(&bits, &v, sizeof(bits));
    fore_put_le32(out, bits);
}

void fore_put_f64(GByteArray *out, double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof(bits));
    fore_put_le64(out, bits);
}

char *fore_hex_encode(const void *data, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = data;
    char *text = g_malloc(2 * size + 1);

    for (size_t i = 0; i < size; i++) {
        text[2 * i] = digits[p[i] >> 4];
        text[2 * i + 1] = digits[p[i] & 15];
    }
    text[2 * size] = '\0';
    return text;
}

GBytes *fore_hex_decode(const char *text, size_t max)
{
    size_t n = text != NULL ? strnlen(text, 2 * max + 1) : 1;
    uint8_t *out;

    if (n % 2 != 0 || n > 2 * max) {
        return NULL;
    }
    out = g_malloc(n / 2 + 1);
    for (size_t i = 0; i < n / 2; i++) {
        int hi = g_ascii_xdigit_value(text[2 * i]);
        int lo = g_ascii_xdigit_value(text[2 * i + 1]);
        if (hi < 0 || lo < 0) {
            g_free(out);
            return NULL;
        }
        out[i] = (uint8_t)(hi << 4 | lo);
    }
    return g_bytes_new_take(out, n / 2);
}

char *fore_b64_encode(const void *data, size_t size)
{
    return size > 0 ? g_base64_encode(data, size) : g_strdup("");
}

/* GLib skips characters that are not base64; we refuse them: one text for one value. */
static bool b64_is_canonical(const char *text, size_t n)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t digits = n;

    if (n % 4 != 0) {
        return false;
    }
    while (digits > 0 && n - digits < 2 && text[digits - 1] == '=') {
        digits--;
    }
    for (size_t i = 0; i < digits; i++) {
        if (memchr(alphabet, text[i], 64) == NULL) {
            return false;
        }
    }
    return true;
}

GBytes *fore_b64_decode(const char *text, size_t max)
{
    size_t longest = (max + 2) / 3 * 4;
    size_t n = text != NULL ? strnlen(text, longest + 1) : longest + 1;
    gsize size = 0;
    guchar *out;
    g_autofree char *again = NULL;

    if (n > longest || !b64_is_canonical(text, n)) {
        return NULL;
    }
    if (n == 0) {
        return g_bytes_new(NULL, 0);
    }
    out = g_base64_decode(text, &size);
    again = fore_b64_encode(out, size);
    if (size > max || strcmp(again, text) != 0) {
        g_free(out);
        return NULL;
    }
    return g_bytes_new_take(out, size);
}

char *fore_text_plain(char *text)
{
    for (char *c = text; *c != '\0'; c++) {
        *c = g_ascii_isprint(*c) ? *c : '?';
    }
    return text;
}
