/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * TPM2B_PUBLIC (TPM 2.0 Library Part 2 rev 1.59, 12.2.5) from outside: an RSA or ECC public area,
 * its name, and the OpenSSL key made of it.  Weak and impossible keys are refused here, once for
 * EKs and AKs.  Pure.
 */
#include <glib.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_PUBLIC_MAX 1024 /* bytes of a TPM2B_PUBLIC that are looked at */
#define FORE_NAME_BYTES 66   /* nameAlg and the longest digest */

/* TPM_ALG_ID and TPM_ECC_CURVE, Part 2, 6.3 and 6.4: the ones that mean something here */
enum {
    FORE_ALG_RSA = 0x0001,
    FORE_ALG_SHA1 = 0x0004,
    FORE_ALG_AES = 0x0006,
    FORE_ALG_SHA256 = 0x000b,
    FORE_ALG_SHA384 = 0x000c,
    FORE_ALG_SHA512 = 0x000d,
    FORE_ALG_NULL = 0x0010,
    FORE_ALG_RSASSA = 0x0014,
    FORE_ALG_RSAPSS = 0x0016,
    FORE_ALG_ECDSA = 0x0018,
    FORE_ALG_ECC = 0x0023,
    FORE_ALG_CFB = 0x0043,
};
enum { FORE_CURVE_P256 = 0x0003, FORE_CURVE_P384 = 0x0004 };

/* TPMA_OBJECT, Part 2, 8.3 */
#define FORE_OBJECT_FIXED_TPM             (1u << 1)
#define FORE_OBJECT_ST_CLEAR              (1u << 2)
#define FORE_OBJECT_FIXED_PARENT          (1u << 4)
#define FORE_OBJECT_SENSITIVE_DATA_ORIGIN (1u << 5)
#define FORE_OBJECT_USER_WITH_AUTH        (1u << 6)
#define FORE_OBJECT_ADMIN_WITH_POLICY     (1u << 7)
#define FORE_OBJECT_NO_DA                 (1u << 10)
#define FORE_OBJECT_ENCRYPTED_DUPLICATION (1u << 11)
#define FORE_OBJECT_RESTRICTED            (1u << 16)
#define FORE_OBJECT_DECRYPT               (1u << 17)
#define FORE_OBJECT_SIGN                  (1u << 18)

typedef enum {
    FORE_PUBLIC_OK,
    FORE_PUBLIC_MALFORMED, /* short, oversized field, trailing bytes, other key type */
    FORE_PUBLIC_NAME_ALG,  /* name hash is not SHA-256, SHA-384 or SHA-512 */
    FORE_PUBLIC_WEAK,      /* RSA below 2048 bits or exponent not 65537, ROCA, unknown curve */
    FORE_PUBLIC_INVALID,   /* point not on the curve, coordinate of wrong length, even modulus */
    FORE_PUBLIC_N
} ForePublicReason;
const char *fore_public_reason_name(ForePublicReason reason); /* "key-weak", ... */

typedef struct {
    uint16_t type;     /* FORE_ALG_RSA, FORE_ALG_ECC */
    uint16_t name_alg; /* FORE_ALG_SHA256.. */
    uint32_t attributes;
    uint16_t scheme, scheme_hash;         /* FORE_ALG_NULL, 0 when there is none */
    uint16_t sym_alg, sym_bits, sym_mode; /* FORE_ALG_NULL, 0, 0 when there is none */
    uint16_t curve;                       /* ECC */
    unsigned bits;                        /* RSA: of the modulus; ECC: of the field */
    uint8_t policy[64];
    size_t policy_size;
    uint8_t name[FORE_NAME_BYTES]; /* nameAlg || digest of the public area */
    size_t name_size;
    EVP_PKEY *key; /* owned */
} ForePublic;

/**
 * fore_public_init: parse @tpm2b, all of it, and judge the key
 * @ret: written on FORE_PUBLIC_OK only; fore_public_done() when finished
 */
ForePublicReason fore_public_init(ForePublic *ret, GBytes *tpm2b);
void fore_public_done(ForePublic *pub);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ForePublic, fore_public_done)

/** fore_public_md: OpenSSL digest of a TPM_ALG_ID; NULL for SHA-1 and whatever else is not used */
const EVP_MD *fore_public_md(uint16_t alg);
/** fore_public_is_roca: modulus (big-endian) has the fingerprint of CVE-2017-15361 */
bool fore_public_is_roca(const uint8_t *modulus, size_t size);
