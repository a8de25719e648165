/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Offsets are those of table 23 in AMD 56860, rev. 1.58 (versions 2 to 4 have fewer fields, and
 * what is not a field there must be zero).  Order: form, kind of key, certificate and chain,
 * signature; then only what was signed is held against the policy.  The TCB that counts is
 * REPORTED_TCB, because the signing key is derived from it; COMMITTED and LAUNCH must not be lower
 * than the minimum either, CURRENT proves nothing.
 */
#include "vtpm/attest/fore-snp.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-json.h"
#include "vtpm/attest/fore-public.h"
#include "vtpm/attest/fore-snp-internal.h"

#define SIGNED_SIZE   0x2a0
#define SIG_PART      72 /* bytes of r and of s, little-endian */
#define ALGO_P384     1
#define POLICY_MUST   (G_GUINT64_CONSTANT(1) << 17)
#define POLICY_KNOWN  ((G_GUINT64_CONSTANT(1) << 26) - 1)
#define POLICY_SMT    (1u << 16)
#define POLICY_MIGR   (1u << 18)
#define POLICY_DEBUG  (1u << 19)
#define POLICY_SOCKET (1u << 20)
#define PLATFORM_SMT  1u
#define PLATFORM_BITS G_GUINT64_CONSTANT(0xbf) /* SMT TSME ECC RAPL CTXT ALIAS, TIO */
#define HCL_HEADER    32
#define HCL_DATA      (HCL_HEADER + FORE_SNP_REPORT_SIZE)

G_DEFINE_AUTOPTR_CLEANUP_FUNC(BIGNUM, BN_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ECDSA_SIG, ECDSA_SIG_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_MD_CTX, EVP_MD_CTX_free)

static const char *const names[] = {
    [FORE_SNP_OK] = "ok",
    [FORE_SNP_MISSING] = "snp-missing",
    [FORE_SNP_MALFORMED] = "snp-malformed",
    [FORE_SNP_VERSION] = "snp-version",
    [FORE_SNP_SIGNATURE_ALGO] = "snp-signature-algorithm",
    [FORE_SNP_SIGNING_KEY] = "snp-signing-key",
    [FORE_SNP_CERT_MALFORMED] = "snp-cert-malformed",
    [FORE_SNP_CERT_PROFILE] = "snp-cert-profile",
    [FORE_SNP_CHAIN] = "snp-chain",
    [FORE_SNP_EXPIRED] = "snp-cert-expired",
    [FORE_SNP_NOT_YET] = "snp-cert-not-yet-valid",
    [FORE_SNP_REVOKED] = "snp-cert-revoked",
    [FORE_SNP_NO_CRL] = "snp-no-crl",
    [FORE_SNP_SIGNATURE] = "snp-bad-signature",
    [FORE_SNP_CHIP] = "snp-chip",
    [FORE_SNP_CERT_TCB] = "snp-cert-tcb",
    [FORE_SNP_TCB] = "snp-tcb-old",
    [FORE_SNP_POLICY_DEBUG] = "snp-debug-allowed",
    [FORE_SNP_POLICY_MIGRATION] = "snp-migration-allowed",
    [FORE_SNP_POLICY_SMT] = "snp-smt",
    [FORE_SNP_POLICY_ABI] = "snp-policy-abi",
    [FORE_SNP_POLICY_RESERVED] = "snp-policy-reserved",
    [FORE_SNP_PLATFORM] = "snp-platform",
    [FORE_SNP_PROVISIONAL] = "snp-provisional-firmware",
    [FORE_SNP_VMPL] = "snp-vmpl",
    [FORE_SNP_REPORT_DATA] = "snp-report-data",
    [FORE_SNP_MEASUREMENT] = "snp-measurement",
    [FORE_SNP_RUNTIME_DATA] = "snp-runtime-data",
    [FORE_SNP_AK] = "snp-ak-mismatch",
    [FORE_SNP_BAD_POLICY] = "snp-bad-policy",
};
G_STATIC_ASSERT(G_N_ELEMENTS(names) == FORE_SNP_N);

const char *fore_snp_reason_name(ForeSnpReason reason)
{
    g_assert(reason < FORE_SNP_N);
    return names[reason];
}

/* --- layout --- */

static bool zero(const uint8_t *data, size_t size)
{
    uint8_t any = 0;

    for (size_t i = 0; data != NULL && i < size; i++) {
        any |= data[i];
    }
    return data != NULL && any == 0;
}

/* TCB_VERSION, table 3 (Milan, Genoa) and table 4 (Turin): reserved bytes must be zero. */
static bool read_tcb(ForeCursor *cur, ForeSnpProduct product, ForeSnpTcb *ret)
{
    const uint8_t *b = fore_cursor_take(cur, 8);

    if (b == NULL) {
        return false;
    }
    if (product == FORE_SNP_TURIN) {
        *ret = (ForeSnpTcb){b[0], b[1], b[2], b[3], b[7]};
        return zero(b + 4, 3);
    }
    *ret = (ForeSnpTcb){0, b[0], b[1], b[6], b[7]};
    return zero(b + 2, 4);
}

/* CPUID family and model, PPR of each; families as CPUID Fn1 gives them combined. */
static bool product_of(uint8_t family, uint8_t model, ForeSnpProduct *ret)
{
    if (family == 0x19 && model <= 0x0f) {
        *ret = FORE_SNP_MILAN;
    } else if (family == 0x19 && ((model >= 0x10 && model <= 0x1f) || model >> 4 == 0xa)) {
        *ret = FORE_SNP_GENOA; /* with Bergamo and Siena */
    } else if (family == 0x1a && model <= 0x1f) {
        *ret = FORE_SNP_TURIN;
    } else {
        return false;
    }
    return true;
}

/* 0x000 to 0x04f.  CURRENT_TCB is read later, when the product is known. */
static ForeSnpReason read_head(ForeCursor *cur, ForeSnpReport *r, ForeCursor *ret_current)
{
    uint32_t flags, reserved;

    r->version = fore_cursor_le32(cur);
    r->guest_svn = fore_cursor_le32(cur);
    r->policy = fore_cursor_le64(cur);
    r->family_id = fore_cursor_take(cur, 16);
    r->image_id = fore_cursor_take(cur, 16);
    r->vmpl = fore_cursor_le32(cur);
    r->signature_algo = fore_cursor_le32(cur);
    *ret_current = *cur;
    (void)fore_cursor_take(cur, 8);
    r->platform_info = fore_cursor_le64(cur);
    flags = fore_cursor_le32(cur);
    reserved = fore_cursor_le32(cur);
    if (r->version < 2 || r->version > 5) {
        return FORE_SNP_VERSION;
    }
    if (r->signature_algo != ALGO_P384) {
        return FORE_SNP_SIGNATURE_ALGO;
    }
    r->author_key = (flags & 1u) != 0;
    r->mask_chip = (flags & 2u) != 0;
    r->signing_key = (ForeSnpKey)(flags >> 2 & 7u);
    return flags >> 5 == 0 && reserved == 0 ? FORE_SNP_OK : FORE_SNP_MALFORMED;
}

/* 0x188 to 0x19f */
static ForeSnpReason read_product(ForeCursor *cur, ForeSnpReport *r)
{
    uint8_t family = fore_cursor_u8(cur);
    uint8_t model = fore_cursor_u8(cur);
    uint8_t stepping = fore_cursor_u8(cur);

    if (!zero(fore_cursor_take(cur, 21), 21)) {
        return FORE_SNP_MALFORMED;
    }
    if (r->version == 2) {
        r->product = FORE_SNP_PRODUCT_N;
        return family == 0 && model == 0 && stepping == 0 ? FORE_SNP_OK : FORE_SNP_MALFORMED;
    }
    return product_of(family, model, &r->product) ? FORE_SNP_OK : FORE_SNP_VERSION;
}

static bool read_version(ForeCursor *cur, uint8_t ret[3])
{
    ret[2] = fore_cursor_u8(cur); /* build */
    ret[1] = fore_cursor_u8(cur); /* minor */
    ret[0] = fore_cursor_u8(cur); /* major */
    return fore_cursor_u8(cur) == 0;
}

/* 0x1a0 to the end */
static ForeSnpReason read_tail(ForeCursor *cur, ForeSnpReport *r)
{
    bool good;

    r->chip_id = fore_cursor_take(cur, 64);
    good = read_tcb(cur, r->product, &r->committed);
    good = read_version(cur, r->current_version) && good;
    good = read_version(cur, r->committed_version) && good;
    good = read_tcb(cur, r->product, &r->launch) && good;
    r->launch_mitigations = fore_cursor_le64(cur);
    r->current_mitigations = fore_cursor_le64(cur);
    if (r->version < 5 && (r->launch_mitigations != 0 || r->current_mitigations != 0)) {
        good = false;
    }
    good = zero(fore_cursor_take(cur, 152), 152) && good;
    (void)fore_cursor_take(cur, 2 * SIG_PART);
    good = zero(fore_cursor_take(cur, 368), 368) && good;
    return good && fore_cursor_finished(cur) ? FORE_SNP_OK : FORE_SNP_MALFORMED;
}

ForeSnpReason fore_snp_report_init(ForeSnpReport *ret, GBytes *bytes)
{
    ForeSnpReport r = {0};
    ForeCursor cur, current, reported;
    ForeSnpReason reason;
    gsize size = 0;
    const uint8_t *data = bytes != NULL ? g_bytes_get_data(bytes, &size) : NULL;

    if (size != FORE_SNP_REPORT_SIZE) {
        return FORE_SNP_MALFORMED;
    }
    fore_cursor_init(&cur, data, size);
    reason = read_head(&cur, &r, &current);
    if (reason != FORE_SNP_OK) {
        return reason;
    }
    r.report_data = fore_cursor_take(&cur, 64);
    r.measurement = fore_cursor_take(&cur, 48);
    r.host_data = fore_cursor_take(&cur, 32);
    r.id_key_digest = fore_cursor_take(&cur, 48);
    r.author_key_digest = fore_cursor_take(&cur, 48);
    r.report_id = fore_cursor_take(&cur, 32);
    r.report_id_ma = fore_cursor_take(&cur, 32);
    reported = cur;
    (void)fore_cursor_take(&cur, 8);
    reason = read_product(&cur, &r);
    if (reason == FORE_SNP_OK && (!read_tcb(&current, r.product, &r.current) ||
                                  !read_tcb(&reported, r.product, &r.reported))) {
        reason = FORE_SNP_MALFORMED;
    }
    if (reason == FORE_SNP_OK) {
        reason = read_tail(&cur, &r);
    }
    if (reason == FORE_SNP_OK) {
        *ret = r;
    }
    return reason;
}

/* --- signature --- */

static bool signed_by(GBytes *report, EVP_PKEY *key)
{
    const uint8_t *data = g_bytes_get_data(report, NULL);
    g_autoptr(EVP_MD_CTX) ctx = EVP_MD_CTX_new();
    g_autoptr(ECDSA_SIG) sig = ECDSA_SIG_new();
    BIGNUM *r = BN_lebin2bn(data + SIGNED_SIZE, SIG_PART, NULL);
    BIGNUM *s = BN_lebin2bn(data + SIGNED_SIZE + SIG_PART, SIG_PART, NULL);
    uint8_t *der = NULL;
    int size;
    bool good;

    if (ctx == NULL || sig == NULL || r == NULL || s == NULL || ECDSA_SIG_set0(sig, r, s) != 1) {
        BN_free(r);
        BN_free(s);
        return false;
    }
    size = i2d_ECDSA_SIG(sig, &der);
    good = size > 0 && EVP_DigestVerifyInit(ctx, NULL, EVP_sha384(), NULL, key) == 1 &&
           EVP_DigestVerify(ctx, der, (size_t)size, data, SIGNED_SIZE) == 1;
    OPENSSL_free(der);
    ERR_clear_error();
    return good;
}

/* --- policy --- */

static bool tcb_equal(const ForeSnpTcb *a, const ForeSnpTcb *b)
{
    return a->fmc == b->fmc && a->boot_loader == b->boot_loader && a->tee == b->tee &&
           a->snp == b->snp && a->microcode == b->microcode;
}

static bool tcb_at_least(const ForeSnpTcb *a, const ForeSnpTcb *min)
{
    return a->fmc >= min->fmc && a->boot_loader >= min->boot_loader && a->tee >= min->tee &&
           a->snp >= min->snp && a->microcode >= min->microcode;
}

static ForeSnpReason judge_chip(const ForeSnpReport *r, const ForeSnpCert *cert,
                                const ForeSnpPolicy *policy)
{
    if (r->product != FORE_SNP_PRODUCT_N ? r->product != cert->product
                                         : cert->product == FORE_SNP_TURIN) {
        return FORE_SNP_VERSION; /* the certificate is for another product */
    }
    if (cert->kind == FORE_SNP_VCEK &&
        (r->mask_chip || zero(r->chip_id, 64) || memcmp(r->chip_id, cert->hwid, 64) != 0)) {
        return FORE_SNP_CHIP;
    }
    if (policy->chip_id != NULL && memcmp(r->chip_id, policy->chip_id, 64) != 0) {
        return FORE_SNP_CHIP;
    }
    return tcb_equal(&r->reported, &cert->tcb) ? FORE_SNP_OK : FORE_SNP_CERT_TCB;
}

/* Firmware that can still be rolled back: another version than the committed one is running.
 * Microcode may run ahead of it. */
static bool provisional(const ForeSnpReport *r)
{
    ForeSnpTcb current = r->current;

    if (!tcb_at_least(&r->current, &r->committed)) {
        return true;
    }
    current.microcode = r->committed.microcode;
    return memcmp(r->current_version, r->committed_version, 3) != 0 ||
           !tcb_equal(&current, &r->committed);
}

static ForeSnpReason judge_guest_policy(const ForeSnpReport *r, const ForeSnpPolicy *policy)
{
    uint8_t minor = (uint8_t)r->policy, major = (uint8_t)(r->policy >> 8);

    if ((r->policy & POLICY_MUST) == 0 || (r->policy & ~POLICY_KNOWN) != 0) {
        return FORE_SNP_POLICY_RESERVED;
    }
    if ((r->policy & POLICY_DEBUG) != 0 && !policy->allow_debug) {
        return FORE_SNP_POLICY_DEBUG;
    }
    if ((r->policy & POLICY_MIGR) != 0 && !policy->allow_migration) {
        return FORE_SNP_POLICY_MIGRATION;
    }
    if (((r->policy & POLICY_SMT) != 0 || (r->platform_info & PLATFORM_SMT) != 0) &&
        !policy->allow_smt) {
        return FORE_SNP_POLICY_SMT;
    }
    if (major < policy->min_abi_major ||
        (major == policy->min_abi_major && minor < policy->min_abi_minor)) {
        return FORE_SNP_POLICY_ABI;
    }
    if ((r->platform_info & ~PLATFORM_BITS) != 0 ||
        (policy->require_single_socket && (r->policy & POLICY_SOCKET) == 0)) {
        return FORE_SNP_PLATFORM;
    }
    return FORE_SNP_OK;
}

static ForeSnpReason judge_launch(const ForeSnpReport *r, const ForeSnpPolicy *policy)
{
    bool listed = false;

    for (size_t i = 0; i < policy->n_measurements && !listed; i++) {
        listed = memcmp(policy->measurements[i], r->measurement, 48) == 0;
    }
    if (!listed || r->guest_svn < policy->min_guest_svn ||
        (policy->host_data != NULL && memcmp(policy->host_data, r->host_data, 32) != 0)) {
        return FORE_SNP_MEASUREMENT;
    }
    if (r->vmpl != policy->vmpl) {
        return FORE_SNP_VMPL;
    }
    if (provisional(r) && !policy->allow_provisional) {
        return FORE_SNP_PROVISIONAL;
    }
    return tcb_at_least(&r->reported, &policy->minimum) &&
                   tcb_at_least(&r->committed, &policy->minimum) &&
                   tcb_at_least(&r->launch, &policy->minimum)
               ? FORE_SNP_OK
               : FORE_SNP_TCB;
}

/* --- binding --- */

/* The base64url of a big number in a JWK (RFC 7518, 6.3.1), without leading zeros. */
static BIGNUM *jwk_number(const json_t *jwk, const char *name)
{
    g_autofree char *text = NULL;
    g_autoptr(GBytes) bytes = NULL;
    const char *value;
    size_t n;

    if (!fore_json_get_string(jwk, name, &value, NULL) || strlen(value) > 1024) {
        return NULL;
    }
    n = strlen(value);
    if (strpbrk(value, "+/=") != NULL) {
        return NULL;
    }
    text = g_strdup_printf("%s%s", value, n % 4 == 2 ? "==" : n % 4 == 3 ? "=" : "");
    g_strdelimit(text, "-", '+');
    g_strdelimit(text, "_", '/');
    bytes = fore_b64_decode(text, 768);
    return bytes != NULL && g_bytes_get_size(bytes) > 0
               ? BN_bin2bn(g_bytes_get_data(bytes, NULL), (int)g_bytes_get_size(bytes), NULL)
               : NULL;
}

static bool jwk_is(const json_t *jwk, const ForePublic *ak)
{
    g_autoptr(BIGNUM) n = jwk_number(jwk, "n"), e = jwk_number(jwk, "e");
    g_autoptr(BIGNUM) ak_n = NULL, ak_e = NULL;
    const char *kty;

    return fore_json_get_string(jwk, "kty", &kty, NULL) && strcmp(kty, "RSA") == 0 &&
           ak->type == FORE_ALG_RSA && n != NULL && e != NULL &&
           EVP_PKEY_get_bn_param(ak->key, OSSL_PKEY_PARAM_RSA_N, &ak_n) == 1 &&
           EVP_PKEY_get_bn_param(ak->key, OSSL_PKEY_PARAM_RSA_E, &ak_e) == 1 &&
           BN_cmp(n, ak_n) == 0 && BN_cmp(e, ak_e) == 0;
}

/* Exactly one key is called HCLAkPub, and it is the enrolled AK. */
static ForeSnpReason judge_runtime_ak(GBytes *var_data, GBytes *ak_public)
{
    g_autoptr(json_t) json = NULL;
    g_auto(ForePublic) ak = {0};
    json_t *keys, *key, *found = NULL;
    const char *kid;
    size_t i;

    json = fore_json_parse(g_bytes_get_data(var_data, NULL), g_bytes_get_size(var_data),
                           &fore_json_limits_guest, NULL);
    if (json == NULL || !fore_json_get_array(json, "keys", 16, &keys, NULL)) {
        return FORE_SNP_RUNTIME_DATA;
    }
    json_array_foreach (keys, i, key) {
        if (json_is_object(key) && fore_json_get_string(key, "kid", &kid, NULL) &&
            strcmp(kid, "HCLAkPub") == 0) {
            if (found != NULL) {
                return FORE_SNP_RUNTIME_DATA;
            }
            found = key;
        }
    }
    if (found == NULL || ak_public == NULL || fore_public_init(&ak, ak_public) != FORE_PUBLIC_OK) {
        return FORE_SNP_AK;
    }
    return jwk_is(found, &ak) ? FORE_SNP_OK : FORE_SNP_AK;
}

static ForeSnpReason judge_binding(const ForeSnpEvidence *evidence, const ForeSnpReport *r,
                                   const ForeSnpExpect *expect)
{
    uint8_t digest[32];

    if (evidence->var_data == NULL) {
        return expect->report_data != NULL &&
                       CRYPTO_memcmp(expect->report_data, r->report_data, 64) == 0
                   ? FORE_SNP_OK
                   : FORE_SNP_REPORT_DATA;
    }
    if (g_bytes_get_size(evidence->var_data) > FORE_SNP_VAR_DATA_MAX ||
        EVP_Digest(g_bytes_get_data(evidence->var_data, NULL), g_bytes_get_size(evidence->var_data),
                   digest, NULL, EVP_sha256(), NULL) != 1) {
        return FORE_SNP_RUNTIME_DATA;
    }
    if (memcmp(digest, r->report_data, 32) != 0 || !zero(r->report_data + 32, 32)) {
        return FORE_SNP_REPORT_DATA;
    }
    return judge_runtime_ak(evidence->var_data, expect->ak_public);
}

/* --- all of it --- */

static ForeSnpReason judge_signed(const ForeSnpEvidence *evidence, const ForeSnpPolicy *policy,
                                  const ForeSnpExpect *expect, const ForeSnpReport *r,
                                  const ForeSnpCert *cert)
{
    ForeSnpReason reason = judge_chip(r, cert, policy);

    if (reason == FORE_SNP_OK) {
        reason = judge_binding(evidence, r, expect);
    }
    if (reason == FORE_SNP_OK) {
        reason = judge_guest_policy(r, policy);
    }
    return reason == FORE_SNP_OK ? judge_launch(r, policy) : reason;
}

ForeSnpReason fore_snp_judge(const ForeSnpEvidence *evidence, const ForeSnpPolicy *policy,
                             const ForeSnpExpect *expect, ForeSnpReport *ret)
{
    g_auto(ForeSnpCert) cert = {0};
    ForeSnpReport r;
    ForeSnpReason reason;

    if (policy->roots == NULL || policy->n_measurements == 0 || policy->vmpl > 3) {
        return FORE_SNP_BAD_POLICY;
    }
    if (evidence == NULL || evidence->report == NULL) {
        return FORE_SNP_MISSING;
    }
    reason = fore_snp_report_init(&r, evidence->report);
    if (reason != FORE_SNP_OK) {
        return reason;
    }
    if (r.signing_key != policy->signing_key || r.signing_key == FORE_SNP_UNSIGNED) {
        return FORE_SNP_SIGNING_KEY;
    }
    reason = fore_snp_cert_judge(evidence, policy, &cert);
    if (reason != FORE_SNP_OK) {
        return reason;
    }
    if (!signed_by(evidence->report, cert.key)) {
        return FORE_SNP_SIGNATURE;
    }
    reason = judge_signed(evidence, policy, expect, &r, &cert);
    if (reason == FORE_SNP_OK && ret != NULL) {
        *ret = r;
    }
    return reason;
}

/* --- paravisor blob: header, report, then size, version, type, hash, variable data --- */

ForeSnpReason fore_snp_split_hcl(GBytes *hcl, GBytes **ret_report, GBytes **ret_var_data)
{
    gsize size = 0;
    const uint8_t *data = hcl != NULL ? g_bytes_get_data(hcl, &size) : NULL;
    uint32_t total, type, hash, var_size;
    ForeCursor cur;

    fore_cursor_init(&cur, data, size);
    data = fore_cursor_take(&cur, 4);
    if (data == NULL || memcmp(data, "HCLA", 4) != 0) {
        return FORE_SNP_RUNTIME_DATA;
    }
    (void)fore_cursor_take(&cur, HCL_DATA - 4);
    total = fore_cursor_le32(&cur);
    (void)fore_cursor_le32(&cur); /* version */
    type = fore_cursor_le32(&cur);
    hash = fore_cursor_le32(&cur);
    var_size = fore_cursor_le32(&cur);
    /* type 2: SNP; hash 1: SHA-256.  The blob lies in a TPM index of fixed size: zeros follow. */
    if (!fore_cursor_ok(&cur) || type != 2 || hash != 1 || var_size == 0 ||
        var_size > FORE_SNP_VAR_DATA_MAX || var_size > cur.left ||
        (total != var_size && total != var_size + 20) ||
        (cur.left > var_size && !zero(cur.at + var_size, cur.left - var_size))) {
        return FORE_SNP_RUNTIME_DATA;
    }
    *ret_report = g_bytes_new_from_bytes(hcl, HCL_HEADER, FORE_SNP_REPORT_SIZE);
    *ret_var_data = g_bytes_new_from_bytes(hcl, HCL_DATA + 20, var_size);
    return FORE_SNP_OK;
}
