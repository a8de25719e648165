/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The grant: a JWS (RFC 7515 compact, ES256, typ "foresee-grant+jwt") by the PAM that names one
 * VM's new totals.  Claims: iss, jti, sub (VM UUID), ak (hex vTPM AK name), vcpus, mem (bytes),
 * seq, iat, exp (seconds, UTC), evd (hex SHA-256 over every node's evidence), nodes (array of
 * names), and while the PAM changes its key next (base64 SubjectPublicKeyInfo of the key to come).
 */
#include <glib.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/fore-flow.h"

#define FORE_GRANT_MAX            8192                /* bytes of the compact form */
#define FORE_GRANT_MAX_NODES      16                  /* nodes of one pathway */
#define FORE_GRANT_MAX_VCPUS      4096                /* more is refused as nonsense */
#define FORE_GRANT_MAX_MEM        ((uint64_t)1 << 46) /* bytes */
#define FORE_GRANT_MAX_LIFETIME_S 86400               /* exp - iat */
#define FORE_GRANT_MAX_KEY        128                 /* bytes of a SubjectPublicKeyInfo */
#define FORE_GRANT_SKEW_S         30                  /* between the clocks of PAM and SEA */

typedef struct {
    char vm_uuid[37];
    char ak_name[2 * 66 + 1]; /* hex */
    char evidence[65];        /* hex */
    char id[37];              /* jti */
    unsigned vcpus;
    uint64_t mem_bytes;
    uint64_t seq;
    int64_t issued_s, expires_s; /* UTC seconds */
    unsigned n_nodes;            /* 0..FORE_GRANT_MAX_NODES: the pathway that was attested */
    char nodes[FORE_GRANT_MAX_NODES][FORE_NAME_MAX + 1];
    size_t next_size;                 /* 0: the PAM keeps its key */
    uint8_t next[FORE_GRANT_MAX_KEY]; /* DER of the P-256 key that grants will be signed with */
} ForeGrant;

typedef enum {
    FORE_GRANT_OK,
    FORE_GRANT_MALFORMED,
    FORE_GRANT_ALGORITHM,
    FORE_GRANT_SIGNATURE,
    FORE_GRANT_VM,
    FORE_GRANT_AK,
    FORE_GRANT_EXPIRED,
    FORE_GRANT_NOT_YET,
    FORE_GRANT_SEQUENCE,
    FORE_GRANT_AMOUNT,
    FORE_GRANT_N
} ForeGrantReason;
const char *fore_grant_reason_name(
    ForeGrantReason reason); /* "bad-signature", "old-sequence", ... */

/**
 * fore_grant_sign: compact JWS (transfer full)
 * @key: P-256 private key; only its signing operation is used, so it may live in an HSM or TPM
 * Errors: FORE_ERROR_INVALID (a field that fore_grant_verify() would refuse; the message names it),
 *         FORE_ERROR_FAILED (no P-256 key, or it did not sign)
 */
char *fore_grant_sign(const ForeGrant *grant, EVP_PKEY *key, GError **error);
#define FORE_GRANT_TYPE "foresee-grant+jwt"
/** fore_grant_claims: what fore_grant_sign() signs, for a signer elsewhere (transfer full)
 *  Errors: FORE_ERROR_INVALID */
json_t *fore_grant_claims(const ForeGrant *grant, GError **error);
/** fore_grant_parse_key: a P-256 public key out of DER, or NULL; every byte must be used */
EVP_PKEY *fore_grant_parse_key(const uint8_t *der, size_t size);

typedef struct {
    EVP_PKEY *pam_key;   /* pinned */
    const char *vm_uuid; /* ours */
    const char *ak_name; /* ours, hex */
    uint64_t last_seq;   /* of our NV counter: the grant's must be greater */
    int64_t now_s;       /* UTC seconds; allowed skew 30 s */
} ForeGrantExpect;
/**
 * fore_grant_verify: the first reason that applies, in this order: form, algorithm, signature,
 * claims, VM, AK, expiry, issue time, sequence.  Unknown claims are refused: a
 * newer PAM's restriction must not be overlooked by an older SEA.  @jws: text from outside, at most
 * FORE_GRANT_MAX. @ret written on OK only */
ForeGrantReason fore_grant_verify(const char *jws, const ForeGrantExpect *expect, ForeGrant *ret);
