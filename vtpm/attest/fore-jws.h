/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * JWS in its compact form, ES256 and nothing else (RFC 7515, RFC 7518 section 3.4):
 * header.payload.signature, each base64url without padding.  What a token says of its own algorithm
 * or key is never followed: the caller brings the key and the type.
 */
#include <glib.h>
#include <openssl/evp.h>
#include <stdbool.h>

#include "common/fore-json.h"

typedef enum {
    FORE_JWS_OK,
    FORE_JWS_MALFORMED, /* not three base64url parts, not JSON objects, or past its bound */
    FORE_JWS_ALGORITHM, /* "alg" is not ES256, or "crit" asks for something */
    FORE_JWS_TYPE,      /* "typ" is not the one asked for: a token made for another purpose */
    FORE_JWS_SIGNATURE, /* does not verify under the key */
    FORE_JWS_N
} ForeJwsReason;
const char *fore_jws_reason_name(ForeJwsReason reason); /* "malformed", "bad-signature", ... */

#define FORE_JWS_RAW 64 /* bytes of a signature: r and s, big-endian */

/** fore_jws_key_is_p256: whoever provides it */
bool fore_jws_key_is_p256(EVP_PKEY *key);

#define FORE_JWS_KEY_ID 64 /* characters */
/** fore_jws_key_id: lower-case hex SHA-256 of the key's SubjectPublicKeyInfo: how a key is named */
void fore_jws_key_id(EVP_PKEY *key, char ret[FORE_JWS_KEY_ID + 1]);

/** fore_jws_key_der: its SubjectPublicKeyInfo (transfer full) */
GBytes *fore_jws_key_der(EVP_PKEY *key);

/** ForeJwsSigner: ES256 over SHA-256 of @bytes; a key in a token or a TPM signs here */
typedef bool (*ForeJwsSigner)(const void *bytes, size_t size, uint8_t ret_raw[FORE_JWS_RAW],
                              gpointer data, GError **error);
/** fore_jws_sign_evp: ForeJwsSigner; @data: EVP_PKEY, P-256 private. Errors: FORE_ERROR_FAILED */
bool fore_jws_sign_evp(const void *bytes, size_t size, uint8_t ret_raw[FORE_JWS_RAW], gpointer data,
                       GError **error);
/** fore_jws_sign_with: as fore_jws_sign(); errors: those of @signer */
char *fore_jws_sign_with(const char *typ, const json_t *payload, ForeJwsSigner signer,
                         gpointer data, GError **error);

/**
 * fore_jws_sign: the compact form of @payload, keys sorted
 * @typ: header "typ", plain ASCII without quotes   @key: P-256 private key
 * Returns: (transfer full), or NULL with FORE_ERROR_FAILED (the key does not sign)
 */
char *fore_jws_sign(const char *typ, const json_t *payload, EVP_PKEY *key, GError **error);

/**
 * fore_jws_verify
 * @jws: text from outside   @max: bytes that are looked at, at most
 * @key: P-256 public key that must have signed   @typ: header "typ" that is asked for
 * @ret: (transfer full) the payload, an object; written on FORE_JWS_OK only
 */
ForeJwsReason fore_jws_verify(const char *jws, size_t max, const char *typ, EVP_PKEY *key,
                              json_t **ret);
