/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reference values: text and signed form, and what they accept. */
#include <string.h>

#include "common/fore-error.h"
#include "common/fore-identity.h"
#include "vtpm/attest/fore-jws.h"
#include "vtpm/attest/fore-reference.h"

#define VM  "6b9f0c1e-2d3a-4b5c-8d7e-9f0a1b2c3d4e"
#define HEX "65caf8dd1e0ea7a6347b635d2b379c93b9a1351edc2afc3ecda700e614eb3068"
#define ALT "0000000000000000000000000000000000000000000000000000000000000001"

static const char text[] = "foresee-reference 1\n"
                           "version 7\n"
                           "node hv1 pcr sha256:0 " HEX "\n"
                           "node hv1 pcr sha256:7 " ALT "\n"
                           "node hv1 pcr sha256:7 " HEX "\n"
                           "vm " VM " pcr sha256:0 " HEX "\n";

static ForeReference *parse(const char *from)
{
    g_autoptr(GError) error = NULL;
    ForeReference *ref = fore_reference_parse(from, strlen(from), &error);

    g_assert_no_error(error);
    g_assert_nonnull(ref);
    return ref;
}

static void refuse(const char *from, int code)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(fore_reference_parse(from, strlen(from), &error));
    g_assert_error(error, FORE_ERROR, code);
}

static void test_round_trip(void)
{
    g_autoptr(ForeReference) ref = parse(text);
    g_autofree char *again = fore_reference_format(ref);
    g_autoptr(ForeReference) shuffled =
        parse("# a comment\n\nforesee-reference 1\nversion\t7\r\nvm " VM "  pcr sha256:0 " HEX
              "\nnode hv1 pcr sha256:7 " HEX "\nnode hv1 pcr sha256:7 " ALT
              "\nnode hv1 pcr sha256:0 " HEX);
    g_autofree char *sorted = fore_reference_format(shuffled);

    g_assert_cmpstr(again, ==, text);
    g_assert_cmpstr(sorted, ==, text);
    g_assert_cmpuint(fore_reference_version(ref), ==, 7);
    g_assert_cmpuint(fore_reference_size(ref), ==, 4);
    g_assert_cmphex(fore_reference_mask(ref, FORE_SUBJECT_NODE, "hv1"), ==, 0x81);
    g_assert_cmphex(fore_reference_mask(ref, FORE_SUBJECT_VM, VM), ==, 0x1);
    g_assert_cmphex(fore_reference_mask(ref, FORE_SUBJECT_VM, "hv1"), ==, 0);
    g_assert_cmphex(fore_reference_mask(NULL, FORE_SUBJECT_NODE, "hv1"), ==, 0);
}

static void test_bad_text(void)
{
    static const char head[] = "foresee-reference 1\nversion 1\n";
    static const char *const bad[] = {
        "node hv1 pcr sha1:7 " HEX,
        "node hv1 pcr sha256:16 " HEX,
        "node hv1 pcr sha256:07 " HEX,
        "node hv1 pcr sha256:-1 " HEX,
        "node hv1 pcr sha256:7 " HEX "00",
        "node hv1 pcr sha256:7 abcd",
        "node hv1 pcr sha256:7",
        "node hv1 pcr sha256:7 " HEX " x",
        "node .hv pcr sha256:7 " HEX,
        "vm hv1 pcr sha256:7 " HEX,
        "host hv1 pcr sha256:7 " HEX,
        "node hv1 nv sha256:7 " HEX,
        "node h\xc3\xbc pcr sha256:7 " HEX,
        "version 2",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *all = g_strconcat(head, bad[i], "\n", NULL);
        refuse(all, FORE_ERROR_INVALID);
    }
    refuse("", FORE_ERROR_INVALID);
    refuse("foresee-reference 1\n", FORE_ERROR_INVALID);
    refuse("foresee-reference 2\nversion 1\n", FORE_ERROR_INVALID);
    refuse("version 1\nforesee-reference 1\n", FORE_ERROR_INVALID);
    refuse("foresee-reference 1\nversion 99999999999999999999\n", FORE_ERROR_INVALID);
}

static void test_bad_line_is_named(void)
{
    g_autoptr(GError) error = NULL;
    static const char bad[] = "foresee-reference 1\n\nversion 1\nnode hv1 pcr sha256:7 zz\n";

    g_assert_null(fore_reference_parse(bad, strlen(bad), &error));
    g_assert_nonnull(strstr(error->message, "line 4"));
}

static void test_twice(void)
{
    refuse("foresee-reference 1\nversion 1\nnode a pcr sha256:1 " HEX "\nnode a pcr sha256:1 " HEX,
           FORE_ERROR_EXISTS);
}

static void test_nul(void)
{
    static const char with_nul[] = "foresee-reference 1\nversion 1\nnode a\0pcr sha256:1 " HEX "\n";
    g_autoptr(GError) error = NULL;

    g_assert_null(fore_reference_parse(with_nul, sizeof(with_nul) - 1, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
}

static void test_too_many(void)
{
    g_autoptr(ForeReference) ref = fore_reference_new(1);
    g_autoptr(GError) error = NULL;
    uint8_t digest[32] = {0};

    for (unsigned i = 0; i < FORE_REFERENCE_MAX_ENTRIES; i++) {
        memcpy(digest, &i, sizeof(i));
        g_assert_true(fore_reference_add(ref, FORE_SUBJECT_NODE, "hv1", 3, digest, NULL));
    }
    memset(digest, 0xff, sizeof(digest));
    g_assert_false(fore_reference_add(ref, FORE_SUBJECT_NODE, "hv1", 3, digest, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_LIMIT);
}

static void test_sign(void)
{
    g_autoptr(ForeReference) ref = parse(text);
    g_autoptr(ForeIdentity) key = fore_identity_new("policy", NULL);
    g_autofree char *jws = fore_reference_sign(ref, fore_identity_key(key), NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeReference) again = fore_reference_verify(jws, fore_identity_key(key), &error);
    g_autofree char *formatted = NULL;

    g_assert_no_error(error);
    formatted = fore_reference_format(again);
    g_assert_cmpstr(formatted, ==, text);
}

static void refuse_jws(const char *jws, EVP_PKEY *key, int code)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(fore_reference_verify(jws, key, &error));
    g_assert_error(error, FORE_ERROR, code);
}

static void test_other_key(void)
{
    g_autoptr(ForeReference) ref = parse(text);
    g_autoptr(ForeIdentity) key = fore_identity_new("policy", NULL);
    g_autoptr(ForeIdentity) other = fore_identity_new("other", NULL);
    g_autofree char *jws = fore_reference_sign(ref, fore_identity_key(key), NULL);

    refuse_jws(jws, fore_identity_key(other), FORE_ERROR_UNTRUSTED);
}

/* Every character of a signed document counts. */
static void test_any_change(void)
{
    g_autoptr(ForeReference) ref = parse(text);
    g_autoptr(ForeIdentity) key = fore_identity_new("policy", NULL);
    g_autofree char *jws = fore_reference_sign(ref, fore_identity_key(key), NULL);
    size_t n = strlen(jws);

    for (size_t i = 0; i < n; i += 3) {
        char was = jws[i];
        jws[i] = was == 'A' ? 'B' : 'A';
        refuse_jws(jws, fore_identity_key(key), FORE_ERROR_UNTRUSTED);
        jws[i] = '\0';
        refuse_jws(jws, fore_identity_key(key), FORE_ERROR_UNTRUSTED);
        jws[i] = was;
    }
}

/* A token that the same key signed for another purpose is no reference document. */
static void test_other_purpose(void)
{
    g_autoptr(ForeIdentity) key = fore_identity_new("policy", NULL);
    g_autoptr(json_t) payload =
        json_pack("{s:i, s:i, s:{}, s:{}}", "foresee-reference", 1, "version", 9, "nodes", "vms");
    g_autofree char *grant =
        fore_jws_sign("foresee-grant+jwt", payload, fore_identity_key(key), NULL);
    g_autofree char *right =
        fore_jws_sign("foresee-reference+jws", payload, fore_identity_key(key), NULL);
    g_autoptr(ForeReference) ref = fore_reference_verify(right, fore_identity_key(key), NULL);

    g_assert_nonnull(ref);
    refuse_jws(grant, fore_identity_key(key), FORE_ERROR_UNTRUSTED);
}

static char *with_header(const char *header, const char *jws)
{
    g_autofree char *encoded = g_base64_encode((const guchar *)header, strlen(header));

    encoded[strcspn(encoded, "=")] = '\0';
    return g_strconcat(encoded, strchr(jws, '.'), NULL);
}

static void test_header(void)
{
    static const char *const headers[] = {
        "{\"alg\":\"none\",\"typ\":\"foresee-reference+jws\"}",
        "{\"alg\":\"HS256\",\"typ\":\"foresee-reference+jws\"}",
        "{\"alg\":\"ES256\",\"crit\":[\"exp\"],\"typ\":\"foresee-reference+jws\"}",
        "{\"alg\":\"ES256\"}",
        "[]",
    };
    g_autoptr(ForeReference) ref = parse(text);
    g_autoptr(ForeIdentity) key = fore_identity_new("policy", NULL);
    g_autofree char *jws = fore_reference_sign(ref, fore_identity_key(key), NULL);

    for (unsigned i = 0; i < G_N_ELEMENTS(headers); i++) {
        g_autofree char *forged = with_header(headers[i], jws);
        g_autofree char *unsigned_one =
            g_strndup(forged, (gsize)(strrchr(forged, '.') + 1 - forged));

        refuse_jws(forged, fore_identity_key(key), FORE_ERROR_UNTRUSTED);
        refuse_jws(unsigned_one, fore_identity_key(key), FORE_ERROR_UNTRUSTED);
    }
}

static void test_bad_payload(void)
{
    static const char *const bad[] = {
        "{}",
        "{\"foresee-reference\":1,\"version\":-1,\"nodes\":{},\"vms\":{}}",
        "{\"foresee-reference\":1,\"version\":1,\"nodes\":{}}",
        "{\"foresee-reference\":2,\"version\":1,\"nodes\":{},\"vms\":{}}",
        "{\"foresee-reference\":1,\"version\":1,\"nodes\":{\"a\":{}},\"vms\":{}}",
        "{\"foresee-reference\":1,\"version\":1,\"nodes\":{\"a\":{\"1\":[]}},\"vms\":{}}",
        "{\"foresee-reference\":1,\"version\":1,\"nodes\":{\"a\":{\"1\":[7]}},\"vms\":{}}",
        "{\"foresee-reference\":1,\"version\":1,\"nodes\":{\"a\":{\"x\":[\"" HEX
        "\"]}},\"vms\":{}}",
        "{\"foresee-reference\":1,\"version\":1,\"nodes\":{\"a\":{\"23\":[\"" HEX
        "\"]}},\"vms\":{}}",
    };
    g_autoptr(ForeIdentity) key = fore_identity_new("policy", NULL);

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(json_t) payload = json_loads(bad[i], 0, NULL);
        g_autofree char *jws =
            fore_jws_sign("foresee-reference+jws", payload, fore_identity_key(key), NULL);

        refuse_jws(jws, fore_identity_key(key), FORE_ERROR_INVALID);
    }
}

static void set(uint8_t pcrs[24][32], unsigned pcr, const char *hex)
{
    for (unsigned i = 0; i < 32; i++) {
        pcrs[pcr][i] =
            (uint8_t)(g_ascii_xdigit_value(hex[2 * i]) << 4 | g_ascii_xdigit_value(hex[2 * i + 1]));
    }
}

static void test_match(void)
{
    g_autoptr(ForeReference) ref = parse(text);
    g_autoptr(ForeReference) empty = fore_reference_new(1);
    uint8_t pcrs[24][32] = {{0}};
    const uint8_t(*values)[32] = (const uint8_t(*)[32])pcrs;
    unsigned pcr = 99;

    set(pcrs, 0, HEX);
    set(pcrs, 7, ALT);
    g_assert_cmpint(fore_reference_match(ref, FORE_SUBJECT_NODE, "hv1", 0x81, values, &pcr), ==,
                    FORE_REFERENCE_OK);
    g_assert_cmpuint(pcr, ==, 99);
    set(pcrs, 7, HEX); /* the alternative */
    g_assert_cmpint(fore_reference_match(ref, FORE_SUBJECT_NODE, "hv1", 0x81, values, NULL), ==,
                    FORE_REFERENCE_OK);
    pcrs[7][31] ^= 1;
    g_assert_cmpint(fore_reference_match(ref, FORE_SUBJECT_NODE, "hv1", 0x81, values, &pcr), ==,
                    FORE_REFERENCE_MISMATCH);
    g_assert_cmpuint(pcr, ==, 7);
    pcrs[7][31] ^= 1;
    /* PCR 1 was quoted and nobody said what it may be */
    g_assert_cmpint(fore_reference_match(ref, FORE_SUBJECT_NODE, "hv1", 0x83, values, &pcr), ==,
                    FORE_REFERENCE_NONE);
    g_assert_cmpuint(pcr, ==, 1);
    g_assert_cmpint(fore_reference_match(ref, FORE_SUBJECT_NODE, "hv2", 0x81, values, NULL), ==,
                    FORE_REFERENCE_NONE);
    g_assert_cmpint(fore_reference_match(ref, FORE_SUBJECT_VM, VM, 0x1, values, NULL), ==,
                    FORE_REFERENCE_OK);
    g_assert_cmpint(fore_reference_match(ref, FORE_SUBJECT_VM, VM, 0, values, NULL), ==,
                    FORE_REFERENCE_NONE);
    g_assert_cmpint(fore_reference_match(empty, FORE_SUBJECT_VM, VM, 1, values, NULL), ==,
                    FORE_REFERENCE_NONE);
    g_assert_cmpint(fore_reference_match(NULL, FORE_SUBJECT_VM, VM, 1, values, NULL), ==,
                    FORE_REFERENCE_NONE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/attest/reference/text-survives-a-round-trip-in-one-order", test_round_trip);
    g_test_add_func("/attest/reference/malformed-text-is-refused", test_bad_text);
    g_test_add_func("/attest/reference/refusal-names-the-line", test_bad_line_is_named);
    g_test_add_func("/attest/reference/one-value-twice-is-refused", test_twice);
    g_test_add_func("/attest/reference/binary-text-is-refused", test_nul);
    g_test_add_func("/attest/reference/number-of-values-is-bounded", test_too_many);
    g_test_add_func("/attest/reference/signed-form-carries-the-same-values", test_sign);
    g_test_add_func("/attest/attack/98-manifest-of-another-key-is-refused", test_other_key);
    g_test_add_func("/attest/reference/any-changed-character-is-refused", test_any_change);
    g_test_add_func("/attest/attack/98-token-of-another-purpose-is-refused", test_other_purpose);
    g_test_add_func("/attest/attack/101-header-chooses-no-algorithm", test_header);
    g_test_add_func("/attest/reference/signed-nonsense-is-refused", test_bad_payload);
    g_test_add_func("/attest/reference/only-listed-values-match", test_match);
    return g_test_run();
}
