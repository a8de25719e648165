/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vtpm/pam/fore-pam-judge.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <string.h>

#include "common/fore-error.h"
#include "common/fore-flow.h"
#include "vtpm/attest/fore-ak.h"
#include "vtpm/attest/fore-credential.h"
#include "vtpm/attest/fore-ekcert.h"

struct ForePamAnchors {
    ForeAnchors *of[FORE_SUBJECT_N]; /* node: hardware-ca, VM: vtpm-ca; NULL: not configured */
    bool require_crl;
};

static const char *const bundle_keys[] = {"hardware-ca", "vtpm-ca"};
G_STATIC_ASSERT(G_N_ELEMENTS(bundle_keys) == FORE_SUBJECT_N);

static bool load_bundle(const char *path, ForeAnchors **ret, GError **error)
{
    g_autofree char *pem = NULL;
    g_autoptr(GError) why = NULL;
    gsize size;

    if (path == NULL) {
        return true;
    }
    if (!g_file_get_contents(path, &pem, &size, &why)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "%s", why->message);
        return false;
    }
    *ret = fore_anchors_new(pem, size, error);
    if (*ret == NULL) {
        g_prefix_error(error, "%s: ", path);
    }
    return *ret != NULL;
}

ForePamAnchors *fore_pam_anchors_load(const ForePamConfig *config, GError **error)
{
    ForePamAnchors *anchors = g_new0(ForePamAnchors, 1);

    anchors->require_crl = config->require_crl;
    if (!load_bundle(config->hardware_ca, &anchors->of[FORE_SUBJECT_NODE], error) ||
        !load_bundle(config->vtpm_ca, &anchors->of[FORE_SUBJECT_VM], error)) {
        fore_pam_anchors_free(anchors);
        return NULL;
    }
    return anchors;
}

void fore_pam_anchors_free(ForePamAnchors *anchors)
{
    if (anchors == NULL) {
        return;
    }
    for (unsigned i = 0; i < FORE_SUBJECT_N; i++) {
        fore_anchors_free(anchors->of[i]);
    }
    g_free(anchors);
}

static bool judge_certificate(const ForePamAnchors *anchors, ForeSubject subject,
                              const ForePamKeysClaim *claim, int64_t now_s, GError **error)
{
    ForeEkcertPolicy policy = {
        .anchors = anchors->of[subject],
        .now_s = now_s,
        .allow_missing_crl = !anchors->require_crl,
    };
    ForeEkcertReason reason;

    if (policy.anchors == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "no %s is configured, so no TPM of that kind can be enrolled",
                    bundle_keys[subject]);
        return false;
    }
    reason = fore_ekcert_verify(claim->ek_certificate, claim->ek_public, &policy);
    if (reason == FORE_EKCERT_OK) {
        return true;
    }
    g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED, "EK certificate refused: %s%s%s",
                fore_ekcert_reason_name(reason),
                reason == FORE_EKCERT_UNKNOWN_CA ? "; its maker must stand in " : "",
                reason == FORE_EKCERT_UNKNOWN_CA ? bundle_keys[subject]
                : reason == FORE_EKCERT_NO_CRL
                    ? "; add the issuer's list to the bundle or set require-crl = false"
                    : "");
    return false;
}

/* libvirt names a vTPM "NAME:UUID", swtpm_setup by hand whatever --vmid said: only a UUID binds. */
static bool judge_vm_name(const ForePamKeysClaim *claim, GError **error)
{
    g_autofree char *name =
        claim->vm_uuid != NULL ? fore_ekcert_common_name(claim->ek_certificate) : NULL;
    size_t n = name != NULL ? strlen(name) : 0;
    const char *tail = n >= FORE_UUID_LEN ? name + n - FORE_UUID_LEN : NULL;

    if (tail == NULL || !fore_uuid_is_valid(tail) || strcmp(tail, claim->vm_uuid) == 0) {
        return true;
    }
    g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                "the vTPM's certificate is for VM %s, not for %s", tail, claim->vm_uuid);
    return false;
}

bool fore_pam_judge_keys(const ForePamAnchors *anchors, ForeSubject subject,
                         const ForePamKeysClaim *claim, int64_t now_s, GBytes **ret_ak_name,
                         GError **error)
{
    ForeAkReason reason;

    if (!judge_certificate(anchors, subject, claim, now_s, error) || !judge_vm_name(claim, error)) {
        return false;
    }
    reason = fore_ak_check(claim->ak_public, claim->ak_name);
    if (reason != FORE_AK_OK) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED, "attestation key refused: %s",
                    fore_ak_reason_name(reason));
        return false;
    }
    *ret_ak_name = fore_ak_name(claim->ak_public);
    g_assert(*ret_ak_name != NULL);
    return true;
}

bool fore_pam_credential_init(ForePamCredential *ret, GBytes *ek_public, GBytes *ak_name,
                              GError **error)
{
    g_autoptr(GBytes) secret = NULL;

    memset(ret, 0, sizeof(*ret));
    if (RAND_priv_bytes(ret->secret, sizeof(ret->secret)) != 1) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "the random generator gives nothing");
        return false;
    }
    secret = g_bytes_new(ret->secret, sizeof(ret->secret));
    return fore_credential_make(ek_public, ak_name, secret, &ret->blob, &ret->encrypted, error);
}

void fore_pam_credential_done(ForePamCredential *credential)
{
    OPENSSL_cleanse(credential->secret, sizeof(credential->secret));
    g_clear_pointer(&credential->blob, g_bytes_unref);
    g_clear_pointer(&credential->encrypted, g_bytes_unref);
}

bool fore_pam_credential_matches(const ForePamCredential *credential, GBytes *secret)
{
    return credential->blob != NULL && g_bytes_get_size(secret) == sizeof(credential->secret) &&
           CRYPTO_memcmp(g_bytes_get_data(secret, NULL), credential->secret,
                         sizeof(credential->secret)) == 0;
}
