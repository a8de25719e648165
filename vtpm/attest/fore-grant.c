/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The token around the claims is fore-jws.c's: size bound, shape, header, signature, and only then
 * is the payload parsed.  What is left here are the claims.  One list of checks (bad_field) serves
 * both sides, so that what the PAM signs is what a SEA takes.
 */
#include "vtpm/attest/fore-grant.h"

#include <openssl/x509.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "common/fore-json.h"
#include "vtpm/attest/fore-jws.h"

#define ISSUER   "foresee-pam"
#define N_CLAIMS 11

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

static bool is_lower_hex(const char *text, size_t min, size_t max)
{
    size_t n = strlen(text);

    return n >= min && n <= max && n % 2 == 0 && strspn(text, "0123456789abcdef") == n;
}

EVP_PKEY *fore_grant_parse_key(const uint8_t *der, size_t size)
{
    const uint8_t *at = der;
    EVP_PKEY *key = size <= FORE_GRANT_MAX_KEY ? d2i_PUBKEY(NULL, &at, (long)size) : NULL;

    if (key != NULL && (at != der + size || !fore_jws_key_is_p256(key))) {
        g_clear_pointer(&key, EVP_PKEY_free);
    }
    return key;
}

static bool is_key(const uint8_t *der, size_t size)
{
    EVP_PKEY *key = fore_grant_parse_key(der, size);

    EVP_PKEY_free(key);
    return key != NULL;
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
    if (g->next_size > 0 && !is_key(g->next, g->next_size)) {
        return "next";
    }
    return NULL;
}

static bool amount_is_bad(const ForeGrant *g)
{
    return g->vcpus == 0 || g->vcpus > FORE_GRANT_MAX_VCPUS || g->mem_bytes == 0 ||
           g->mem_bytes > FORE_GRANT_MAX_MEM;
}

json_t *fore_grant_claims(const ForeGrant *g, GError **error)
{
    const char *bad = amount_is_bad(g) ? "vcpus or mem_bytes" : bad_field(g);
    g_autoptr(json_t) nodes = json_array();
    g_autofree char *next = g->next_size > 0 ? fore_b64_encode(g->next, g->next_size) : NULL;

    if (bad != NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "grant '%s' for VM '%s': field %s is out of range; nothing was signed", g->id,
                    g->vm_uuid, bad);
        return NULL;
    }
    for (unsigned i = 0; i < g->n_nodes; i++) {
        json_array_append_new(nodes, json_string(g->nodes[i]));
    }
    return json_pack("{s:s s:s s:s s:s s:I s:I s:I s:I s:I s:s s:O s:s*}", "iss", ISSUER, "jti",
                     g->id, "sub", g->vm_uuid, "ak", g->ak_name, "vcpus", (json_int_t)g->vcpus,
                     "mem", (json_int_t)g->mem_bytes, "seq", (json_int_t)g->seq, "iat",
                     (json_int_t)g->issued_s, "exp", (json_int_t)g->expires_s, "evd", g->evidence,
                     "nodes", nodes, "next", next);
}

char *fore_grant_sign(const ForeGrant *g, EVP_PKEY *key, GError **error)
{
    g_autoptr(json_t) claims = fore_grant_claims(g, error);

    return claims != NULL ? fore_jws_sign(FORE_GRANT_TYPE, claims, key, error) : NULL;
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

        if (name == NULL || g_strlcpy(ret->nodes[i], name, FORE_NAME_MAX + 1) > FORE_NAME_MAX) {
            return false;
        }
        ret->n_nodes++;
    }
    return true;
}

static bool read_amounts(const json_t *claims, ForeGrant *ret)
{
    int64_t vcpus = 0, mem = 0, seq = 0;

    if (!fore_json_get_int(claims, "vcpus", G_MININT64, G_MAXINT64, &vcpus, NULL) ||
        !fore_json_get_int(claims, "mem", G_MININT64, G_MAXINT64, &mem, NULL) ||
        !fore_json_get_int(claims, "seq", 1, G_MAXINT64, &seq, NULL)) {
        return false;
    }
    /* Out of range becomes 0, which amount_is_bad() refuses with its own reason. */
    ret->vcpus = vcpus > 0 && vcpus <= FORE_GRANT_MAX_VCPUS ? (unsigned)vcpus : 0;
    ret->mem_bytes = mem > 0 ? (uint64_t)mem : 0;
    ret->seq = (uint64_t)seq;
    return true;
}

/* @ret_known: claims that are known: one more with the next key */
static bool read_next(const json_t *claims, ForeGrant *ret, size_t *ret_known)
{
    g_autoptr(GBytes) next = NULL;

    *ret_known = N_CLAIMS;
    if (json_object_get(claims, "next") == NULL) {
        return true;
    }
    if (!fore_json_get_bytes(claims, "next", FORE_GRANT_MAX_KEY, &next, NULL) ||
        g_bytes_get_size(next) == 0) {
        return false;
    }
    *ret_known = N_CLAIMS + 1;
    ret->next_size = g_bytes_get_size(next);
    memcpy(ret->next, g_bytes_get_data(next, NULL), ret->next_size);
    return true;
}

static bool read_claims(const json_t *claims, ForeGrant *ret)
{
    const char *issuer = NULL;
    size_t known = 0;

    return read_next(claims, ret, &known) && json_object_size(claims) == known &&
           fore_json_get_string(claims, "iss", &issuer, NULL) && strcmp(issuer, ISSUER) == 0 &&
           copy_claim(claims, "sub", ret->vm_uuid, sizeof(ret->vm_uuid)) &&
           copy_claim(claims, "ak", ret->ak_name, sizeof(ret->ak_name)) &&
           copy_claim(claims, "evd", ret->evidence, sizeof(ret->evidence)) &&
           copy_claim(claims, "jti", ret->id, sizeof(ret->id)) && read_amounts(claims, ret) &&
           fore_json_get_int(claims, "iat", 0, G_MAXINT64, &ret->issued_s, NULL) &&
           fore_json_get_int(claims, "exp", 0, G_MAXINT64, &ret->expires_s, NULL) &&
           read_nodes(claims, ret) && bad_field(ret) == NULL;
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
    if (g->issued_s - FORE_GRANT_SKEW_S > expect->now_s) { /* issued_s is not negative */
        return FORE_GRANT_NOT_YET;
    }
    if (g->seq <= expect->last_seq) {
        return FORE_GRANT_SEQUENCE;
    }
    return amount_is_bad(g) ? FORE_GRANT_AMOUNT : FORE_GRANT_OK;
}

static ForeGrantReason from_jws(ForeJwsReason reason)
{
    switch (reason) {
    case FORE_JWS_OK:
        return FORE_GRANT_OK;
    case FORE_JWS_ALGORITHM:
        return FORE_GRANT_ALGORITHM;
    case FORE_JWS_SIGNATURE:
        return FORE_GRANT_SIGNATURE;
    default:
        return FORE_GRANT_MALFORMED;
    }
}

ForeGrantReason fore_grant_verify(const char *jws, const ForeGrantExpect *expect, ForeGrant *ret)
{
    g_autoptr(json_t) claims = NULL;
    ForeGrant grant = {0};
    ForeGrantReason reason;

    reason =
        from_jws(fore_jws_verify(jws, FORE_GRANT_MAX, FORE_GRANT_TYPE, expect->pam_key, &claims));
    if (reason != FORE_GRANT_OK) {
        return reason;
    }
    if (!read_claims(claims, &grant)) {
        return FORE_GRANT_MALFORMED;
    }
    reason = judge(&grant, expect);
    if (reason == FORE_GRANT_OK) {
        *ret = grant;
    }
    return reason;
}
