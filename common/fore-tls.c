/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Peers prove possession of a key (TLS 1.3 CertificateVerify) and the key is pinned; names, dates
 * and issuers of the certificate around it decide nothing, so the chain is not built at all.
 */
#include "common/fore-tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>

#include "common/fore-error.h"

struct ForeTls {
    SSL_CTX *ctx;
    SSL *ssl;
    BIO *in, *out; /* owned by ssl */
    char **pins;   /* NULL: any */
    char *peer_pin;
};

/* A handshake or record that is waiting must stay bounded: 256 KiB of TLS from a peer at most. */
#define MAX_PENDING (256 * 1024)

static void set_ssl_error(GError **error, const char *what)
{
    unsigned long e = ERR_peek_last_error();
    const char *reason = e != 0 ? ERR_reason_error_string(e) : NULL;

    g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "TLS %s failed: %s", what,
                reason != NULL ? reason : "unexpected end");
    ERR_clear_error();
}

/* The chain is not judged here; fore_tls_handshake() compares the key with the pins. */
static int accept_any_chain(X509_STORE_CTX *store, void *arg)
{
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
}

static bool configure(ForeTls *tls, const ForeChannelConfig *config)
{
    bool server = config->mode == FORE_CHANNEL_TLS_SERVER;

    tls->ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (tls->ctx == NULL || SSL_CTX_set_min_proto_version(tls->ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(tls->ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384") != 1 ||
        SSL_CTX_set1_groups_list(tls->ctx, "P-256:X25519") != 1 ||
        SSL_CTX_use_certificate(tls->ctx, fore_identity_cert(config->identity)) != 1 ||
        SSL_CTX_use_PrivateKey(tls->ctx, fore_identity_key(config->identity)) != 1) {
        return false;
    }
    SSL_CTX_set_cert_verify_callback(tls->ctx, accept_any_chain, NULL);
    SSL_CTX_set_verify(tls->ctx, SSL_VERIFY_PEER | (server ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                       NULL);
    /* No resumption: each connection proves its key anew. */
    SSL_CTX_set_session_cache_mode(tls->ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(tls->ctx, 0);
    SSL_CTX_set_options(tls->ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_max_cert_list(tls->ctx, 16 * 1024);
    tls->ssl = SSL_new(tls->ctx);
    tls->in = BIO_new(BIO_s_mem());
    tls->out = BIO_new(BIO_s_mem());
    if (tls->ssl == NULL || tls->in == NULL || tls->out == NULL) {
        BIO_free(tls->in);
        BIO_free(tls->out);
        return false;
    }
    BIO_set_mem_eof_return(tls->in, -1);
    BIO_set_mem_eof_return(tls->out, -1);
    SSL_set_bio(tls->ssl, tls->in, tls->out);
    if (server) {
        SSL_set_accept_state(tls->ssl);
    } else {
        SSL_set_connect_state(tls->ssl);
    }
    return true;
}

ForeTls *fore_tls_new(const ForeChannelConfig *config, GError **error)
{
    ForeTls *tls = g_new0(ForeTls, 1);

    g_assert(config->mode != FORE_CHANNEL_PLAIN && config->identity != NULL);
    tls->pins = g_strdupv((char **)config->pins);
    ERR_clear_error();
    if (!configure(tls, config)) {
        set_ssl_error(error, "set-up");
        fore_tls_free(tls);
        return NULL;
    }
    return tls;
}

void fore_tls_free(ForeTls *tls)
{
    if (tls == NULL) {
        return;
    }
    SSL_free(tls->ssl);
    SSL_CTX_free(tls->ctx);
    g_strfreev(tls->pins);
    g_free(tls->peer_pin);
    g_free(tls);
}

bool fore_tls_feed(ForeTls *tls, const void *bytes, size_t size, GError **error)
{
    if (size > MAX_PENDING || BIO_pending(tls->in) + (long)size > MAX_PENDING) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "peer sent more than %d bytes of unfinished TLS records", MAX_PENDING);
        return false;
    }
    if (size > 0 && BIO_write(tls->in, bytes, (int)size) != (int)size) {
        set_ssl_error(error, "buffer");
        return false;
    }
    return true;
}

static bool pin_is_accepted(ForeTls *tls, GError **error)
{
    X509 *cert = SSL_get1_peer_certificate(tls->ssl);
    EVP_PKEY *key = cert != NULL ? X509_get0_pubkey(cert) : NULL;

    if (key == NULL) {
        X509_free(cert);
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED, "peer shows no key in TLS");
        return false;
    }
    tls->peer_pin = fore_key_pin(key);
    X509_free(cert);
    if (tls->pins != NULL && !g_strv_contains((const char *const *)tls->pins, tls->peer_pin)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "peer's key %s is not pinned here; add its pin if you trust it", tls->peer_pin);
        return false;
    }
    return true;
}

bool fore_tls_handshake(ForeTls *tls, bool *ret_done, GError **error)
{
    int rc;

    *ret_done = false;
    ERR_clear_error();
    rc = SSL_do_handshake(tls->ssl);
    if (rc == 1) {
        *ret_done = pin_is_accepted(tls, error);
        return *ret_done;
    }
    if (SSL_get_error(tls->ssl, rc) == SSL_ERROR_WANT_READ) {
        return true;
    }
    set_ssl_error(error, "handshake");
    return false;
}

bool fore_tls_read(ForeTls *tls, void *buf, size_t max, size_t *ret_size, bool *ret_end,
                   GError **error)
{
    int rc;

    *ret_size = 0;
    *ret_end = false;
    ERR_clear_error();
    rc = SSL_read_ex(tls->ssl, buf, max, ret_size);
    if (rc == 1) {
        return true;
    }
    switch (SSL_get_error(tls->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return true;
    case SSL_ERROR_ZERO_RETURN:
        *ret_end = true;
        return true;
    default:
        set_ssl_error(error, "record");
        return false;
    }
}

bool fore_tls_write(ForeTls *tls, const void *bytes, size_t size, GError **error)
{
    size_t done = 0;

    ERR_clear_error();
    if (size > 0 && (SSL_write_ex(tls->ssl, bytes, size, &done) != 1 || done != size)) {
        set_ssl_error(error, "write");
        return false;
    }
    return true;
}

void fore_tls_shutdown(ForeTls *tls)
{
    ERR_clear_error();
    if (SSL_is_init_finished(tls->ssl)) {
        SSL_shutdown(tls->ssl);
    }
    ERR_clear_error();
}

void fore_tls_drain(ForeTls *tls, GByteArray *out)
{
    char buf[4096];
    int n;

    while ((n = BIO_read(tls->out, buf, sizeof buf)) > 0) {
        g_byte_array_append(out, (const guint8 *)buf, (guint)n);
    }
}

const char *fore_tls_peer_pin(const ForeTls *tls)
{
    return tls->peer_pin;
}
