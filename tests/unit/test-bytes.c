/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "common/fore-bytes.h"

/* --- the cursor --- */

static void test_reads_in_order(void)
{
    static const uint8_t data[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
                                   0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10};
    ForeCursor cur;

    fore_cursor_init(&cur, data, sizeof data);
    g_assert_cmphex(fore_cursor_u8(&cur), ==, 0x01);
    g_assert_cmphex(fore_cursor_be16(&cur), ==, 0x0203);
    g_assert_cmphex(fore_cursor_le16(&cur), ==, 0x0504);
    g_assert_cmphex(fore_cursor_be32(&cur), ==, 0x06070809);
    g_assert_cmphex(fore_cursor_le32(&cur), ==, 0x0d0c0b0a);
    g_assert_true(fore_cursor_ok(&cur));
    g_assert_false(fore_cursor_finished(&cur)); /* three bytes are left */
    g_assert_cmpmem(fore_cursor_take(&cur, 3), 3, data + 13, 3);
    g_assert_true(fore_cursor_finished(&cur));

    fore_cursor_init(&cur, data, sizeof data);
    g_assert_cmphex(fore_cursor_be64(&cur), ==, G_GUINT64_CONSTANT(0x0102030405060708));
    g_assert_cmphex(fore_cursor_le64(&cur), ==, G_GUINT64_CONSTANT(0x100f0e0d0c0b0a09));
    g_assert_true(fore_cursor_finished(&cur));
}

/* A short read leaves nothing usable behind: what is asked later is zero too. */
static void test_short_read_poisons(void)
{
    static const uint8_t data[] = {0xff, 0xff, 0xff, 0xff, 0xff};
    ForeCursor cur;
    size_t size = 77;

    fore_cursor_init(&cur, data, sizeof data);
    g_assert_cmphex(fore_cursor_be32(&cur), ==, 0xffffffff);
    g_assert_cmphex(fore_cursor_be16(&cur), ==, 0);
    g_assert_false(fore_cursor_ok(&cur));
    g_assert_cmphex(fore_cursor_u8(&cur), ==, 0); /* though one byte is there */
    g_assert_null(fore_cursor_take(&cur, 0));
    g_assert_null(fore_cursor_sized16(&cur, &size));
    g_assert_cmpuint(size, ==, 0);
    g_assert_false(fore_cursor_finished(&cur));
}

static void test_sized16(void)
{
    static const uint8_t data[] = {0x00, 0x02, 0xaa, 0xbb, 0x00, 0x00, 0xff, 0xff, 0x01};
    ForeCursor cur;
    size_t size = 0;

    fore_cursor_init(&cur, data, sizeof data);
    g_assert_cmpmem(fore_cursor_sized16(&cur, &size), size, data + 2, 2);
    g_assert_nonnull(fore_cursor_sized16(&cur, &size)); /* empty is not missing */
    g_assert_cmpuint(size, ==, 0);
    g_assert_true(fore_cursor_ok(&cur));
    g_assert_null(fore_cursor_sized16(&cur, &size)); /* 65535 bytes are announced, one is there */
    g_assert_cmpuint(size, ==, 0);
    g_assert_false(fore_cursor_ok(&cur));
}

static void test_nothing_at_all(void)
{
    ForeCursor cur;

    fore_cursor_init(&cur, NULL, 10); /* no buffer has no bytes, whatever its size */
    g_assert_true(fore_cursor_finished(&cur));
    g_assert_nonnull(fore_cursor_take(&cur, 0));
    g_assert_null(fore_cursor_take(&cur, 1));
    g_assert_false(fore_cursor_ok(&cur));
    fore_cursor_init(&cur, "x", 1);
    g_assert_null(fore_cursor_take(&cur, SIZE_MAX)); /* no sum that overflows */
}

static void test_writers_mirror_readers(void)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    ForeCursor cur;

    fore_put_u8(out, 0xfe);
    fore_put_be16(out, 0x1234);
    fore_put_le16(out, 0x1234);
    fore_put_be32(out, 0xdeadbeef);
    fore_put_le32(out, 0xdeadbeef);
    fore_put_be64(out, G_GUINT64_CONSTANT(0x8000000000000001));
    fore_put_le64(out, G_GUINT64_CONSTANT(0x8000000000000001));
    g_assert_cmpuint(out->len, ==, 1 + 2 + 2 + 4 + 4 + 8 + 8);
    g_assert_cmphex(out->data[1], ==, 0x12);
    g_assert_cmphex(out->data[3], ==, 0x34);
    fore_cursor_init(&cur, out->data, out->len);
    g_assert_cmphex(fore_cursor_u8(&cur), ==, 0xfe);
    g_assert_cmphex(fore_cursor_be16(&cur), ==, 0x1234);
    g_assert_cmphex(fore_cursor_le16(&cur), ==, 0x1234);
    g_assert_cmphex(fore_cursor_be32(&cur), ==, 0xdeadbeef);
    g_assert_cmphex(fore_cursor_le32(&cur), ==, 0xdeadbeef);
    g_assert_cmphex(fore_cursor_be64(&cur), ==, G_GUINT64_CONSTANT(0x8000000000000001));
    g_assert_cmphex(fore_cursor_le64(&cur), ==, G_GUINT64_CONSTANT(0x8000000000000001));
    g_assert_true(fore_cursor_finished(&cur));
}

/* --- texts --- */

static void test_hex(void)
{
    static const uint8_t data[] = {0x00, 0x7f, 0x80, 0xff};
    static const char *const bad[] = {"0", "0g", "0x00", " 00", "00 ", "0\n0a", "-1", "\xff\xff"};
    g_autofree char *text = fore_hex_encode(data, sizeof data);
    g_autofree char *none = fore_hex_encode(data, 0);
    g_autoptr(GBytes) back = fore_hex_decode("007F80fF", 4);
    g_autoptr(GBytes) empty = fore_hex_decode("", 0);

    g_assert_cmpstr(text, ==, "007f80ff");
    g_assert_cmpstr(none, ==, "");
    g_assert_cmpmem(g_bytes_get_data(back, NULL), g_bytes_get_size(back), data, sizeof data);
    g_assert_cmpuint(g_bytes_get_size(empty), ==, 0);
    g_assert_null(fore_hex_decode("007f80ff", 3));
    g_assert_null(fore_hex_decode(NULL, 10));
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_test_message("%u", i); /* not the text: the log is UTF-8 */
        g_assert_null(fore_hex_decode(bad[i], 100));
    }
}

/* RFC 4648 section 10 */
static void test_base64_vectors(void)
{
    static const char *const plain[] = {"", "f", "fo", "foo", "foob", "fooba", "foobar"};
    static const char *const coded[] = {"",         "Zg==",     "Zm8=",    "Zm9v",
                                        "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};

    for (unsigned i = 0; i < G_N_ELEMENTS(plain); i++) {
        g_autofree char *text = fore_b64_encode(plain[i], strlen(plain[i]));
        g_autoptr(GBytes) back = fore_b64_decode(coded[i], strlen(plain[i]));
        g_assert_cmpstr(text, ==, coded[i]);
        g_assert_nonnull(back);
        g_assert_cmpmem(g_bytes_get_data(back, NULL), g_bytes_get_size(back), plain[i],
                        strlen(plain[i]));
        if (i > 0) {
            g_assert_null(fore_b64_decode(coded[i], strlen(plain[i]) - 1)); /* one byte too many */
        }
    }
}

/* One value has one text: whoever compares texts must not be fooled. */
static void test_base64_is_strict(void)
{
    static const char *const bad[] = {"Zg",
                                      "Zg=",
                                      "Zg===",
                                      "Zm9v\n",
                                      "Zm 9v",
                                      "Zm9v====",
                                      "Zh==" /* bits */,
                                      "Zm9=",
                                      "Z===",
                                      "====",
                                      "Zm9-",
                                      "Zm9_",
                                      "\xc3\xa9\xc3",
                                      "Zm9vZg==Zm9v",
                                      "Zm=vZm9v",
                                      "AA==AA==",
                                      "=AAA",
                                      "A=AA",
                                      "AAAA=",
                                      "Zm9v\xff\xff\xff\xff"};

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_test_message("%u", i); /* not the text: the log is UTF-8 */
        g_assert_null(fore_b64_decode(bad[i], 1000));
    }
    g_assert_null(fore_b64_decode(NULL, 1000));
}

static void test_base64_of_every_length(void)
{
    uint8_t data[256];

    for (unsigned n = 0; n <= sizeof data; n++) {
        g_autofree char *text = NULL;
        g_autoptr(GBytes) back = NULL;
        for (unsigned i = 0; i < n; i++) {
            data[i] = (uint8_t)(i * 167 + n);
        }
        text = fore_b64_encode(data, n);
        back = fore_b64_decode(text, n);
        g_assert_nonnull(back);
        g_assert_cmpmem(g_bytes_get_data(back, NULL), g_bytes_get_size(back), data, n);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/common/bytes/reads-go-in-order", test_reads_in_order);
    g_test_add_func("/common/bytes/short-read-poisons-what-follows", test_short_read_poisons);
    g_test_add_func("/common/bytes/sized-field-is-bounded", test_sized16);
    g_test_add_func("/common/bytes/no-buffer-has-no-bytes", test_nothing_at_all);
    g_test_add_func("/common/bytes/writers-mirror-readers", test_writers_mirror_readers);
    g_test_add_func("/common/bytes/hex-is-strict", test_hex);
    g_test_add_func("/common/bytes/base64-is-that-of-rfc-4648", test_base64_vectors);
    g_test_add_func("/common/bytes/base64-has-one-text-for-one-value", test_base64_is_strict);
    g_test_add_func("/common/bytes/base64-of-every-length-comes-back", test_base64_of_every_length);
    return g_test_run();
}
