/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/lib/fore-test-log.h"

#include <openssl/evp.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "vtpm/attest/fore-eventlog.h"
#include "vtpm/attest/fore-imalog.h"
#include "vtpm/attest/fore-public.h"

static void digest_of(const EVP_MD *md, const void *data, size_t size, uint8_t *ret)
{
    g_assert_cmpint(EVP_Digest(data, size, ret, NULL, md, NULL), ==, 1);
}

void fore_test_sha256(const char *text, uint8_t ret[32])
{
    digest_of(EVP_sha256(), text, strlen(text), ret);
}

GBytes *fore_test_bytes(const GByteArray *bytes)
{
    return g_bytes_new(bytes->data, bytes->len);
}

static void put(GByteArray *out, const void *data, size_t size)
{
    if (size > 0) {
        g_byte_array_append(out, data, (guint)size);
    }
}

/* --- event logs --- */

static bool has_sha1(const GByteArray *log)
{
    return log->data[56] == 2; /* number of algorithms */
}

GByteArray *fore_test_eventlog_new(bool sha1_too)
{
    static const uint8_t zero[20];
    GByteArray *log = g_byte_array_new();

    fore_put_le32(log, 0);
    fore_put_le32(log, FORE_EV_NO_ACTION);
    put(log, zero, sizeof(zero));
    fore_put_le32(log, sha1_too ? 37 : 33);
    put(log, "Spec ID Event03", 16);
    fore_put_le32(log, 0); /* platform class: client */
    put(log, "\0\2\0\2", 4);
    fore_put_le32(log, sha1_too ? 2 : 1);
    if (sha1_too) {
        fore_put_le16(log, FORE_ALG_SHA1);
        fore_put_le16(log, 20);
    }
    fore_put_le16(log, FORE_ALG_SHA256);
    fore_put_le16(log, 32);
    fore_put_u8(log, 0);
    return log;
}

void fore_test_eventlog_add(GByteArray *log, uint32_t pcr, uint32_t type, const void *data,
                            size_t size, const uint8_t *digest)
{
    uint8_t sha1[20], sha256[32];

    digest_of(EVP_sha1(), data, size, sha1);
    digest_of(EVP_sha256(), data, size, sha256);
    fore_put_le32(log, pcr);
    fore_put_le32(log, type);
    fore_put_le32(log, has_sha1(log) ? 2 : 1);
    if (has_sha1(log)) {
        fore_put_le16(log, FORE_ALG_SHA1);
        put(log, sha1, sizeof(sha1));
    }
    fore_put_le16(log, FORE_ALG_SHA256);
    put(log, digest != NULL ? digest : sha256, 32);
    fore_put_le32(log, (uint32_t)size);
    put(log, data, size);
}

void fore_test_eventlog_text(GByteArray *log, uint32_t pcr, uint32_t type, const char *text)
{
    fore_test_eventlog_add(log, pcr, type, text, strlen(text), NULL);
}

void fore_test_eventlog_variable(GByteArray *log, uint32_t type, const char *name, const void *data,
                                 size_t size)
{
    static const uint8_t global[16] = {0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11,
                                       0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c};
    static const uint8_t security[16] = {0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45,
                                         0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f};
    g_autoptr(GByteArray) var = g_byte_array_new();

    put(var, g_str_has_prefix(name, "db") ? security : global, 16);
    fore_put_le64(var, strlen(name));
    fore_put_le64(var, size);
    for (const char *c = name; *c != '\0'; c++) {
        fore_put_le16(var, (uint8_t)*c);
    }
    put(var, data, size);
    fore_test_eventlog_add(log, 7, type, var->data, var->len, NULL);
}

void fore_test_eventlog_separator(GByteArray *log, uint32_t pcr)
{
    fore_test_eventlog_add(log, pcr, FORE_EV_SEPARATOR, "\0\0\0", 4, NULL);
}

void fore_test_eventlog_config(GByteArray *log, uint8_t on)
{
    static const char *const names[] = {"PK", "KEK", "db", "dbx"};

    fore_test_eventlog_variable(log, FORE_EV_EFI_VARIABLE_DRIVER_CONFIG, "SecureBoot", &on, 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        fore_test_eventlog_variable(log, FORE_EV_EFI_VARIABLE_DRIVER_CONFIG, names[i], "key", 3);
    }
}

GByteArray *fore_test_eventlog_boot(void)
{
    GByteArray *log = fore_test_eventlog_new(false);
    uint8_t image[32];

    fore_test_sha256("an image", image);
    fore_test_eventlog_text(log, 0, 0x08, "firmware 1");
    fore_test_eventlog_add(log, 0, 0x80000008, "0123456789abcdef", 16, image);
    fore_test_eventlog_config(log, 1);
    fore_test_eventlog_separator(log, 7);
    fore_test_eventlog_text(log, 1, 0x0a, "tables");
    fore_test_eventlog_text(log, 4, FORE_EV_EFI_ACTION, "Calling EFI Application from Boot Option");
    for (uint32_t pcr = 0; pcr < 7; pcr++) {
        fore_test_eventlog_separator(log, pcr);
    }
    fore_test_eventlog_variable(log, FORE_EV_EFI_VARIABLE_AUTHORITY, "db", "owner-of-16bytes cert",
                                21);
    fore_test_eventlog_add(log, 4, FORE_EV_EFI_BOOT_SERVICES_APPLICATION, "image", 5, image);
    fore_test_eventlog_text(log, 8, 0x0d, "kernel_cmdline: quiet");
    fore_test_eventlog_text(log, 9, 0x0d, "initrd");
    fore_test_eventlog_text(log, 5, FORE_EV_EFI_ACTION, "Exit Boot Services Invocation");
    fore_test_eventlog_text(log, 5, FORE_EV_EFI_ACTION, "Exit Boot Services Returned with Success");
    return log;
}

void fore_test_eventlog_proved(const GByteArray *log, uint8_t ret[24][32])
{
    g_autoptr(GBytes) bytes = fore_test_bytes(log);
    ForeEventlogReplay replay;

    g_assert_cmpint(fore_eventlog_replay(bytes, FORE_ALG_SHA256, false, false, &replay), ==,
                    FORE_EVENTLOG_OK);
    for (unsigned pcr = 0; pcr < 24; pcr++) {
        memcpy(ret[pcr], replay.pcrs[pcr], 32);
    }
}

/* --- IMA lists --- */

/* Template data: each field a little-endian length and its bytes. */
static GByteArray *template_data(const ForeTestIma *e)
{
    GByteArray *data = g_byte_array_new();

    fore_put_le32(data, (uint32_t)(strlen(e->alg) + 2 + e->digest_size));
    put(data, e->alg, strlen(e->alg));
    put(data, ":", 2);
    put(data, e->digest, e->digest_size);
    fore_put_le32(data, (uint32_t)strlen(e->path) + 1);
    put(data, e->path, strlen(e->path) + 1);
    if (strcmp(e->template, "ima-ng") != 0) {
        fore_put_le32(data, (uint32_t)e->extra_size);
        put(data, e->extra, e->extra_size);
    }
    return data;
}

static void template_hash(const ForeTestIma *e, const GByteArray *data, uint8_t ret[20])
{
    memset(ret, 0, 20);
    if (!e->violation) {
        digest_of(EVP_sha1(), data->data, data->len, ret);
    }
}

void fore_test_ima_binary(GByteArray *list, const ForeTestIma *e)
{
    g_autoptr(GByteArray) data = template_data(e);
    uint8_t hash[20];

    template_hash(e, data, hash);
    fore_put_le32(list, 10);
    put(list, hash, sizeof(hash));
    fore_put_le32(list, (uint32_t)strlen(e->template));
    put(list, e->template, strlen(e->template));
    fore_put_le32(list, data->len);
    put(list, data->data, data->len);
}

void fore_test_ima_text(GByteArray *list, const ForeTestIma *e)
{
    g_autoptr(GByteArray) data = template_data(e);
    g_autofree char *digest = fore_hex_encode(e->digest, e->digest_size);
    g_autofree char *extra = e->extra_size > 0 ? fore_hex_encode(e->extra, e->extra_size) : NULL;
    g_autofree char *shown = NULL, *line = NULL;
    uint8_t hash[20];
    bool ng = strcmp(e->template, "ima-ng") == 0;

    template_hash(e, data, hash);
    shown = fore_hex_encode(hash, sizeof(hash));
    line = g_strdup_printf("10 %s %s %s:%s %s%s%s\n", shown, e->template, e->alg, digest, e->path,
                           ng ? "" : " ", extra != NULL ? extra : "");
    put(list, line, strlen(line));
}

void fore_test_ima_file(GByteArray *list, const char *path, const char *content)
{
    uint8_t digest[32];
    ForeTestIma e = {
        .template = "ima-ng", .alg = "sha256", .digest = digest, .digest_size = 32, .path = path};

    fore_test_sha256(content, digest);
    fore_test_ima_binary(list, &e);
}

void fore_test_ima_start(GByteArray *list, const uint8_t (*pcrs)[32], bool text)
{
    uint8_t digest[32];
    ForeTestIma e = {.template = "ima-ng",
                     .alg = "sha256",
                     .digest = digest,
                     .digest_size = 32,
                     .path = "boot_aggregate"};

    digest_of(EVP_sha256(), pcrs, 320, digest);
    if (text) {
        fore_test_ima_text(list, &e);
    } else {
        fore_test_ima_binary(list, &e);
    }
}

void fore_test_ima_proved(const GByteArray *list, uint8_t pcrs[24][32])
{
    g_autoptr(GBytes) bytes = fore_test_bytes(list);
    ForeImaResult result;

    g_assert_cmpint(fore_ima_replay(bytes, FORE_ALG_SHA256, pcrs[10], &result), ==, FORE_IMA_OK);
}
