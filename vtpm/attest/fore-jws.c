/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * OpenSSL makes and checks ECDSA signatures in DER; RFC 7518 section 3.4 wants r || s, each 32
 * bytes, big-endian.  The signature is checked before the payload is parsed, so an outsider's
 * payload never reaches the JSON parser; the header must be parsed first and is held to a few
 * hundred bytes.
 */
#include "vtpm/attest/fore-jws.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/x509.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"

#define HEADER_MAX 512
#define RAW_SIZE   FORE_JWS_RAW

G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_MD_CTX, EVP_MD_CTX_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ECDSA_SIG, ECDSA_SIG_free)

static const char *const reason_names[] = {"ok", "malformed", "bad-algorithm", "bad-type",
                                           "bad-signature"};
G_STATIC_ASSERT(G_N_ELEMENTS(reason_names) == FORE_JWS_N);

const char *fore_jws_reason_name(ForeJwsReason reason)
{
    return reason < FORE_JWS_N ? reason_names[reason] : "unknown";
}

static char *b64url_encode(const void *data, size_t size)
{
    char *text = fore_b64_encode(data, size);
    size_t n = strcspn(text, "=");

    text[n] = '\0';
    g_strdelimit(text, "+", '-');
    g_strdelimit(text, "/", '_');
    return text;
}

/* One text for one value: '+', '/', '=' and left-over bits are refused. */
static GBytes *b64url_decode(const char *text, size_t n, size_t max)
{
    g_autofree char *plain = NULL;

    if (n > (max + 2) / 3 * 4 || n % 4 == 1 || memchr(text, '+', n) != NULL ||
        memchr(text, '/', n) != NULL || memchr(text, '=', n) != NULL) {
        return NULL;
    }
    plain = g_malloc(n + 4);
    memcpy(plain, text, n);
    memcpy(plain + n, "===", 4);
    plain[(n + 3) / 4 * 4] = '\0';
    g_strdelimit(plain, "-", '+');
    g_strdelimit(plain, "_", '/');
    return fore_b64_decode(plain, max);
}

static bool der_to_raw(const uint8_t *der, size_t size, uint8_t raw[RAW_SIZE])
{
    g_autoptr(ECDSA_SIG) sig = d2i_ECDSA_SIG(NULL, &der, (long)size);

    return sig != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, 32) == 32 &&
           BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + 32, 32) == 32;
}

static int raw_to_der(const uint8_t raw[RAW_SIZE], uint8_t **ret_der)
{
    g_autoptr(ECDSA_SIG) sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(raw, 32, NULL);
    BIGNUM *s = BN_bin2bn(raw + 32, 32, NULL);

    g_assert(sig != NULL && r != NULL && s != NULL && ECDSA_SIG_set0(sig, r, s) == 1);
    return i2d_ECDSA_SIG(sig, ret_der);
}

/* A provider's key has no base id, and each names the curve in its own way. */
bool fore_jws_key_is_p256(EVP_PKEY *key)
{
    char group[32] = "";

    return key != NULL && EVP_PKEY_is_a(key, "EC") &&
           EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) == 1 &&
           (strcmp(group, "prime256v1") == 0 || strcmp(group, "P-256") == 0);
}

GBytes *fore_jws_key_der(EVP_PKEY *key)
{
    uint8_t *der = NULL;
    int size = i2d_PUBKEY(key, &der);
    GBytes *bytes = g_bytes_new(der, size > 0 ? (gsize)size : 0);

    OPENSSL_free(der);
    return bytes;
}

void fore_jws_key_id(EVP_PKEY *key, char ret[FORE_JWS_KEY_ID + 1])
{
    uint8_t *der = NULL;
    int size = i2d_PUBKEY(key, &der);
    g_autofree char *hex =
        g_compute_checksum_for_data(G_CHECKSUM_SHA256, der, size > 0 ? (gsize)size : 0);

    OPENSSL_free(der);
    g_strlcpy(ret, hex, FORE_JWS_KEY_ID + 1);
}

bool fore_jws_sign_evp(const void *bytes, size_t size, uint8_t ret_raw[FORE_JWS_RAW], gpointer data,
                       GError **error)
{
    EVP_PKEY *key = data;
    g_autoptr(EVP_MD_CTX) ctx = EVP_MD_CTX_new();
    uint8_t der[128];
    size_t n = sizeof(der);

    if (!fore_jws_key_is_p256(key) || EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) != 1 ||
        EVP_DigestSign(ctx, der, &n, bytes, size) != 1 || !der_to_raw(der, n, ret_raw)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_FAILED,
                    "the key is no P-256 private key or refuses");
        return false;
    }
    return true;
}

char *fore_jws_sign_with(const char *typ, const json_t *payload, ForeJwsSigner signer,
                         gpointer data, GError **error)
{
    g_autofree char *header = g_strdup_printf("{\"alg\":\"ES256\",\"typ\":\"%s\"}", typ);
    g_autofree char *header64 = b64url_encode(header, strlen(header));
    char *text = json_dumps(payload, JSON_COMPACT | JSON_SORT_KEYS);
    g_autofree char *payload64 = text != NULL ? b64url_encode(text, strlen(text)) : NULL;
    g_autofree char *signed_part = g_strconcat(header64, ".", payload64, NULL);
    g_autofree char *signature64 = NULL;
    uint8_t raw[FORE_JWS_RAW];

    free(text);
    if (payload64 == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_FAILED, "cannot write a '%s' token", typ);
        return NULL;
    }
    if (!signer(signed_part, strlen(signed_part), raw, data, error)) {
        g_prefix_error(error, "cannot sign a '%s' token: ", typ);
        return NULL;
    }
    signature64 = b64url_encode(raw, sizeof(raw));
    return g_strconcat(signed_part, ".", signature64, NULL);
}

char *fore_jws_sign(const char *typ, const json_t *payload, EVP_PKEY *key, GError **error)
{
    return fore_jws_sign_with(typ, payload, fore_jws_sign_evp, key, error);
}

static bool signature_holds(const char *text, size_t size, GBytes *raw, EVP_PKEY *key)
{
    g_autoptr(EVP_MD_CTX) ctx = EVP_MD_CTX_new();
    uint8_t *der = NULL;
    int der_size;
    bool good;

    if (g_bytes_get_size(raw) != RAW_SIZE || !fore_jws_key_is_p256(key)) {
        return false;
    }
    der_size = raw_to_der(g_bytes_get_data(raw, NULL), &der);
    good = der_size > 0 && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
           EVP_DigestVerify(ctx, der, (size_t)der_size, (const uint8_t *)text, size) == 1;
    OPENSSL_free(der);
    return good;
}

static ForeJwsReason judge_header(const char *text, size_t size, const char *typ)
{
    static const ForeJsonLimits limits = {HEADER_MAX, 2, 8, HEADER_MAX};
    g_autoptr(GBytes) bytes = b64url_decode(text, size, HEADER_MAX);
    g_autoptr(json_t) header = NULL;
    const char *alg, *type;

    if (bytes == NULL) {
        return FORE_JWS_MALFORMED;
    }
    header = fore_json_parse(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), &limits, NULL);
    if (header == NULL) {
        return FORE_JWS_MALFORMED;
    }
    if (!fore_json_get_string(header, "alg", &alg, NULL) || strcmp(alg, "ES256") != 0 ||
        json_object_get(header, "crit") != NULL) {
        return FORE_JWS_ALGORITHM;
    }
    if (!fore_json_get_string(header, "typ", &type, NULL) || strcmp(type, typ) != 0) {
        return FORE_JWS_TYPE;
    }
    return FORE_JWS_OK;
}

ForeJwsReason fore_jws_verify(const char *jws, size_t max, const char *typ, EVP_PKEY *key,
                              json_t **ret)
{
    size_t size = jws != NULL ? strnlen(jws, max + 1) : 0;
    const char *dot1 = size > 0 && size <= max ? memchr(jws, '.', size) : NULL;
    const char *dot2 = dot1 != NULL ? strchr(dot1 + 1, '.') : NULL;
    g_autoptr(GBytes) payload = NULL;
    g_autoptr(GBytes) signature = NULL;
    ForeJsonLimits limits = fore_json_limits_peer;
    ForeJwsReason reason;
    json_t *value;

    if (dot2 == NULL) {
        return FORE_JWS_MALFORMED;
    }
    reason = judge_header(jws, (size_t)(dot1 - jws), typ);
    if (reason != FORE_JWS_OK) {
        return reason;
    }
    payload = b64url_decode(dot1 + 1, (size_t)(dot2 - dot1 - 1), max);
    signature = b64url_decode(dot2 + 1, size - (size_t)(dot2 + 1 - jws), RAW_SIZE);
    if (payload == NULL || signature == NULL) {
        return FORE_JWS_MALFORMED;
    }
    if (!signature_holds(jws, (size_t)(dot2 - jws), signature, key)) {
        return FORE_JWS_SIGNATURE;
    }
    value =
        fore_json_parse(g_bytes_get_data(payload, NULL), g_bytes_get_size(payload), &limits, NULL);
    if (value == NULL) {
        return FORE_JWS_MALFORMED;
    }
    *ret = value;
    return FORE_JWS_OK;
}
