/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Judging logs against hashing them: an event log and IMA lists of our own making, each judged
 * whole (structure, template hashes, replay, policy), and SHA-256 over the same bytes, in turn, in
 * the same run.  Judging quotes against the bare signature check.  Prints JSON; see tools/bench.
 */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/fore-bytes.h"
#include "tests/lib/fore-test-key.h"
#include "tests/lib/fore-test-log.h"
#include "vtpm/attest/fore-ak.h"
#include "vtpm/attest/fore-eventlog.h"
#include "vtpm/attest/fore-imalog.h"
#include "vtpm/attest/fore-quote.h"

#define ROUNDS        9
#define EVENTS        400   /* of a long boot */
#define REPEAT        200   /* times that a log is judged in one round */
#define ENTRIES       60000 /* of a list */
#define LISTED        60000 /* other files in the policy */
#define VERIFICATIONS 1000

typedef struct {
    const char *what;
    GBytes *bytes;
    unsigned n, repeat;
    uint8_t pcrs[24][32];
    ForeImaPolicy *policy; /* NULL: an event log */
} Log;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static Log event_log(void)
{
    Log l = {.what = "log-replay-vs-sha256/eventlog", .n = EVENTS, .repeat = REPEAT};
    g_autoptr(GByteArray) log = fore_test_eventlog_boot();

    for (unsigned i = 0; i < EVENTS; i++) {
        g_autofree char *text = g_strdup_printf("grub_cmd: load module number %u of this boot", i);

        fore_test_eventlog_text(log, 8 + i % 2, 0x0d, text);
    }
    fore_test_eventlog_proved(log, l.pcrs);
    l.bytes = fore_test_bytes(log);
    return l;
}

static Log ima_list(bool text)
{
    Log l = {.what = text ? "log-replay-vs-sha256/ima-text" : "log-replay-vs-sha256/ima-binary",
             .n = ENTRIES,
             .repeat = 1,
             .policy = fore_ima_policy_new(),
             .pcrs = {{1}}};
    g_autoptr(GByteArray) list = g_byte_array_new();

    fore_test_ima_start(list, (const uint8_t(*)[32])l.pcrs, text);
    for (unsigned i = 0; i < ENTRIES + LISTED; i++) {
        g_autofree char *path =
            g_strdup_printf("/usr/lib/x86_64-linux-gnu/some-package/file-%u.so", i);
        uint8_t digest[32];
        ForeTestIma e = {.template = "ima-ng",
                         .alg = "sha256",
                         .digest = digest,
                         .digest_size = 32,
                         .path = path};

        fore_test_sha256(path, digest);
        g_assert(fore_ima_policy_allow(l.policy, path, digest, 32, NULL));
        if (i < ENTRIES && text) {
            fore_test_ima_text(list, &e);
        } else if (i < ENTRIES) {
            fore_test_ima_binary(list, &e);
        }
    }
    fore_test_ima_proved(list, l.pcrs);
    l.bytes = fore_test_bytes(list);
    return l;
}

static void judge(const Log *l)
{
    if (l->policy == NULL) {
        ForeEventlogPolicy policy = {.pcr_mask = 0x3ff, .require_secure_boot = true};
        ForeEventlogResult result;

        g_assert(fore_eventlog_judge(l->bytes, &policy, (const uint8_t(*)[32])l->pcrs, &result) ==
                 FORE_EVENTLOG_OK);
    } else {
        g_autoptr(ForeImaState) state = fore_ima_state_new();
        ForeImaSlice slice = {.bytes = l->bytes};
        ForeImaResult result;

        g_assert(fore_ima_judge(state, l->policy, &slice, (const uint8_t(*)[32])l->pcrs, &result) ==
                 FORE_IMA_OK);
        g_assert(result.proved);
    }
}

static void hash(const Log *l)
{
    uint8_t digest[32];

    g_assert(EVP_Digest(g_bytes_get_data(l->bytes, NULL), g_bytes_get_size(l->bytes), digest, NULL,
                        EVP_sha256(), NULL) == 1);
}

static double timed(void (*run)(const Log *), const Log *l)
{
    double start = now();

    for (unsigned i = 0; i < l->repeat; i++) {
        run(l);
    }
    return (now() - start) / l->repeat;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof(values[0]), compare);
    return values[ROUNDS / 2];
}

static void print_row(const Log *l, bool last)
{
    double ours[ROUNDS], anchor[ROUNDS], ratio[ROUNDS], mid, mib;

    timed(judge, l); /* warm */
    for (unsigned i = 0; i < ROUNDS; i++) {
        ours[i] = timed(judge, l);
        anchor[i] = timed(hash, l);
        ratio[i] = ours[i] / anchor[i];
    }
    mid = median(ratio);
    mib = (double)g_bytes_get_size(l->bytes) / (1 << 20);
    printf("  {\"what\": \"%s\", \"ours\": %.9g, \"anchor\": %.9g, \"ratio\": %.4g, "
           "\"spread\": %.3g, \"unit\": \"CPU s; %.3f us an entry, %.2f ms a MiB\"}%s\n",
           l->what, median(ours), median(anchor), mid, (ratio[ROUNDS - 1] - ratio[0]) / mid,
           median(ours) * 1e6 / l->n, median(ours) * 1e3 / mib, last ? "" : ",");
}

/* ---- quotes: the whole judgement against the bare signature check of the same key ---- */

typedef struct {
    const char *what;
    ForeTestKey key;
    ForeQuoteExpect expect;
    GBytes *public, *extra, *attest, *signature;
    uint8_t raw[512]; /* as OpenSSL takes it */
    size_t raw_size;
} Quote;

static const uint8_t zeros[24][32];

static void quote_init(Quote *q, const char *what, const char *kind, uint16_t scheme)
{
    GByteArray *out = g_byte_array_new();
    g_autoptr(GBytes) signer = NULL;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t digest[32];

    *q = (Quote){.what = what, .extra = g_bytes_new_static("0123456789abcdef0123456789abcdef", 32)};
    fore_test_key_init(&q->key, kind, scheme, FORE_ALG_SHA256);
    q->public = fore_test_key_public(&q->key);
    signer = fore_ak_qualified_name(q->public, NULL);
    fore_put_be32(out, 0xff544347);
    fore_put_be16(out, 0x8018);
    fore_put_be16(out, (uint16_t)g_bytes_get_size(signer));
    g_byte_array_append(out, g_bytes_get_data(signer, NULL), (guint)g_bytes_get_size(signer));
    fore_put_be16(out, 32);
    g_byte_array_append(out, g_bytes_get_data(q->extra, NULL), 32);
    fore_put_be64(out, 1000);
    fore_put_be64(out, 1);
    fore_put_u8(out, 1);
    fore_put_be64(out, 1);
    fore_put_be32(out, 1);
    fore_put_be16(out, FORE_ALG_SHA256);
    fore_put_be32(out, 0x03ffff00);
    fore_put_be16(out, 32);
    EVP_Digest(zeros, 16 * 32, digest, NULL, EVP_sha256(), NULL);
    g_byte_array_append(out, digest, 32);
    q->attest = g_byte_array_free_to_bytes(out);
    q->signature = fore_test_key_sign(&q->key, q->attest);
    q->expect = (ForeQuoteExpect){
        .ak_public = q->public, .extra = q->extra, .pcr_mask = 0xffff, .pcrs = zeros};
    q->raw_size = sizeof(q->raw);
    g_assert(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, q->key.pkey) == 1 &&
             EVP_DigestSign(ctx, q->raw, &q->raw_size, g_bytes_get_data(q->attest, NULL),
                            g_bytes_get_size(q->attest)) == 1);
    EVP_MD_CTX_free(ctx);
}

static void quote_done(Quote *q)
{
    fore_test_key_done(&q->key);
    g_bytes_unref(q->public);
    g_bytes_unref(q->extra);
    g_bytes_unref(q->attest);
    g_bytes_unref(q->signature);
}

static double verify_ours(const Quote *q)
{
    double start = now();

    for (unsigned i = 0; i < VERIFICATIONS; i++) {
        g_assert(fore_quote_verify(&q->expect, q->attest, q->signature, NULL) == FORE_QUOTE_OK);
    }
    return VERIFICATIONS / (now() - start);
}

static double verify_bare(const Quote *q)
{
    double start = now();

    for (unsigned i = 0; i < VERIFICATIONS; i++) {
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();

        g_assert(EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, q->key.pkey) == 1 &&
                 EVP_DigestVerify(ctx, q->raw, q->raw_size, g_bytes_get_data(q->attest, NULL),
                                  g_bytes_get_size(q->attest)) == 1);
        EVP_MD_CTX_free(ctx);
    }
    return VERIFICATIONS / (now() - start);
}

static void print_quote(const Quote *q)
{
    double ours[ROUNDS], anchor[ROUNDS], ratio[ROUNDS], mid;

    for (unsigned i = 0; i < ROUNDS; i++) {
        ours[i] = verify_ours(q);
        anchor[i] = verify_bare(q);
        ratio[i] = ours[i] / anchor[i];
    }
    mid = median(ratio);
    printf("  {\"what\": \"%s\", \"ours\": %.6g, \"anchor\": %.6g, \"ratio\": %.4g, "
           "\"spread\": %.3g, \"unit\": \"a CPU s; verifications, more is better\"},\n",
           q->what, median(ours), median(anchor), mid, (ratio[ROUNDS - 1] - ratio[0]) / mid);
}

static void print_quotes(void)
{
    Quote p256, rsa;

    quote_init(&p256, "verify-vs-openssl/p256", "P-256", FORE_ALG_ECDSA);
    quote_init(&rsa, "verify-vs-openssl/rsa2048", "RSA-2048", FORE_ALG_RSASSA);
    print_quote(&p256);
    print_quote(&rsa);
    quote_done(&p256);
    quote_done(&rsa);
}

int main(void)
{
    Log logs[] = {event_log(), ima_list(false), ima_list(true)};

    printf("{\"name\": \"attest\", \"rows\": [\n");
    print_quotes();
    for (unsigned i = 0; i < G_N_ELEMENTS(logs); i++) {
        print_row(&logs[i], i + 1 == G_N_ELEMENTS(logs));
        g_bytes_unref(logs[i].bytes);
        fore_ima_policy_free(logs[i].policy);
    }
    printf("]}\n");
    return 0;
}
