/* SPDX-License-Identifier: GPL-2.0-or-later */
/* IMA lists that must be refused, each with its own reason. */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "tests/lib/fore-test-log.h"
#include "vtpm/attest/fore-imalog.h"
#include "vtpm/attest/fore-public.h"

typedef struct {
    GByteArray *list;
    ForeImaPolicy *policy;
    ForeImaState *state;
    uint8_t pcrs[24][32];
} Case;

static void allow(ForeImaPolicy *policy, const char *path, const char *content)
{
    uint8_t digest[32];

    fore_test_sha256(content, digest);
    g_assert_true(fore_ima_policy_allow(policy, path, digest, 32, NULL));
}

/* boot_aggregate and two listed files */
static Case case_new(void)
{
    Case c = {g_byte_array_new(), fore_ima_policy_new(), fore_ima_state_new(), {{1}}};

    fore_test_ima_start(c.list, (const uint8_t(*)[32])c.pcrs, false);
    fore_test_ima_file(c.list, "/sbin/init", "init");
    fore_test_ima_file(c.list, "/bin/sh", "shell");
    allow(c.policy, "/sbin/init", "init");
    allow(c.policy, "/bin/sh", "shell");
    return c;
}

static void case_done(Case *c)
{
    g_byte_array_unref(c->list);
    fore_ima_policy_free(c->policy);
    fore_ima_state_free(c->state);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Case, case_done)

static ForeImaReason judge_at(Case *c, guint from, guint to, ForeImaResult *ret)
{
    g_autoptr(GBytes) bytes = g_bytes_new(c->list->data + from, to - from);
    ForeImaSlice slice = {.bytes = bytes, .offset = from};

    return fore_ima_judge(c->state, c->policy, &slice, (const uint8_t(*)[32])c->pcrs, ret);
}

static void assert_reason(ForeImaReason got, ForeImaReason want)
{
    g_assert_cmpstr(fore_ima_reason_name(got), ==, fore_ima_reason_name(want));
}

/* The list is what was extended. */
static void assert_whole(Case *c, ForeImaReason want)
{
    ForeImaResult result;
    uint64_t before = fore_ima_state_offset(c->state);

    fore_test_ima_proved(c->list, c->pcrs);
    assert_reason(judge_at(c, 0, c->list->len, &result), want);
    g_assert_cmpuint(fore_ima_state_offset(c->state), ==,
                     want == FORE_IMA_OK ? c->list->len : before);
}

/* The list is refused before replay is compared. */
static void assert_bytes(Case *c, ForeImaReason want)
{
    ForeImaResult result;

    c->pcrs[10][0] = 0x55;
    assert_reason(judge_at(c, 0, c->list->len, &result), want);
    g_assert_cmpuint(fore_ima_state_offset(c->state), ==, 0);
}

static void test_good(void)
{
    g_auto(Case) c = case_new();

    assert_whole(&c, FORE_IMA_OK);
    g_assert_cmpuint(fore_ima_state_entries(c.state), ==, 3);
}

/* The same list as text: the same PCR and the same verdict. */
static void test_text(void)
{
    g_auto(Case) c = case_new();
    uint8_t pcr[32], digest[32];
    ForeTestIma e = {.template = "ima-ng", .alg = "sha256", .digest = digest, .digest_size = 32};

    fore_test_ima_proved(c.list, c.pcrs);
    memcpy(pcr, c.pcrs[10], 32);
    g_byte_array_set_size(c.list, 0);
    fore_test_ima_start(c.list, (const uint8_t(*)[32])c.pcrs, true);
    fore_test_sha256("init", digest);
    e.path = "/sbin/init";
    fore_test_ima_text(c.list, &e);
    fore_test_sha256("shell", digest);
    e.path = "/bin/sh";
    fore_test_ima_text(c.list, &e);
    assert_whole(&c, FORE_IMA_OK);
    g_assert_cmpmem(pcr, 32, c.pcrs[10], 32);
}

/* --- 64 --- */

static void test_violation(void)
{
    g_auto(Case) c = case_new();
    uint8_t digest[32];
    ForeTestIma e = {.template = "ima-ng",
                     .alg = "sha256",
                     .digest = digest,
                     .digest_size = 32,
                     .path = "/bin/sh",
                     .violation = true};

    fore_test_sha256("shell", digest); /* looks listed: the content means nothing */
    fore_test_ima_binary(c.list, &e);
    assert_whole(&c, FORE_IMA_VIOLATION);
    fore_ima_policy_set(c.policy, true, 0);
    assert_whole(&c, FORE_IMA_OK);
    g_assert_cmpuint(fore_ima_state_violations(c.state), ==, 1);
}

/* Zeroing the template hash of an entry does not hide it: a violation extends other bytes. */
static void test_feigned_violation(void)
{
    g_auto(Case) c = case_new();
    guint at = c.list->len + 4;
    ForeImaResult result;

    fore_test_ima_file(c.list, "/tmp/evil", "evil");
    fore_test_ima_proved(c.list, c.pcrs);
    memset(c.list->data + at, 0, 20);
    fore_ima_policy_set(c.policy, true, 0);
    assert_reason(judge_at(&c, 0, c.list->len, &result), FORE_IMA_REPLAY);
}

/* --- 65, 66, 67 --- */

static void test_template_hash(void)
{
    g_auto(Case) c = case_new();

    c.list->data[4] ^= 1;
    assert_bytes(&c, FORE_IMA_TEMPLATE_HASH);
    c.list->data[4] ^= 1;
    c.list->data[c.list->len - 2] ^= 1; /* last letter of a path */
    assert_bytes(&c, FORE_IMA_TEMPLATE_HASH);
}

static void test_pcr_column(void)
{
    for (unsigned pcr = 0; pcr < 24; pcr++) {
        g_auto(Case) c = case_new();

        c.list->data[0] = (uint8_t)pcr;
        assert_bytes(&c, pcr == 10 ? FORE_IMA_REPLAY : FORE_IMA_PCR_COLUMN);
    }
}

#define HASH  "f8a7b32dba2cb3a5437786d7f9d5caee8db3115b"
#define HEX32 "cd026b58efdf66658685430ff526490d54a430a3f0066a35ac26a8acab66c55d"

static void test_malformed_text(void)
{
    static const struct {
        const char *line;
        ForeImaReason reason;
    } lines[] = {
        {"10 " HASH " ima " HEX32 " /a\n", FORE_IMA_TEMPLATE},
        {"10 " HASH " ima-ngv2 sha256:" HEX32 " /a\n", FORE_IMA_TEMPLATE},
        {"10 " HASH " evm-sig sha256:" HEX32 " /a\n", FORE_IMA_TEMPLATE},
        {"11 " HASH " ima-ng sha256:" HEX32 " /a\n", FORE_IMA_PCR_COLUMN},
        {" 9 " HASH " ima-ng sha256:" HEX32 " /a\n", FORE_IMA_MALFORMED},
        {"10  " HASH " ima-ng sha256:" HEX32 " /a\n", FORE_IMA_MALFORMED},
        {"10 " HASH "  ima-ng sha256:" HEX32 " /a\n", FORE_IMA_TEMPLATE},
        {"10 " HASH " ima-ng  sha256:" HEX32 " /a\n", FORE_IMA_MALFORMED},
        {"10 " HASH " ima-ng sha256:" HEX32 "  /a\n", FORE_IMA_MALFORMED},
        {"10 " HASH " ima-ng sha256:" HEX32 " /a \n", FORE_IMA_MALFORMED},
        {"10 " HASH " ima-ng sha256:" HEX32 " /a b\n", FORE_IMA_MALFORMED},
        {"10 " HASH " ima-ng sha256:" HEX32 "\n", FORE_IMA_MALFORMED},
        {"10 " HASH " ima-ng sha256:" HEX32 " \n", FORE_IMA_MALFORMED},
        {"10 " HASH " ima-ng\n", FORE_IMA_MALFORMED},
        {"10 " HASH "\n", FORE_IMA_MALFORMED},
        {"10\n", FORE_IMA_MALFORMED},
        {"\n", FORE_IMA_TRUNCATED}, /* or the first byte of a binary entry */
        {"10 " HASH "00 ima-ng sha256:" HEX32 " /a\n", FORE_IMA_MALFORMED},
        {"10 zz" HASH " ima-ng sha256:" HEX32 " /a\n", FORE_IMA_MALFORMED},
        {"10 " HASH " ima-ng sha256:xy026b58 /a\n", FORE_IMA_MALFORMED},
        {"10 " HASH " ima-ng sha256:cd0 /a\n", FORE_IMA_MALFORMED},
        {"10 " HASH " ima-ng sha256:cd /a\n", FORE_IMA_MALFORMED},
        {"10 " HASH " ima-ng :" HEX32 " /a\n", FORE_IMA_MALFORMED},
        {"10 " HASH " ima-ng " HEX32 " /a\n", FORE_IMA_MALFORMED},
        {"10 " HASH " ima-ng averyverylongalgorithm:" HEX32 " /a\n", FORE_IMA_MALFORMED},
        {"10 " HASH " ima-sig sha256:" HEX32 " /a\n", FORE_IMA_MALFORMED}, /* no third field */
        {"10 " HASH " ima-sig sha256:" HEX32 " /a 0\n", FORE_IMA_MALFORMED},
        {"10 " HASH " ima-sig sha256:" HEX32 " /a zz\n", FORE_IMA_MALFORMED},
        {"10 " HASH " ima-buf sha256:" HEX32 " .ima \n", FORE_IMA_MALFORMED},
        {"10 " HASH " ima-buf sha256:" HEX32 " .ima\n", FORE_IMA_MALFORMED},
        {"10 " HASH " ima-ng sha256:" HEX32 " /a\n", FORE_IMA_TEMPLATE_HASH},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autoptr(GBytes) bytes = g_bytes_new(lines[i].line, strlen(lines[i].line));
        ForeImaResult result;

        assert_reason(fore_ima_replay(bytes, FORE_ALG_SHA256, NULL, &result), lines[i].reason);
    }
    {
        static const char nul[] = "10 " HASH " ima-ng sha256:" HEX32 " /a\0b\n";
        g_autoptr(GBytes) bytes = g_bytes_new(nul, sizeof(nul) - 1);
        ForeImaResult result;

        assert_reason(fore_ima_replay(bytes, FORE_ALG_SHA256, NULL, &result), FORE_IMA_MALFORMED);
    }
}

static void test_malformed_binary(void)
{
    g_autofree char *longest = g_strnfill(FORE_IMA_MAX_PATH, 'a');
    g_autofree char *longer = g_strnfill(FORE_IMA_MAX_PATH + 1, 'a');
    uint8_t digest[32] = {1};
    ForeTestIma e = {.template = "ima-ng",
                     .alg = "sha256",
                     .digest = digest,
                     .digest_size = 32,
                     .path = longest};
    static const struct {
        unsigned at;
        uint32_t value;
        ForeImaReason reason;
    } bad[] = {
        {24, 0, FORE_IMA_TEMPLATE},           {24, 17, FORE_IMA_TEMPLATE},
        {24, 0xffffffff, FORE_IMA_TEMPLATE},  {28, 0x2d616d69, FORE_IMA_REPLAY /* "ima-" */},
        {34, 0xffffffff, FORE_IMA_TRUNCATED}, {34, 0, FORE_IMA_MALFORMED},
        {38, 0xffffffff, FORE_IMA_MALFORMED}, {38, 0, FORE_IMA_MALFORMED},
        {38, 39, FORE_IMA_MALFORMED},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_auto(Case) c = case_new();
        uint32_t le = GUINT32_TO_LE(bad[i].value);

        memcpy(c.list->data + bad[i].at, &le, 4);
        assert_bytes(&c, bad[i].reason);
    }
    {
        g_auto(Case) c = case_new();

        fore_test_ima_binary(c.list, &e);
        g_assert_true(fore_ima_policy_allow(c.policy, longest, digest, 32, NULL));
        assert_whole(&c, FORE_IMA_OK);
        e.path = longer;
        fore_test_ima_binary(c.list, &e);
        fore_ima_state_reset(c.state);
        assert_bytes(&c, FORE_IMA_MALFORMED);
    }
}

static void test_weak_digests(void)
{
    static const struct {
        const char *alg;
        size_t size;
    } algs[] = {{"sha1", 20}, {"md5", 16}, {"sm3", 32}, {"unknown", 28}};
    uint8_t digest[64] = {9};

    for (unsigned i = 0; i < G_N_ELEMENTS(algs); i++) {
        g_auto(Case) c = case_new();
        ForeTestIma e = {.template = "ima-ng",
                         .alg = algs[i].alg,
                         .digest = digest,
                         .digest_size = algs[i].size,
                         .path = "/bin/sh"};

        fore_test_ima_binary(c.list, &e);
        assert_whole(&c, FORE_IMA_HASH_ALGORITHM);
        g_assert_true(i != 0 || !fore_ima_policy_allow(c.policy, NULL, digest, 20, NULL));
    }
}

/* --- 68, 69, 70 --- */

typedef struct {
    EVP_PKEY *key;
    GBytes *pem;
    uint8_t id[4];
} Signer;

static Signer signer_new(EVP_PKEY *key)
{
    Signer s = {.key = key};
    BIO *bio = BIO_new(BIO_s_mem());
    X509_PUBKEY *pub = NULL;
    const uint8_t *bits;
    char *text;
    long n;
    int size;
    uint8_t sha1[20];

    g_assert_cmpint(PEM_write_bio_PUBKEY(bio, key), ==, 1);
    n = BIO_get_mem_data(bio, &text);
    s.pem = g_bytes_new(text, (gsize)n);
    BIO_free(bio);
    X509_PUBKEY_set(&pub, key);
    X509_PUBKEY_get0_param(NULL, &bits, &size, NULL, pub);
    EVP_Digest(bits, (size_t)size, sha1, NULL, EVP_sha1(), NULL);
    memcpy(s.id, sha1 + 16, 4);
    X509_PUBKEY_free(pub);
    return s;
}

static void signer_done(Signer *s)
{
    EVP_PKEY_free(s->key);
    g_bytes_unref(s->pem);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Signer, signer_done)

/* signature_v2_hdr over @digest */
static GByteArray *sign(const Signer *s, const uint8_t digest[32])
{
    GByteArray *out = g_byte_array_new();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(s->key, NULL);
    uint8_t sig[512];
    size_t size = sizeof(sig);

    EVP_PKEY_sign_init(ctx);
    if (EVP_PKEY_is_a(s->key, "RSA")) {
        EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING);
    }
    EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256());
    g_assert_cmpint(EVP_PKEY_sign(ctx, sig, &size, digest, 32), ==, 1);
    EVP_PKEY_CTX_free(ctx);
    fore_put_u8(out, 3);
    fore_put_u8(out, 2);
    fore_put_u8(out, 4);
    g_byte_array_append(out, s->id, 4);
    fore_put_be16(out, (uint16_t)size);
    g_byte_array_append(out, sig, (guint)size);
    return out;
}

static void add_signed(Case *c, const char *path, const char *content, const GByteArray *sig)
{
    uint8_t digest[32];
    ForeTestIma e = {.template = "ima-sig",
                     .alg = "sha256",
                     .digest = digest,
                     .digest_size = 32,
                     .path = path,
                     .extra = sig->data,
                     .extra_size = sig->len};

    fore_test_sha256(content, digest);
    fore_test_ima_binary(c->list, &e);
}

static void trust(Case *c, const Signer *s)
{
    g_assert_true(fore_ima_policy_add_key(c->policy, g_bytes_get_data(s->pem, NULL),
                                          g_bytes_get_size(s->pem), NULL));
}

static void assert_signed(const Signer *trusted, const GByteArray *sig, const char *content,
                          ForeImaReason want)
{
    g_auto(Case) c = case_new();

    if (trusted != NULL) {
        trust(&c, trusted);
    }
    add_signed(&c, "/bin/signed", content, sig);
    assert_whole(&c, want);
}

static void test_signatures(void)
{
    Signer keys[2] = {signer_new(EVP_EC_gen("P-256")), signer_new(EVP_RSA_gen(2048))};
    uint8_t digest[32];

    fore_test_sha256("content", digest);
    for (unsigned k = 0; k < 2; k++) {
        g_autoptr(GByteArray) sig = sign(&keys[k], digest);
        g_autoptr(GByteArray) bad = NULL;

        assert_signed(&keys[k], sig, "content", FORE_IMA_OK);
        assert_signed(&keys[1 - k], sig, "content", FORE_IMA_SIGNATURE_KEY);
        assert_signed(NULL, sig, "content", FORE_IMA_SIGNATURE_KEY);
        assert_signed(&keys[k], sig, "other content", FORE_IMA_SIGNATURE);
        bad = g_byte_array_new();
        g_byte_array_append(bad, sig->data, sig->len);
        bad->data[bad->len - 1] ^= 1;
        assert_signed(&keys[k], bad, "content", FORE_IMA_SIGNATURE);
        bad->data[bad->len - 1] ^= 1;
        bad->data[2] = 2; /* over a SHA-1 */
        assert_signed(&keys[k], bad, "content", FORE_IMA_SIGNATURE);
        bad->data[2] = 4;
        bad->data[3] ^= 1; /* key id */
        assert_signed(&keys[k], bad, "content", FORE_IMA_SIGNATURE_KEY);
        bad->data[3] ^= 1;
        memcpy(bad->data + 3, keys[1 - k].id, 4);
        assert_signed(&keys[1 - k], bad, "content", FORE_IMA_SIGNATURE);
    }
    signer_done(&keys[0]);
    signer_done(&keys[1]);
}

static void test_signature_form(void)
{
    g_auto(Signer) key = signer_new(EVP_EC_gen("P-256"));
    uint8_t digest[32];
    g_autoptr(GByteArray) sig = NULL;

    fore_test_sha256("content", digest);
    sig = sign(&key, digest);
    for (guint n = 1; n < sig->len; n++) { /* cut anywhere */
        g_autoptr(GByteArray) cut = g_byte_array_new();

        g_byte_array_append(cut, sig->data, n);
        assert_signed(&key, cut, "content", FORE_IMA_SIGNATURE_MALFORMED);
    }
    for (unsigned i = 0; i < 5; i++) {
        static const struct {
            unsigned at;
            uint8_t value;
        } bad[] = {{0, 1}, {0, 6}, {1, 1}, {1, 3}, {8, 1}};
        uint8_t before = sig->data[bad[i].at];

        sig->data[bad[i].at] = bad[i].value;
        assert_signed(&key, sig, "content", FORE_IMA_SIGNATURE_MALFORMED);
        sig->data[bad[i].at] = before;
    }
    sig->data[0] = 5; /* EVM's portable one: signs no content */
    assert_signed(&key, sig, "content", FORE_IMA_UNLISTED);
}

static void test_signature_limit(void)
{
    g_auto(Signer) key = signer_new(EVP_EC_gen("P-256"));
    g_auto(Case) c = case_new();
    uint8_t digest[32];
    g_autoptr(GByteArray) sig = NULL;

    fore_test_sha256("content", digest);
    sig = sign(&key, digest);
    trust(&c, &key);
    fore_ima_policy_set(c.policy, false, 3);
    for (unsigned i = 0; i < 4; i++) {
        g_autofree char *path = g_strdup_printf("/bin/%u", i);

        add_signed(&c, path, "content", sig);
    }
    assert_whole(&c, FORE_IMA_SIGNATURE_LIMIT);
    fore_ima_policy_set(c.policy, false, 4);
    assert_whole(&c, FORE_IMA_OK);
}

static GBytes *certificate(EVP_PKEY *key)
{
    X509 *cert = X509_new();
    uint8_t *der = NULL;
    int size;
    GBytes *ret;

    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_time_adj_ex(X509_getm_notBefore(cert), -1, 0, NULL);
    X509_time_adj_ex(X509_getm_notAfter(cert), 1, 0, NULL);
    X509_set_pubkey(cert, key);
    g_assert_cmpint(X509_sign(cert, key, EVP_sha256()), >, 0);
    size = i2d_X509(cert, &der);
    ret = g_bytes_new(der, (gsize)size);
    OPENSSL_free(der);
    X509_free(cert);
    return ret;
}

static void add_buffer(Case *c, const char *name, GBytes *data, const uint8_t *digest)
{
    uint8_t own[32];
    ForeTestIma e = {.template = "ima-buf",
                     .alg = "sha256",
                     .digest = digest != NULL ? digest : own,
                     .digest_size = 32,
                     .path = name,
                     .extra = g_bytes_get_data(data, NULL),
                     .extra_size = g_bytes_get_size(data)};

    EVP_Digest(e.extra, e.extra_size, own, NULL, EVP_sha256(), NULL);
    fore_test_ima_binary(c->list, &e);
}

static void allow_buffer(Case *c, const char *name, GBytes *data)
{
    uint8_t digest[32];

    EVP_Digest(g_bytes_get_data(data, NULL), g_bytes_get_size(data), digest, NULL, EVP_sha256(),
               NULL);
    g_assert_true(fore_ima_policy_allow_buffer(c->policy, name, digest, 32, NULL));
}

static void test_learned_key(void)
{
    g_auto(Signer) key = signer_new(EVP_EC_gen("P-256"));
    g_autoptr(GBytes) cert = certificate(key.key);
    uint8_t digest[32];
    g_autoptr(GByteArray) sig = NULL;

    fore_test_sha256("content", digest);
    sig = sign(&key, digest);
    for (unsigned listed = 0; listed < 4; listed++) {
        g_auto(Case) c = case_new();

        if (listed == 1) { /* on another keyring than the listed one */
            allow_buffer(&c, ".other", cert);
        } else if (listed == 2) {
            allow_buffer(&c, ".ima", cert);
        }
        add_buffer(&c, ".ima", cert, listed == 3 ? digest : NULL);
        if (listed == 3) { /* listed digest, other bytes */
            g_assert_true(fore_ima_policy_allow_buffer(c.policy, ".ima", digest, 32, NULL));
        }
        add_signed(&c, "/bin/signed", "content", sig);
        assert_whole(&c, listed == 2 ? FORE_IMA_OK : FORE_IMA_KEYRING);
    }
}

/* A key learned in one slice holds in the next one, and not after a reboot. */
static void test_learned_key_stays(void)
{
    g_auto(Signer) key = signer_new(EVP_EC_gen("P-256"));
    g_autoptr(GBytes) cert = certificate(key.key);
    g_auto(Case) c = case_new();
    g_autoptr(GByteArray) sig = NULL;
    ForeImaResult result;
    uint8_t digest[32];
    guint at;

    allow_buffer(&c, ".ima", cert);
    add_buffer(&c, ".ima", cert, NULL);
    assert_whole(&c, FORE_IMA_OK);
    at = c.list->len;
    fore_test_sha256("content", digest);
    sig = sign(&key, digest);
    add_signed(&c, "/bin/signed", "content", sig);
    fore_test_ima_proved(c.list, c.pcrs);
    assert_reason(judge_at(&c, at, c.list->len, &result), FORE_IMA_OK);
    fore_ima_state_reset(c.state);
    assert_reason(judge_at(&c, at, c.list->len, &result), FORE_IMA_GAP);
}

static void test_buffer(void)
{
    g_auto(Case) c = case_new();
    g_autoptr(GBytes) line = g_bytes_new("quiet", 5);

    add_buffer(&c, "kexec-cmdline", line, NULL);
    assert_whole(&c, FORE_IMA_BUFFER);
    allow_buffer(&c, "kexec-cmdline", line);
    assert_whole(&c, FORE_IMA_OK);
}

static void test_rejected(void)
{
    g_auto(Signer) key = signer_new(EVP_EC_gen("P-256"));
    g_auto(Case) c = case_new();
    g_autoptr(GByteArray) sig = NULL;
    uint8_t digest[32];

    fore_test_sha256("content", digest);
    sig = sign(&key, digest);
    trust(&c, &key);
    allow(c.policy, "/bin/signed", "content");
    add_signed(&c, "/bin/signed", "content", sig); /* listed and signed well */
    g_assert_true(fore_ima_policy_reject(c.policy, digest, 32, NULL));
    assert_whole(&c, FORE_IMA_REJECTED);
}

static void test_rejected_though_excluded(void)
{
    g_auto(Case) c = case_new();
    uint8_t digest[32];

    fore_test_sha256("content", digest);
    g_assert_true(fore_ima_policy_reject(c.policy, digest, 32, NULL));
    g_assert_true(fore_ima_policy_exclude(c.policy, "/tmp/**", NULL));
    fore_test_ima_file(c.list, "/tmp/x", "content");
    assert_whole(&c, FORE_IMA_REJECTED);
}

static void test_signed_but_listed_otherwise(void)
{
    g_auto(Signer) key = signer_new(EVP_EC_gen("P-256"));
    g_auto(Case) c = case_new();
    g_autoptr(GByteArray) sig = NULL;
    uint8_t digest[32];

    fore_test_sha256("content", digest);
    sig = sign(&key, digest);
    trust(&c, &key);
    allow(c.policy, "/bin/signed", "the content that is wanted");
    add_signed(&c, "/bin/signed", "content", sig);
    assert_whole(&c, FORE_IMA_DIGEST_MISMATCH);
}

static void test_unlisted(void)
{
    g_auto(Case) c = case_new();
    ForeImaResult result;

    fore_test_ima_file(c.list, "/bin/evil\n", "evil");
    fore_test_ima_proved(c.list, c.pcrs);
    assert_reason(judge_at(&c, 0, c.list->len, &result), FORE_IMA_UNLISTED);
    g_assert_cmpstr(result.path, ==, "/bin/evil?");
    allow(c.policy, NULL, "evil"); /* under any name */
    assert_whole(&c, FORE_IMA_OK);
}

/* --- 71 --- */

static void test_exclusions(void)
{
    static const char *const refused[] = {
        "",
        "tmp",
        "tmp/**",
        "/",
        "//",
        "/*",
        "/**",
        "*",
        "**",
        "/tmp",
        "/*/x",
        "/t*/x",
        "/**/x",
        "/tmp/**/x",
        "/tmp/a**",
        "/tmp/***",
        "/tmp/(a+)+$",
        "/tmp/[a-z]",
        "/tmp/a|b",
        "/tmp/.+",
        "/tmp/\\d",
        "/tmp/a?",
        "/tmp/^x",
        "/tmp/a{1,9}",
        "/tmp/\n",
        "/tmp/\xc3\xa4",
    };
    static const struct {
        const char *pattern, *path;
        bool excluded;
    } matches[] = {
        {"/tmp/**", "/tmp/a", true},        {"/tmp/**", "/tmp/a/b", true},
        {"/tmp/**", "/tmpx/a", false},      {"/tmp/**", "/usr/tmp/a", false},
        {"/tmp/*", "/tmp/a", true},         {"/tmp/*", "/tmp/a/b", false},
        {"/var/*.log", "/var/a.log", true}, {"/var/*.log", "/var/a.logx", false},
        {"/var/*/x", "/var/a/x", true},     {"/var/*/x", "/var/a/b/x", false},
        {"/var/a*b*c", "/var/aXbXc", true}, {"/var/a*b*c", "/var/aXbX", false},
        {"/var/x", "/var/x", true},         {"/var/x", "/var/xy", false},
    };
    g_autofree char *longer = g_strnfill(300, 'a');
    g_autofree char *slow = NULL, *victim = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_autoptr(ForeImaPolicy) policy = fore_ima_policy_new();
        g_autoptr(GError) error = NULL;

        g_assert_false(fore_ima_policy_exclude(policy, refused[i], &error));
        g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(matches); i++) {
        g_auto(Case) c = case_new();

        g_assert_true(fore_ima_policy_exclude(c.policy, matches[i].pattern, NULL));
        fore_test_ima_file(c.list, matches[i].path, "x");
        assert_whole(&c, matches[i].excluded ? FORE_IMA_OK : FORE_IMA_UNLISTED);
    }
    {
        /* What sends a backtracking matcher into years is a few thousand steps here. */
        g_auto(Case) c = case_new();

        slow = g_strdup("/var/a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b");
        victim = g_strconcat("/var/", longer, NULL);
        g_assert_true(fore_ima_policy_exclude(c.policy, slow, NULL));
        fore_test_ima_file(c.list, victim, "x");
        assert_whole(&c, FORE_IMA_UNLISTED);
        g_assert_false(fore_ima_policy_exclude(c.policy, victim, NULL)); /* longer than a pattern */
    }
}

static void test_empty_policy(void)
{
    g_auto(Case) c = case_new();

    fore_ima_policy_free(c.policy);
    c.policy = fore_ima_policy_new();
    assert_whole(&c, FORE_IMA_POLICY);
    g_assert_true(fore_ima_policy_exclude(c.policy, "/bin/**", NULL)); /* exclusions hold nothing */
    assert_whole(&c, FORE_IMA_POLICY);
    fore_ima_policy_free(c.policy);
    c.policy = NULL;
    assert_whole(&c, FORE_IMA_POLICY);
}

/* --- 72 --- */

static void test_boot_aggregate(void)
{
    static const char *const how[] = {"missing", "zero", "other", "sha1", "late-other"};

    for (unsigned i = 0; i < G_N_ELEMENTS(how); i++) {
        g_auto(Case) c = case_new();
        uint8_t digest[32] = {0}, pcrs[24][32] = {{2}};
        ForeTestIma e = {.template = "ima-ng",
                         .alg = i == 3 ? "sha1" : "sha256",
                         .digest = digest,
                         .digest_size = i == 3 ? 20 : 32,
                         .path = "boot_aggregate"};

        if (i < 4) {
            g_byte_array_set_size(c.list, 0);
        }
        if (i == 1 || i == 3) {
            fore_test_ima_binary(c.list, &e);
        } else if (i == 2 || i == 4) {
            fore_test_ima_start(c.list, (const uint8_t(*)[32])pcrs, false);
        }
        fore_test_ima_file(c.list, "/sbin/init", "init");
        assert_whole(&c, FORE_IMA_BOOT_AGGREGATE);
    }
    {
        g_auto(Case) c = case_new();

        fore_test_ima_start(c.list, (const uint8_t(*)[32])c.pcrs, false); /* a kexec */
        assert_whole(&c, FORE_IMA_OK);
    }
}

/* --- 73, 27 --- */

static void test_offsets(void)
{
    g_auto(Case) c = case_new();
    ForeImaResult result;
    guint at = c.list->len;

    assert_whole(&c, FORE_IMA_OK);
    fore_test_ima_file(c.list, "/bin/sh", "shell");
    fore_test_ima_proved(c.list, c.pcrs);
    assert_reason(judge_at(&c, at + 1, c.list->len, &result), FORE_IMA_GAP);
    assert_reason(judge_at(&c, c.list->len, c.list->len, &result), FORE_IMA_GAP);
    assert_reason(judge_at(&c, at - 1, c.list->len, &result), FORE_IMA_OVERLAP);
    assert_reason(judge_at(&c, 0, c.list->len, &result), FORE_IMA_OVERLAP);
    assert_reason(judge_at(&c, at, at, &result), FORE_IMA_REPLAY); /* quote is ahead */
    assert_reason(judge_at(&c, at, c.list->len - 1, &result), FORE_IMA_TRUNCATED);
    assert_reason(judge_at(&c, at, c.list->len, &result), FORE_IMA_OK);
    assert_reason(judge_at(&c, c.list->len, c.list->len, &result), FORE_IMA_OK); /* nothing new */
    g_assert_cmpuint(fore_ima_state_entries(c.state), ==, 4);
}

/* A list that grew after the quote: only what was quoted is judged, the rest stays for later. */
static void test_log_ahead_of_quote(void)
{
    g_auto(Case) c = case_new();
    guint quoted = c.list->len;
    ForeImaResult result;

    fore_test_ima_proved(c.list, c.pcrs);
    fore_test_ima_file(c.list, "/bin/evil", "evil");
    assert_reason(judge_at(&c, 0, c.list->len, &result), FORE_IMA_OK);
    g_assert_cmpuint(fore_ima_state_offset(c.state), ==, quoted);
    fore_test_ima_proved(c.list, c.pcrs);
    assert_reason(judge_at(&c, quoted, c.list->len, &result), FORE_IMA_UNLISTED);
}

static void test_missing(void)
{
    g_auto(Case) c = case_new();
    ForeImaSlice nothing = {.bytes = NULL};
    ForeImaResult result;

    assert_reason(
        fore_ima_judge(c.state, c.policy, &nothing, (const uint8_t(*)[32])c.pcrs, &result),
        FORE_IMA_MISSING);
}

/* --- 74 --- */

/* What IMA cannot see is written down; what it can: a second name for listed content, and a listed
 * name for other content. */
static void test_blind_spots(void)
{
    g_auto(Case) c = case_new();

    fore_test_ima_file(c.list, "/bin/renamed", "shell");
    assert_whole(&c, FORE_IMA_UNLISTED);
    g_assert_true(fore_ima_policy_exclude(c.policy, "/tmp/**", NULL));
    g_byte_array_set_size(c.list, 0);
    fore_test_ima_start(c.list, (const uint8_t(*)[32])c.pcrs, false);
    fore_test_ima_file(c.list, "/tmp/anything", "evil"); /* an exclusion is a hole */
    assert_whole(&c, FORE_IMA_OK);
}

/* --- 75 --- */

/* A million entries in slices, none of them kept. */
static void test_million(void)
{
    enum { ENTRIES = 1000000 };
    g_autoptr(ForeImaPolicy) policy = fore_ima_policy_new();
    g_autoptr(ForeImaState) state = fore_ima_state_new();
    g_autoptr(GByteArray) slice = g_byte_array_new();
    uint8_t pcrs[24][32] = {{3}};
    ForeImaResult result = {0};
    uint64_t offset = 0;

    allow(policy, "/bin/sh", "shell");
    memset(pcrs[10], 0x77, 32);
    fore_test_ima_start(slice, (const uint8_t(*)[32])pcrs, false);
    {
        g_autoptr(GByteArray) one = g_byte_array_new();

        fore_test_ima_file(one, "/bin/sh", "shell");
        for (unsigned n = 1; n < ENTRIES; n++) {
            bool last = n == ENTRIES - 1;

            g_byte_array_append(slice, one->data, one->len);
            if (slice->len + one->len > (4u << 20) || last) {
                g_autoptr(GBytes) bytes = fore_test_bytes(slice);
                ForeImaSlice s = {.bytes = bytes, .offset = offset, .more = true};

                assert_reason(
                    fore_ima_judge(state, policy, &s, (const uint8_t(*)[32])pcrs, &result),
                    FORE_IMA_OK);
                g_assert_cmpuint(result.consumed, ==, slice->len);
                g_assert_false(result.proved);
                offset += slice->len;
                g_byte_array_set_size(slice, 0);
            }
        }
    }
    g_assert_cmpuint(fore_ima_state_entries(state), ==, ENTRIES);
    g_assert_cmpuint(fore_ima_state_offset(state), ==, offset);
}

static void test_too_large(void)
{
    g_auto(Case) c = case_new();

    g_byte_array_set_size(c.list, FORE_IMA_MAX + 1);
    assert_bytes(&c, FORE_IMA_TOO_LARGE);
}

/* --- 97 --- */

/* Root of the guest extends PCR 10 with a value of its choice: from then on nothing fits. */
static void test_chosen_extend(void)
{
    g_auto(Case) c = case_new();
    uint8_t both[64];
    ForeImaResult result;

    fore_test_ima_proved(c.list, c.pcrs);
    memcpy(both, c.pcrs[10], 32);
    memset(both + 32, 0x42, 32);
    EVP_Digest(both, sizeof(both), c.pcrs[10], NULL, EVP_sha256(), NULL);
    assert_reason(judge_at(&c, 0, c.list->len, &result), FORE_IMA_REPLAY);
}

/* --- mutations --- */

static void test_bit_flips(void)
{
    g_auto(Case) c = case_new();
    ForeImaResult result;

    fore_test_ima_proved(c.list, c.pcrs);
    for (guint bit = 0; bit < 8 * c.list->len; bit++) {
        c.list->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        g_assert_cmpint(judge_at(&c, 0, c.list->len, &result), !=, FORE_IMA_OK);
        c.list->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (guint n = 0; n < c.list->len; n++) {
        g_assert_cmpint(judge_at(&c, 0, n, &result), !=, FORE_IMA_OK);
    }
    assert_reason(judge_at(&c, 0, c.list->len, &result), FORE_IMA_OK);
}

static void test_names(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (unsigned i = 0; i < FORE_IMA_N; i++) {
        const char *name = fore_ima_reason_name(i);

        g_assert_true(g_hash_table_add(seen, (gpointer)name));
        g_assert_true(i == 0 || g_str_has_prefix(name, "ima-"));
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*run)(void);
    } tests[] = {
        {"/attest/imalog/a-good-list-is-accepted", test_good},
        {"/attest/imalog/text-and-binary-say-the-same", test_text},
        {"/attest/imalog/names-are-stable-and-distinct", test_names},
        {"/attest/imalog/every-bit-flip-and-truncation-is-refused", test_bit_flips},
        {"/attest/imalog/an-unlisted-file-is-refused", test_unlisted},
        {"/attest/imalog/a-slice-is-bounded", test_too_large},
        {"/attest/attack/27-list-ahead-of-the-quote", test_log_ahead_of_quote},
        {"/attest/attack/62-empty-list-and-empty-policy", test_empty_policy},
        {"/attest/attack/62-no-list", test_missing},
        {"/attest/attack/64-violation", test_violation},
        {"/attest/attack/64-feigned-violation", test_feigned_violation},
        {"/attest/attack/65-template-hash", test_template_hash},
        {"/attest/attack/66-pcr-column", test_pcr_column},
        {"/attest/attack/67-malformed-text", test_malformed_text},
        {"/attest/attack/67-malformed-binary", test_malformed_binary},
        {"/attest/attack/67-weak-and-unknown-digests", test_weak_digests},
        {"/attest/attack/68-signatures", test_signatures},
        {"/attest/attack/68-signature-header", test_signature_form},
        {"/attest/attack/68-signature-limit", test_signature_limit},
        {"/attest/attack/69-learned-key", test_learned_key},
        {"/attest/attack/69-learned-key-ends-with-the-boot", test_learned_key_stays},
        {"/attest/attack/69-unlisted-buffer", test_buffer},
        {"/attest/attack/70-reject-list-wins", test_rejected},
        {"/attest/attack/70-reject-list-wins-over-exclusion", test_rejected_though_excluded},
        {"/attest/attack/70-signed-but-listed-otherwise", test_signed_but_listed_otherwise},
        {"/attest/attack/71-exclusions", test_exclusions},
        {"/attest/attack/72-boot-aggregate", test_boot_aggregate},
        {"/attest/attack/73-offsets", test_offsets},
        {"/attest/attack/74-blind-spots", test_blind_spots},
        {"/attest/attack/75-a-million-entries", test_million},
        {"/attest/attack/97-chosen-extend", test_chosen_extend},
    };

    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add_func(tests[i].path, tests[i].run);
    }
    return g_test_run();
}
