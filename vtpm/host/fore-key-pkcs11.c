/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  OpenSSL's pkcs11 provider does the talking, in a library context of its own, so
 * that nothing else of the process ends up in the token.  A key object of the provider may outlive
 * its token (a software token keeps it in memory), so the key is looked up anew for every
 * signature: a token that was pulled out or locked does not sign once more.  After a failure the
 * provider is loaded anew, because its sessions are gone even when the token is back.
 */
#include <openssl/bn.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include <openssl/store.h>
#include <string.h>

#include "common/fore-error.h"
#include "vtpm/host/fore-key-priv.h"

typedef struct {
    OSSL_LIB_CTX *context;
    OSSL_PROVIDER *base, *pkcs11;
    char *private_uri, *public_uri;
    char *shown; /* the URI without its query, which may hold a PIN */
} Token;

static void unload(Token *token)
{
    if (token->pkcs11 != NULL) {
        OSSL_PROVIDER_unload(token->pkcs11);
    }
    if (token->base != NULL) {
        OSSL_PROVIDER_unload(token->base);
    }
    OSSL_LIB_CTX_free(token->context);
    token->context = NULL;
    token->pkcs11 = token->base = NULL;
}

static void token_free(gpointer data)
{
    Token *token = data;

    unload(token);
    g_free(token->private_uri);
    g_free(token->public_uri);
    g_free(token->shown);
    g_free(token);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Token, token_free)

/* The newest of OpenSSL's errors, which name the PKCS#11 return value. */
static void set_ssl_error(GError **error, ForeErrorCode code, const Token *token, const char *doing)
{
    const char *text = "";
    const char *reason =
        ERR_reason_error_string(ERR_peek_last_error_all(NULL, NULL, NULL, &text, NULL));

    g_set_error(error, FORE_ERROR, code, "PKCS#11 key '%s': %s: %s%s%s", token->shown, doing,
                reason != NULL ? reason : "no key", text[0] != '\0' ? ": " : "", text);
    ERR_clear_error();
}

/* "pkcs11:token=x;object=y?pin-source=z" with ";type=private" before the query. */
static char *with_type(const char *uri, const char *type)
{
    size_t path = strcspn(uri, "?");

    return g_strdup_printf("%.*s;type=%s%s", (int)path, uri, type, uri + path);
}

static bool load(Token *token, GError **error)
{
    if (token->context != NULL) {
        return true;
    }
    token->context = OSSL_LIB_CTX_new();
    token->base = OSSL_PROVIDER_load(token->context, "default");
    token->pkcs11 = OSSL_PROVIDER_load(token->context, "pkcs11");
    if (token->base == NULL || token->pkcs11 == NULL) {
        set_ssl_error(error, FORE_ERROR_UNAVAILABLE, token,
                      "OpenSSL's pkcs11 provider does not load (package pkcs11-provider; "
                      "pkcs11-module names the token's library)");
        unload(token);
        return false;
    }
    return true;
}

/* The one key at @uri. */
static EVP_PKEY *find(Token *token, const char *uri, int type, GError **error)
{
    OSSL_STORE_CTX *store =
        OSSL_STORE_open_ex(uri, token->context, "?provider=pkcs11", NULL, NULL, NULL, NULL, NULL);
    EVP_PKEY *key = NULL;

    if (store == NULL) {
        set_ssl_error(error, FORE_ERROR_UNAVAILABLE, token, "the token does not open");
        return NULL;
    }
    while (key == NULL && !OSSL_STORE_eof(store)) {
        OSSL_STORE_INFO *info = OSSL_STORE_load(store);

        if (info == NULL) {
            break;
        }
        if (OSSL_STORE_INFO_get_type(info) == type) {
            key = type == OSSL_STORE_INFO_PKEY ? OSSL_STORE_INFO_get1_PKEY(info)
                                               : OSSL_STORE_INFO_get1_PUBKEY(info);
        }
        OSSL_STORE_INFO_free(info);
    }
    OSSL_STORE_close(store);
    if (key == NULL) {
        set_ssl_error(error, FORE_ERROR_UNAVAILABLE, token,
                      "not found: is the token there, unlocked, and its PIN right");
    }
    return key;
}

static gpointer open_token(const ForeKeyConfig *config, EVP_PKEY **ret_public, GError **error)
{
    g_autoptr(Token) token = g_new0(Token, 1);
    EVP_PKEY *public, *private;

    token->private_uri = with_type(config->where, "private");
    token->public_uri = with_type(config->where, "public");
    token->shown = g_strndup(config->where, strcspn(config->where, "?"));
    if (config->pkcs11_module != NULL) {
        /* the only way to tell the provider; at start, before there are threads */
        g_setenv("PKCS11_PROVIDER_MODULE", config->pkcs11_module, TRUE);
    }
    if (!load(token, error)) {
        return NULL;
    }
    public = find(token, token->public_uri, OSSL_STORE_INFO_PUBKEY, error);
    private = public != NULL ? find(token, token->private_uri, OSSL_STORE_INFO_PKEY, error) : NULL;
    *ret_public = private != NULL ? fore_key_copy_public(public) : NULL;
    EVP_PKEY_free(public);
    EVP_PKEY_free(private);
    return *ret_public != NULL ? g_steal_pointer(&token) : NULL;
}

static bool der_to_raw(const uint8_t *der, size_t size, uint8_t raw[FORE_JWS_RAW])
{
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)size);
    bool good = sig != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, 32) == 32 &&
                BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + 32, 32) == 32;

    ECDSA_SIG_free(sig);
    return good;
}

static bool sign_once(Token *token, const void *bytes, size_t size, uint8_t ret_raw[FORE_JWS_RAW],
                      GError **error)
{
    EVP_PKEY *key = find(token, token->private_uri, OSSL_STORE_INFO_PKEY, error);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t der[128];
    size_t n = sizeof(der);
    bool good = key != NULL &&
                EVP_DigestSignInit_ex(ctx, NULL, "SHA256", token->context, NULL, key, NULL) == 1 &&
                EVP_DigestSign(ctx, der, &n, bytes, size) == 1 && der_to_raw(der, n, ret_raw);

    if (key != NULL && !good) {
        set_ssl_error(error, FORE_ERROR_UNAVAILABLE, token, "the token does not sign");
    }
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    return good;
}

static bool sign_token(gpointer place, const void *bytes, size_t size,
                       uint8_t ret_raw[FORE_JWS_RAW], GError **error)
{
    Token *token = place;

    if (!load(token, error)) {
        return false;
    }
    if (!sign_once(token, bytes, size, ret_raw, error)) {
        unload(token);
        return false;
    }
    return true;
}

const ForeKeyPlace fore_key_pkcs11 = {open_token, sign_token, token_free};
