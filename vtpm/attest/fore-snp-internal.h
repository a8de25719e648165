/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The certificate half of the SNP judgement. */
#include <openssl/evp.h>

#include "vtpm/attest/fore-snp.h"

/* What a VCEK or VLEK says of its chip. */
typedef struct {
    ForeSnpKey kind;
    ForeSnpProduct product;
    ForeSnpTcb tcb;
    uint8_t hwid[64]; /* VCEK; Turin: 8 bytes, the rest zero */
    EVP_PKEY *key;    /* P-384, owned */
} ForeSnpCert;
void fore_snp_cert_done(ForeSnpCert *cert);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ForeSnpCert, fore_snp_cert_done)

/** fore_snp_cert_judge: form, profile, chain to a pinned ARK at @policy->now_s, revocation
 *  @ret: written on FORE_SNP_OK only */
ForeSnpReason fore_snp_cert_judge(const ForeSnpEvidence *evidence, const ForeSnpPolicy *policy,
                                  ForeSnpCert *ret);
