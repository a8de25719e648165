/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * foresee-unwrap: encrypt or decrypt the store's key with an RSA key in a PKCS#11 token.  A program
 * of its own, because the token's module must not come into a process with SQLCipher.
 *
 *   foresee-unwrap wrap|unwrap pkcs11:URI [MODULE]     (bytes in on stdin, out on stdout)
 *
 * RSA-OAEP (RFC 8017, 7.1) with its default hash, SHA-1: OAEP does not need it to resist
 * collisions, and it is the only one that every token has (SoftHSM2 has no other).  Exit codes: 0;
 * 2 usage; 5 the token is not there; 6 it refuses.
 */
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <openssl/store.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fore-bytes.h"

enum { EXIT_USAGE = 2, EXIT_NO_TOKEN = 5, EXIT_REFUSED = 6 };
#define MAX_BYTES 4096

static int fail(int code, const char *what)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());

    fprintf(stderr, "%s%s%s\n", what, reason != NULL ? ": " : "", reason != NULL ? reason : "");
    return code;
}

/* The one RSA key at @uri, of @type.  The URI may hold a PIN: it is never printed. */
static EVP_PKEY *find_key(const char *uri, bool private)
{
    int type = private ? OSSL_STORE_INFO_PKEY : OSSL_STORE_INFO_PUBKEY;
    size_t path = strcspn(uri, "?");
    g_autofree char *typed = g_strdup_printf("%.*s;type=%s%s", (int)path, uri,
                                             private ? "private" : "public", uri + path);
    OSSL_STORE_CTX *store =
        OSSL_STORE_open_ex(typed, NULL, "?provider=pkcs11", NULL, NULL, NULL, NULL, NULL);
    EVP_PKEY *key = NULL;

    while (store != NULL && key == NULL && !OSSL_STORE_eof(store)) {
        OSSL_STORE_INFO *info = OSSL_STORE_load(store);

        if (info == NULL) {
            break;
        }
        if (OSSL_STORE_INFO_get_type(info) == type) {
            key = private ? OSSL_STORE_INFO_get1_PKEY(info) : OSSL_STORE_INFO_get1_PUBKEY(info);
        }
        OSSL_STORE_INFO_free(info);
    }
    OSSL_STORE_close(store);
    return key;
}

static bool convert(EVP_PKEY *key, bool wrap, const uint8_t *in, size_t n_in, uint8_t *out,
                    size_t *n_out)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    bool ok = ctx != NULL &&
              (wrap ? EVP_PKEY_encrypt_init(ctx) : EVP_PKEY_decrypt_init(ctx)) == 1 &&
              EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) == 1 &&
              EVP_PKEY_CTX_set_rsa_oaep_md_name(ctx, "SHA1", NULL) == 1 &&
              EVP_PKEY_CTX_set_rsa_mgf1_md_name(ctx, "SHA1", NULL) == 1 &&
              (wrap ? EVP_PKEY_encrypt(ctx, out, n_out, in, n_in)
                    : EVP_PKEY_decrypt(ctx, out, n_out, in, n_in)) == 1;

    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static int run(bool wrap, const char *uri)
{
    uint8_t in[MAX_BYTES], out[MAX_BYTES];
    size_t n_in = fread(in, 1, sizeof(in), stdin), n_out = sizeof(out);
    EVP_PKEY *key;
    bool ok;

    if (OSSL_PROVIDER_load(NULL, "default") == NULL || OSSL_PROVIDER_load(NULL, "pkcs11") == NULL) {
        return fail(EXIT_NO_TOKEN, "OpenSSL's pkcs11 provider does not load (package "
                                   "pkcs11-provider; store-key-module names the token's library)");
    }
    key = find_key(uri, !wrap);
    if (key == NULL) {
        return fail(EXIT_NO_TOKEN,
                    "no such RSA key: is the token there, unlocked, and its PIN right");
    }
    if (!EVP_PKEY_is_a(key, "RSA")) {
        EVP_PKEY_free(key);
        return fail(EXIT_REFUSED, "the key is not RSA; store-key-pkcs11 must name an RSA key of "
                                  "2048 bits or more");
    }
    ok = convert(key, wrap, in, n_in, out, &n_out) && fwrite(out, 1, n_out, stdout) == n_out &&
         fflush(stdout) == 0;
    EVP_PKEY_free(key);
    OPENSSL_cleanse(wrap ? in : out, sizeof(in));
    return ok ? EXIT_SUCCESS
              : fail(EXIT_REFUSED, wrap ? "the key does not encrypt"
                                        : "the token does not decrypt this: wrapped by another "
                                          "key, or damaged");
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        puts("usage: foresee-unwrap wrap|unwrap pkcs11:URI [MODULE]\n\nSee foresee-unwrap(8).");
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("foresee-unwrap " FORE_VERSION);
        return 0;
    }
    if (argc < 3 || argc > 4 || (strcmp(argv[1], "wrap") != 0 && strcmp(argv[1], "unwrap") != 0) ||
        strncmp(argv[2], "pkcs11:", 7) != 0) {
        fprintf(stderr, "usage: foresee-unwrap wrap|unwrap pkcs11:URI [MODULE]\n");
        return EXIT_USAGE;
    }
    if (argc == 4) {
        setenv("PKCS11_PROVIDER_MODULE", argv[3], 1);
    }
    return run(strcmp(argv[1], "wrap") == 0, argv[2]);
}
