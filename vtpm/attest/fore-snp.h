/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * AMD SEV-SNP attestation report, versions 2 to 5 (SEV Secure Nested Paging Firmware ABI
 * Specification 56860, table 23), its VCEK or VLEK chain to a pinned ARK, and the binding of a
 * vTPM's AK in the runtime data of a paravisor.  Verification only.  Pure: the time is an argument.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_SNP_REPORT_SIZE  1184
#define FORE_SNP_VAR_DATA_MAX (64u << 10)

typedef enum {
    FORE_SNP_OK,
    FORE_SNP_MISSING,        /* no report, and policy wants one */
    FORE_SNP_MALFORMED,      /* length, reserved bytes that are not zero */
    FORE_SNP_VERSION,        /* not 2..5, or a product it does not name */
    FORE_SNP_SIGNATURE_ALGO, /* not ECDSA P-384 with SHA-384 */
    FORE_SNP_SIGNING_KEY,    /* VLEK where VCEK is wanted, or reverse, or none, or mismatch */
    FORE_SNP_CERT_MALFORMED,
    FORE_SNP_CERT_PROFILE, /* key type, extensions, names */
    FORE_SNP_CHAIN,        /* no chain to a pinned ARK */
    FORE_SNP_EXPIRED,
    FORE_SNP_NOT_YET,
    FORE_SNP_REVOKED, /* in a revocation list of the ARK */
    FORE_SNP_NO_CRL,
    FORE_SNP_SIGNATURE, /* the report is not signed by this key */
    FORE_SNP_CHIP,      /* chip id is not the certificate's, masked, or not the one pinned */
    FORE_SNP_CERT_TCB,  /* REPORTED_TCB is not the certificate's */
    FORE_SNP_TCB,       /* a component below the minimum */
    FORE_SNP_POLICY_DEBUG,
    FORE_SNP_POLICY_MIGRATION,
    FORE_SNP_POLICY_SMT,
    FORE_SNP_POLICY_ABI, /* guest asks for an older ABI than the minimum */
    FORE_SNP_POLICY_RESERVED,
    FORE_SNP_PLATFORM,    /* unknown platform-info bit, or one that policy refuses */
    FORE_SNP_PROVISIONAL, /* committed firmware is not the current */
    FORE_SNP_VMPL,
    FORE_SNP_REPORT_DATA,  /* does not bind what was asked for */
    FORE_SNP_MEASUREMENT,  /* launch digest, host data or id key not listed */
    FORE_SNP_RUNTIME_DATA, /* paravisor blob malformed */
    FORE_SNP_AK,           /* the vTPM's AK is not the one in the runtime data */
    FORE_SNP_BAD_POLICY,   /* nothing pinned: unusable policy */
    FORE_SNP_N
} ForeSnpReason;
/** fore_snp_reason_name: stable, e.g. "snp-debug-allowed" */
const char *fore_snp_reason_name(ForeSnpReason reason);

typedef enum { FORE_SNP_MILAN, FORE_SNP_GENOA, FORE_SNP_TURIN, FORE_SNP_PRODUCT_N } ForeSnpProduct;

/* Component-wise; never compared as one integer. */
typedef struct {
    uint8_t fmc; /* Turin and later; else 0 */
    uint8_t boot_loader, tee, snp, microcode;
} ForeSnpTcb;

typedef enum { FORE_SNP_VCEK = 0, FORE_SNP_VLEK = 1, FORE_SNP_UNSIGNED = 7 } ForeSnpKey;

typedef struct {
    uint32_t version, guest_svn, vmpl, signature_algo;
    uint64_t policy, platform_info;
    ForeSnpProduct product; /* v3 and later; v2: FORE_SNP_PRODUCT_N, not named */
    bool author_key, mask_chip;
    ForeSnpKey signing_key;
    ForeSnpTcb current, reported, committed, launch;
    uint8_t current_version[3], committed_version[3]; /* major, minor, build */
    uint64_t launch_mitigations, current_mitigations; /* v5; else 0 */
    const uint8_t *family_id, *image_id;              /* [16] */
    const uint8_t *report_data;                       /* [64] */
    const uint8_t *measurement;                       /* [48] */
    const uint8_t *host_data;                         /* [32] */
    const uint8_t *id_key_digest, *author_key_digest; /* [48] */
    const uint8_t *report_id, *report_id_ma;          /* [32] */
    const uint8_t *chip_id;                           /* [64] */
} ForeSnpReport;

/** fore_snp_report_init: layout and reserved ranges, nothing more.  Pointers into @bytes */
ForeSnpReason fore_snp_report_init(ForeSnpReport *ret, GBytes *bytes);

/* ARKs that are trusted, by their own bytes; what a peer sends as ARK is never one. */
typedef struct ForeSnpRoots ForeSnpRoots;
/** fore_snp_roots_new: @pem: self-signed ARKs, with or without ASK and ASVK, and "X509 CRL" blocks;
 *  at most 64 KiB   Errors: FORE_ERROR_INVALID, FORE_ERROR_LIMIT */
ForeSnpRoots *fore_snp_roots_new(const char *pem, size_t size, GError **error);
void fore_snp_roots_free(ForeSnpRoots *roots); /* NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeSnpRoots, fore_snp_roots_free)

typedef struct {
    const ForeSnpRoots *roots; /* NULL: nothing is accepted */
    int64_t now_s;             /* UTC seconds */
    bool require_crl;
    ForeSnpKey signing_key; /* which kind is accepted */
    ForeSnpTcb minimum;     /* each component of REPORTED_TCB, COMMITTED_TCB and LAUNCH_TCB */
    uint8_t min_abi_major, min_abi_minor; /* of the guest policy */
    uint32_t vmpl;                        /* exactly this one */
    uint32_t min_guest_svn;
    bool allow_debug, allow_migration, allow_smt, allow_provisional;
    bool require_single_socket;
    const uint8_t *chip_id;            /* [64] pinned, or NULL */
    const uint8_t (*measurements)[48]; /* accepted launch digests; none listed: nothing accepted */
    size_t n_measurements;
    const uint8_t *host_data; /* [32], or NULL: any */
} ForeSnpPolicy;

typedef struct {
    GBytes *report;               /* FORE_SNP_REPORT_SIZE bytes */
    GBytes *cert;                 /* VCEK or VLEK, DER */
    GBytes *const *intermediates; /* ASK/ASVK as sent, DER; may be NULL */
    size_t n_intermediates;
    GBytes *var_data; /* az-snp style runtime data, JSON; NULL: report_data binds directly */
} ForeSnpEvidence;

typedef struct {
    const uint8_t *report_data; /* [64] exact, when there is no var_data */
    GBytes *ak_public;          /* TPM2B_PUBLIC that var_data must name ("HCLAkPub") */
} ForeSnpExpect;

/** fore_snp_judge: form, chain, signature, then content.  @ret: written on OK; may be NULL */
ForeSnpReason fore_snp_judge(const ForeSnpEvidence *evidence, const ForeSnpPolicy *policy,
                             const ForeSnpExpect *expect, ForeSnpReport *ret);

/** fore_snp_split_hcl: report and runtime data out of a paravisor's blob ("HCLA"), bounds checked
 *  @ret_report, @ret_var_data: (transfer full), set on FORE_SNP_OK only */
ForeSnpReason fore_snp_split_hcl(GBytes *hcl, GBytes **ret_report, GBytes **ret_var_data);
