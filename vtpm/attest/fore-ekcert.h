/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Judges an endorsement key certificate: does a TPM maker vouch for this EK?  TCG EK Credential
 * Profile 2.3 on top of RFC 5280.  Anchors for host TPMs and for vTPMs are two ForeAnchors that the
 * caller keeps apart: whoever can make vTPM certificates must not be able to vouch for a host.
 * Pure: the time is an argument.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_EKCERT_MAX 8192 /* bytes of a certificate that are looked at */

typedef struct ForeAnchors ForeAnchors;
/**
 * fore_anchors_new: every certificate of a PEM bundle is trusted as it stands, roots or not
 * (vendors' intermediates are commonly pinned); "X509 CRL" blocks count as revocation lists
 * @pem: @size bytes, at most 4 MiB, at most 1024 blocks
 * Errors: FORE_ERROR_INVALID (no certificate, a block that does not parse), FORE_ERROR_LIMIT
 */
ForeAnchors *fore_anchors_new(const char *pem, gsize size, GError **error);
void fore_anchors_free(ForeAnchors *anchors); /* NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeAnchors, fore_anchors_free)

typedef enum {
    FORE_EKCERT_OK,
    FORE_EKCERT_MALFORMED,  /* not one DER certificate: BER, trailing bytes, PEM, wrapped */
    FORE_EKCERT_PROFILE,    /* version, serial number, issuer, criticality of extensions */
    FORE_EKCERT_IS_CA,      /* a CA certificate offered as an EK's */
    FORE_EKCERT_USAGE,      /* without EKU 2.23.133.8.1, or key usage does not fit */
    FORE_EKCERT_EK,         /* the EK's public area is weak or no endorsement key */
    FORE_EKCERT_KEY,        /* the certificate is for another key than the EK */
    FORE_EKCERT_UNKNOWN_CA, /* no chain to an anchor */
    FORE_EKCERT_CHAIN,      /* chain found, but an issuer may not issue, or a bad signature */
    FORE_EKCERT_EXPIRED,    /* certificate or an issuer */
    FORE_EKCERT_NOT_YET,    /* the same, not yet valid */
    FORE_EKCERT_WEAK,       /* signed with SHA-1 or a key below 112 bits of strength */
    FORE_EKCERT_REVOKED,
    FORE_EKCERT_NO_CRL, /* no current revocation list, and policy wants one */
    FORE_EKCERT_N
} ForeEkcertReason;
const char *fore_ekcert_reason_name(ForeEkcertReason reason); /* "ekcert-expired", ... */

typedef struct {
    const ForeAnchors *anchors;
    int64_t now_s;          /* UTC seconds */
    bool allow_missing_crl; /* false: every issuer needs a current list (fail closed) */
} ForeEkcertPolicy;

/**
 * fore_ekcert_verify
 * @der: certificate from the node, any content; NULL is FORE_EKCERT_MALFORMED
 * @ek_public: TPM2B_PUBLIC from the node, any content
 */
ForeEkcertReason fore_ekcert_verify(GBytes *der, GBytes *ek_public, const ForeEkcertPolicy *policy);

/** fore_ekcert_common_name: subject CN, which swtpm_localca sets to --vmid: binds a vTPM to its VM
 *  Returns: (transfer full) at most 64 characters, printable ASCII; NULL: none, several, or
 * malformed */
char *fore_ekcert_common_name(GBytes *der);
