/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works: a compact JWS is three base64url parts.  The size bound comes first, then the
 * shape, then the header (exactly alg ES256 and our typ, so there is no algorithm to choose), then
 * the signature over the bytes as they came.  Only then is the payload parsed.  The signature is
 * made and checked through EVP alone, so that the PAM's key may be one that cannot leave its HSM
 * (docs/decisions/0010-grant-signature.md).
 */
#include "vtpm/attest/fore-grant.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "common/fore-json.h"

#define TYP    "foresee-grant+jwt"
#define ISSUER "foresee-pam"
#define COORD  32 /* bytes of a P-256 integer: RFC 7518 section 3.4 */

static const ForeJsonLimits limits = {
    .max_bytes = FORE_GRANT_MAX,
    .max_depth = 2,
    .max_items = 64,
    .max_string = 256,
};

static const char *const names[] = {
    [FORE_GRANT_OK] = "ok",
    [FORE_GRANT_MALFORMED] = "malformed-grant",
    [FORE_GRANT_ALGORITHM] = "bad-algorithm",
    [FORE_GRANT_SIGNATURE] = "bad-signature",
    [FORE_GRANT_VM] = "other-vm",
    [FORE_GRANT_AK] = "other-ak",
    [FORE_GRANT_EXPIRED] = "expired",
    [FORE_GRANT_NOT_YET] = "not-yet-valid",
    [FORE_GRANT_SEQUENCE] = "old-sequence",
    [FORE_GRANT_AMOUNT] = "bad-amount",
};
G_STATIC_ASSERT(G_N_ELEMENTS(names) == FORE_GRANT_N);

const char *fore_grant_reason_name(ForeGrantReason reason)
{
    g_assert(reason < FORE_GRANT_N);
    return names[reason];
}

/* RFC 4648 section 5, no padding, on top of the strict section 4 codec. */
static char *b64url_encode(const void *data, size_t size)
{
    char *text = fore_b64_encode(data, size);

    g_strdelimit(text, "+", '-');
    g_strdelimit(text, "/", '_');
    text[strcspn(text, "=")] = '\0';
    return text;
}

static GBytes *b64url_decode(const char *text, size_t size, size_t max)
{
    g_autoptr(GString) std = g_string_sized_new(size + 4);

    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (!g_ascii_isalnum(c) && c != '-' && c != '_') {
            return NULL;
        }
        g_string_append_c(std, c == '-' ? '+' : c == '_' ? '/' : c);
    }
    while (std->len % 4 != 0) {
        g_string_append_c(std, '=');
    }
    return fore_b64_decode(std->str, max);
}

static bool is_lower_hex(const char *text, size_t min, size_t max)
{
    size_t n = strlen(text);

    return n >= min && n <= max && n % 2 == 0 && strspn(text, "0123456789abcdef") == n;
}

static bool is_p256(EVP_PKEY *key)
{
    char group[32] = "";

    return key != NULL && EVP_PKEY_is_a(key, "EC") &&
           EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) == 1 &&
           (strcmp(group, "prime256v1") == 0 || strcmp(group, "P-256") == 0);
}

/* NULL when every field is one that a SEA would accept, else the field's name. */
static const char *bad_field(const ForeGrant *g)
{
    if (!fore_uuid_is_valid(g->vm_uuid)) {
        return "vm_uuid";
    }
    if (!is_lower_hex(g->ak_name, 2 * 34, 2 * 66)) {
        return "ak_name";
    }
    if (!is_lower_hex(g->evidence, 64, 64)) {
        return "evidence";
    }
    if (!fore_uuid_is_valid(g->id)) {
        return "id";
    }
    if (g->seq == 0 || g->seq > G_MAXINT64) {
        return "seq";
    }
    if (g->issued_s < 0 || g->expires_s <= g->issued_s ||
        g->expires_s - g->issued_s > FORE_GRANT_MAX_LIFETIME_S) {
        return "expires_s";
    }
    if (g->n_nodes > FORE_GRANT_MAX_NODES) {
        return "n_nodes";
    }
    for (unsigned i = 0; i < g->n_nodes; i++) {
        if (!fore_name_is_valid(g->nodes[i])) {
            return "nodes";
        }
    }
    return NULL;
}

static bool amount_is_bad(const ForeGrant *g)
{
    return g->vcpus == 0 || g->vcpus > FORE_GRANT_MAX_VCPUS || g->mem_bytes == 0 ||
           g->mem_bytes > FORE_GRANT_MAX_MEM;
}

/* DER ECDSA signature to r || s. */
static bool sign_raw(EVP_PKEY *key, const char *text, size_t size, uint8_t ret[2 * COORD])
{
    g_autofree uint8_t *der = g_malloc(256);
    size_t der_size = 256;
    const uint8_t *at = der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx != NULL && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
              EVP_DigestSign(ctx, der, &der_size, (const uint8_t *)text, size) == 1;
    ECDSA_SIG *sig = ok ? d2i_ECDSA_SIG(NULL, &at, (long)der_size) : NULL;

    ok = sig != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(sig), ret, COORD) == COORD &&
         BN_bn2binpad(ECDSA_SIG_get0_s(sig), ret + COORD, COORD) == COORD;
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(ctx);
    return ok;
}

/* EVP_DigestVerify refuses r or s of 0 and of the group's order or more. */
static bool verify_raw(EVP_PKEY *key, const char *text, size_t size, const uint8_t raw[2 * COORD])
{
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(raw, COORD, NULL);
    BIGNUM *s = BN_bin2bn(raw + COORD, COORD, NULL);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t *der = NULL;
    int der_size = -1;
    bool ok = false;

    if (sig != NULL && r != NULL && s != NULL && ECDSA_SIG_set0(sig, r, s) == 1) {
        r = s = NULL; /* now the signature's */
        der_size = i2d_ECDSA_SIG(sig, &der);
    }
    ok = ctx != NULL && der_size > 0 &&
         EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
         EVP_DigestVerify(ctx, der, (size_t)der_size, (const uint8_t *)text, size) == 1;
    OPENSSL_free(der);
    EVP_MD_CTX_free(ctx);
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(sig);
    return ok;
}

static char *claims_text(const ForeGrant *g)
{
    g_autoptr(json_t) nodes = json_array();
    g_autoptr(json_t) claims = NULL;

    for (unsigned i = 0; i < g->n_nodes; i++) {
        json_array_append_new(nodes, json_string(g->nodes[i]));
    }
    claims = json_pack("{s:s s:s s:s s:s s:I s:I s:I s:I s:I s:s s:O}", "iss", ISSUER, "jti", g->id,
                       "sub", g->vm_uuid, "ak", g->ak_name, "vcpus", (json_int_t)g->vcpus, "mem",
                       (json_int_t)g->mem_bytes, "seq", (json_int_t)g->seq, "iat",
                       (json_int_t)g->issued_s, "exp", (json_int_t)g->expires_s, "evd", g->evidence,
                       "nodes", nodes);
    return claims != NULL ? fore_json_dump_line(claims) : NULL;
}

char *fore_grant_sign(const ForeGrant *grant, EVP_PKEY *key, GError **error)
{
    static const char header[] = "{\"alg\":\"ES256\",\"typ\":\"" TYP "\"}";
    const char *bad = amount_is_bad(grant) ? "vcpus or mem_bytes" : bad_field(grant);
    g_autofree char *head = NULL, *claims = NULL, *body = NULL, *input = NULL, *sig = NULL;
    uint8_t raw[2 * COORD];

    if (bad != NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "grant %s for VM %s: field %s is out of range; nothing was signed", grant->id,
                    grant->vm_uuid, bad);
        return NULL;
    }
    if (!is_p256(key)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "grant %s: the signing key is not a P-256 key; ES256 needs one", grant->id);
        return NULL;
    }
    claims = claims_text(grant);
    if (claims == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "grant %s: claims are not valid UTF-8",
                    grant->id);
        return NULL;
    }
    head = b64url_encode(header, strlen(header));
    body = b64url_encode(claims, strlen(claims));
    input = g_strconcat(head, ".", body, NULL);
    if (!sign_raw(key, input, strlen(input), raw)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_FAILED,
                    "grant %s: the signing key gave no signature; is the HSM or TPM still there?",
                    grant->id);
        return NULL;
    }
    sig = b64url_encode(raw, sizeof(raw));
    return g_strconcat(input, ".", sig, NULL);
}

typedef struct {
    const char *head, *body, *sig; /* not terminated */
    size_t head_size, body_size, sig_size;
} Parts;

static bool split(const char *jws, Parts *ret)
{
    size_t size = jws != NULL ? strnlen(jws, FORE_GRANT_MAX + 1) : 0;
    const char *dot1 = size > 0 && size <= FORE_GRANT_MAX ? memchr(jws, '.', size) : NULL;
    const char *dot2 = dot1 != NULL ? memchr(dot1 + 1, '.', size - (size_t)(dot1 + 1 - jws)) : NULL;

    if (dot2 == NULL) {
        return false;
    }
    *ret = (Parts){
        .head = jws,
        .head_size = (size_t)(dot1 - jws),
        .body = dot1 + 1,
        .body_size = (size_t)(dot2 - dot1 - 1),
        .sig = dot2 + 1,
        .sig_size = size - (size_t)(dot2 + 1 - jws),
    };
    return ret->head_size > 0 && ret->body_size > 0 && memchr(ret->sig, '.', ret->sig_size) == NULL;
}

static json_t *parse_part(const char *text, size_t size)
{
    g_autoptr(GBytes) plain = b64url_decode(text, size, FORE_GRANT_MAX);
    gsize n = 0;
    const char *json = plain != NULL ? g_bytes_get_data(plain, &n) : NULL;

    return json != NULL ? fore_json_parse(json, n, &limits, NULL) : NULL;
}

static ForeGrantReason check_header(const Parts *parts)
{
    g_autoptr(json_t) header = parse_part(parts->head, parts->head_size);
    const char *alg = NULL, *typ = NULL;

    if (header == NULL || !fore_json_get_string(header, "alg", &alg, NULL)) {
        return FORE_GRANT_MALFORMED;
    }
    if (strcmp(alg, "ES256") != 0) {
        return FORE_GRANT_ALGORITHM;
    }
    /* Only these two: crit, kid, jwk, x5u, b64... have no meaning here, and so no say. */
    if (!fore_json_get_string(header, "typ", &typ, NULL) || strcmp(typ, TYP) != 0 ||
        json_object_size(header) != 2) {
        return FORE_GRANT_MALFORMED;
    }
    return FORE_GRANT_OK;
}

static bool copy_claim(const json_t *claims, const char *key, char *ret, size_t size)
{
    const char *text = NULL;

    return fore_json_get_string(claims, key, &text, NULL) && g_strlcpy(ret, text, size) < size;
}

static bool read_nodes(const json_t *claims, ForeGrant *ret)
{
    json_t *nodes = NULL;

    if (!fore_json_get_array(claims, "nodes", FORE_GRANT_MAX_NODES, &nodes, NULL)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const char *name = json_string_value(json_array_get(nodes, i));
        if (name == NULL ||
            g_strlcpy(ret->nodes[i], name, sizeof(ret->nodes[i])) >= sizeof(ret->nodes[i])) {
            return false;
        }
        ret->n_nodes++;
    }
    return true;
}

static bool read_claims(const json_t *claims, ForeGrant *ret)
{
    int64_t vcpus = 0, mem = 0, seq = 0;
    const char *issuer = NULL;

    if (json_object_size(claims) != 11 || !fore_json_get_string(claims, "iss", &issuer, NULL) ||
        strcmp(issuer, ISSUER) != 0 ||
        !copy_claim(claims, "sub", ret->vm_uuid, sizeof(ret->vm_uuid)) ||
        !copy_claim(claims, "ak", ret->ak_name, sizeof(ret->ak_name)) ||
        !copy_claim(claims, "evd", ret->evidence, sizeof(ret->evidence)) ||
        !copy_claim(claims, "jti", ret->id, sizeof(ret->id)) ||
        !fore_json_get_int(claims, "vcpus", G_MININT64, G_MAXINT64, &vcpus, NULL) ||
        !fore_json_get_int(claims, "mem", G_MININT64, G_MAXINT64, &mem, NULL) ||
        !fore_json_get_int(claims, "seq", 1, G_MAXINT64, &seq, NULL) ||
        !fore_json_get_int(claims, "iat", 0, G_MAXINT64, &ret->issued_s, NULL) ||
        !fore_json_get_int(claims, "exp", 0, G_MAXINT64, &ret->expires_s, NULL) ||
        !read_nodes(claims, ret)) {
        return false;
    }
    /* Out of range becomes 0, which amount_is_bad() refuses. */
    ret->vcpus = vcpus > 0 && vcpus <= FORE_GRANT_MAX_VCPUS ? (unsigned)vcpus : 0;
    ret->mem_bytes = mem > 0 ? (uint64_t)mem : 0;
    ret->seq = (uint64_t)seq;
    return bad_field(ret) == NULL;
}

static ForeGrantReason judge(const ForeGrant *g, const ForeGrantExpect *expect)
{
    if (strcmp(g->vm_uuid, expect->vm_uuid) != 0) {
        return FORE_GRANT_VM;
    }
    if (strcmp(g->ak_name, expect->ak_name) != 0) {
        return FORE_GRANT_AK;
    }
    if (expect->now_s >= g->expires_s && expect->now_s - g->expires_s >= FORE_GRANT_SKEW_S) {
        return FORE_GRANT_EXPIRED;
    }
    if (g->issued_s > expect->now_s && g->issued_s - expect->now_s > FORE_GRANT_SKEW_S) {
        return FORE_GRANT_NOT_YET;
    }
    if (g->seq <= expect->last_seq) {
        return FORE_GRANT_SEQUENCE;
    }
    return amount_is_bad(g) ? FORE_GRANT_AMOUNT : FORE_GRANT_OK;
}

ForeGrantReason fore_grant_verify(const char *jws, const ForeGrantExpect *expect, ForeGrant *ret)
{
    Parts parts = {0};
    ForeGrant grant = {0};
    ForeGrantReason reason;
    g_autoptr(GBytes) sig = NULL;
    g_autoptr(json_t) claims = NULL;
    size_t signed_size;

    if (!split(jws, &parts)) {
        return FORE_GRANT_MALFORMED;
    }
    reason = check_header(&parts);
    if (reason != FORE_GRANT_OK) {
        return reason;
    }
    sig = b64url_decode(parts.sig, parts.sig_size, 2 * COORD);
    signed_size = parts.head_size + 1 + parts.body_size;
    if (sig == NULL || g_bytes_get_size(sig) != 2 * COORD || !is_p256(expect->pam_key) ||
        !verify_raw(expect->pam_key, jws, signed_size, g_bytes_get_data(sig, NULL))) {
        return FORE_GRANT_SIGNATURE;
    }
    claims = parse_part(parts.body, parts.body_size);
    if (claims == NULL || !read_claims(claims, &grant)) {
        return FORE_GRANT_MALFORMED;
    }
    reason = judge(&grant, expect);
    if (reason == FORE_GRANT_OK) {
        *ret = grant;
    }
    return reason;
}
