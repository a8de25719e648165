/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Credentials made without a TPM, opened by one. */
#include <string.h>
#include <tss2/tss2_esys.h>
#include <tss2/tss2_mu.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "tests/lib/fore-test-key.h"
#include "tests/lib/fore-test-swtpm.h"
#include "vtpm/attest/fore-ak.h"
#include "vtpm/attest/fore-credential.h"
#include "vtpm/attest/fore-public.h"
#include "vtpm/tpm/fore-tcti.h"
#include "vtpm/tpm/fore-tpm.h"

static ForeTestSwtpm *emulator;

static bool need_swtpm(void)
{
    const char *missing = fore_test_swtpm_missing();

    if (missing != NULL) {
        g_autofree char *why = g_strdup_printf("%s is not installed", missing);
        g_test_skip(why);
        return false;
    }
    if (emulator == NULL) {
        emulator = fore_test_swtpm_new();
    }
    return true;
}

typedef struct {
    ForeTpm *tpm;
    GBytes *ek, *name;
} Node;

static void node_init(Node *n, ForeTestSwtpm *swtpm)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) ak = NULL;

    *n = (Node){0};
    n->tpm = fore_tpm_open(fore_test_swtpm_tcti(swtpm), &error);
    g_assert_no_error(error);
    fore_tpm_ek(n->tpm, &n->ek, NULL, &error);
    g_assert_no_error(error);
    fore_tpm_ak(n->tpm, &ak, &n->name, &error);
    g_assert_no_error(error);
}

static void node_done(Node *n)
{
    g_clear_pointer(&n->tpm, fore_tpm_close);
    g_clear_pointer(&n->ek, g_bytes_unref);
    g_clear_pointer(&n->name, g_bytes_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Node, node_done)

static GBytes *a_secret(void)
{
    return g_bytes_new_static("a challenge of thirty-two bytes.", 32);
}

static void assert_refused(ForeTpm *tpm, GBytes *blob, GBytes *wrapped, int code)
{
    g_autoptr(GBytes) got = NULL;
    g_autoptr(GError) error = NULL;
    unsigned objects = 9, sessions = 9;

    g_assert_false(fore_tpm_activate(tpm, blob, wrapped, &got, &error));
    g_assert_error(error, FORE_ERROR, code);
    g_assert_true(fore_tpm_loaded(tpm, &objects, &sessions, NULL));
    g_assert_cmpuint(objects + sessions, ==, 0);
}

static void test_opens(void)
{
    static const gsize sizes[] = {1, 16, 32};

    if (!need_swtpm()) {
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_auto(Node) n = {0};
        g_autoptr(GBytes) full = a_secret();
        g_autoptr(GBytes) secret = g_bytes_new_from_bytes(full, 0, sizes[i]);
        g_autoptr(GBytes) blob = NULL, wrapped = NULL, got = NULL;
        g_autoptr(GError) error = NULL;

        node_init(&n, emulator);
        fore_credential_make(n.ek, n.name, secret, &blob, &wrapped, &error);
        g_assert_no_error(error);
        fore_tpm_activate(n.tpm, blob, wrapped, &got, &error);
        g_assert_no_error(error);
        g_assert_true(g_bytes_equal(got, secret));
    }
}

/* 36 */
static void test_other_name(void)
{
    g_auto(Node) n = {0};
    g_autoptr(GBytes) secret = a_secret(), blob = NULL, wrapped = NULL, other = NULL;

    if (!need_swtpm()) {
        return;
    }
    node_init(&n, emulator);
    other = fore_test_replace(n.name, 20, "\x01\x02", 2);
    g_assert_true(fore_credential_make(n.ek, other, secret, &blob, &wrapped, NULL));
    assert_refused(n.tpm, blob, wrapped, FORE_ERROR_UNTRUSTED);
}

static void test_other_tpm(void)
{
    g_autoptr(ForeTestSwtpm) second = NULL;
    g_auto(Node) a = {0};
    g_auto(Node) b = {0};
    g_autoptr(GBytes) secret = a_secret(), blob = NULL, wrapped = NULL;

    if (!need_swtpm()) {
        return;
    }
    second = fore_test_swtpm_new();
    node_init(&a, emulator);
    node_init(&b, second);
    /* The name of B's AK under A's EK opens on neither. */
    g_assert_true(fore_credential_make(a.ek, b.name, secret, &blob, &wrapped, NULL));
    assert_refused(a.tpm, blob, wrapped, FORE_ERROR_UNTRUSTED);
    assert_refused(b.tpm, blob, wrapped, FORE_ERROR_UNTRUSTED);
}

static void test_damage(void)
{
    g_auto(Node) n = {0};
    g_autoptr(GBytes) secret = a_secret(), blob = NULL, wrapped = NULL, nothing = NULL, cut = NULL;
    uint8_t byte;

    if (!need_swtpm()) {
        return;
    }
    node_init(&n, emulator);
    g_assert_true(fore_credential_make(n.ek, n.name, secret, &blob, &wrapped, NULL));
    for (gsize i = 4; i < g_bytes_get_size(blob); i += 5) { /* behind the two sizes */
        g_autoptr(GBytes) bad = NULL;
        byte = ((const uint8_t *)g_bytes_get_data(blob, NULL))[i] ^ 0x40;
        bad = fore_test_replace(blob, i, &byte, 1);
        assert_refused(n.tpm, bad, wrapped, FORE_ERROR_UNTRUSTED);
    }
    for (gsize i = 2; i < g_bytes_get_size(wrapped); i += 37) {
        g_autoptr(GBytes) bad = NULL;
        byte = ((const uint8_t *)g_bytes_get_data(wrapped, NULL))[i] ^ 0x40;
        bad = fore_test_replace(wrapped, i, &byte, 1);
        assert_refused(n.tpm, blob, bad, FORE_ERROR_UNTRUSTED);
    }
    nothing = g_bytes_new_static("", 0);
    cut = g_bytes_new_from_bytes(blob, 0, g_bytes_get_size(blob) - 1);
    assert_refused(n.tpm, nothing, wrapped, FORE_ERROR_INVALID);
    assert_refused(n.tpm, blob, nothing, FORE_ERROR_INVALID);
    assert_refused(n.tpm, cut, wrapped, FORE_ERROR_INVALID);
    assert_refused(n.tpm, wrapped, blob, FORE_ERROR_INVALID);
}

/* Put an ECC EK of @curve where ours is looked for, as a TPM with only ECC certificates has it. */
static void replace_ek(uint16_t curve)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *config = g_strdup(strchr(fore_test_swtpm_tcti(emulator), ':') + 1);
    g_autoptr(ForeTcti) tcti = fore_tcti_new(config, &error);
    g_auto(ForeTestKey) shape = {0};
    g_autoptr(GBytes) bytes = NULL;
    ESYS_CONTEXT *esys = NULL;
    ESYS_TR old = ESYS_TR_NONE, key = ESYS_TR_NONE, kept = ESYS_TR_NONE, gone = ESYS_TR_NONE;
    TPM2B_SENSITIVE_CREATE sensitive = {0};
    TPM2B_PUBLIC template = {0};
    TPM2B_DATA outside = {0};
    TPML_PCR_SELECTION pcrs = {0};
    size_t offset = 0;

    g_assert_no_error(error);
    fore_test_key_init(&shape, curve == FORE_CURVE_P256 ? "P-256" : "P-384", FORE_ALG_NULL, 0);
    bytes = fore_test_key_ek_public(&shape);
    g_assert_cmpuint(Tss2_MU_TPM2B_PUBLIC_Unmarshal(g_bytes_get_data(bytes, NULL),
                                                    g_bytes_get_size(bytes), &offset, &template),
                     ==, 0);
    g_assert_cmpuint(Esys_Initialize(&esys, fore_tcti_context(tcti), NULL), ==, 0);
    g_assert_cmpuint(Esys_TR_FromTPMPublic(esys, FORE_TPM_EK_HANDLE, ESYS_TR_NONE, ESYS_TR_NONE,
                                           ESYS_TR_NONE, &old),
                     ==, 0);
    g_assert_cmpuint(Esys_EvictControl(esys, ESYS_TR_RH_OWNER, old, ESYS_TR_PASSWORD, ESYS_TR_NONE,
                                       ESYS_TR_NONE, FORE_TPM_EK_HANDLE, &gone),
                     ==, 0);
    g_assert_cmpuint(Esys_CreatePrimary(esys, ESYS_TR_RH_ENDORSEMENT, ESYS_TR_PASSWORD,
                                        ESYS_TR_NONE, ESYS_TR_NONE, &sensitive, &template, &outside,
                                        &pcrs, &key, NULL, NULL, NULL, NULL),
                     ==, 0);
    g_assert_cmpuint(Esys_EvictControl(esys, ESYS_TR_RH_OWNER, key, ESYS_TR_PASSWORD, ESYS_TR_NONE,
                                       ESYS_TR_NONE, FORE_TPM_EK_HANDLE, &kept),
                     ==, 0);
    Esys_FlushContext(esys, key);
    Esys_Finalize(&esys);
}

static void test_ecc_ek(void)
{
    static const uint16_t curves[] = {FORE_CURVE_P256, FORE_CURVE_P384};

    if (!need_swtpm()) {
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(curves); i++) {
        replace_ek(curves[i]);
        for (unsigned round = 0; round < 3; round++) {
            g_auto(Node) n = {0};
            g_autoptr(GBytes) secret = a_secret(), blob = NULL, wrapped = NULL, got = NULL;
            g_autoptr(GError) error = NULL;

            node_init(&n, emulator);
            fore_credential_make(n.ek, n.name, secret, &blob, &wrapped, &error);
            g_assert_no_error(error);
            fore_tpm_activate(n.tpm, blob, wrapped, &got, &error);
            g_assert_no_error(error);
            g_assert_true(g_bytes_equal(got, secret));
        }
    }
}

/* Known answer of another implementation: seed 0x12.., tpm2-tools format: magic, version, blob */
static void test_vector(void)
{
    g_autoptr(GBytes) ek = fore_test_vector("keylime/makecredential/makecredential-ek_tpm.bin");
    g_autoptr(GBytes) name =
        ek != NULL ? fore_test_vector("keylime/makecredential/makecredential-aik_name.bin") : NULL;
    g_autoptr(GBytes) secret =
        name != NULL ? fore_test_vector("keylime/makecredential/makecredential-challenge.bin")
                     : NULL;
    g_autoptr(GBytes) want =
        secret != NULL ? fore_test_vector("keylime/makecredential/makecredential-expected.bin")
                       : NULL;
    g_autoptr(GBytes) got = NULL;
    guint8 seed[32];

    if (want == NULL) {
        return;
    }
    memset(seed, 0x12, sizeof(seed));
    got = fore_credential_make_seeded(ek, name, secret, seed, sizeof(seed));
    g_assert_nonnull(got);
    g_assert_cmpmem(g_bytes_get_data(got, NULL), g_bytes_get_size(got),
                    (const uint8_t *)g_bytes_get_data(want, NULL) + 8, g_bytes_get_size(got));
}

static void test_refuses(void)
{
    g_auto(ForeTestKey) key = {0};
    g_autoptr(GBytes) ek = NULL, ak = NULL, name = NULL, secret = a_secret();
    g_autoptr(GBytes) blank = g_bytes_new_static("", 0);
    g_autoptr(GBytes) big = g_bytes_new_take(g_malloc0(33), 33);

    fore_test_key_init(&key, "P-256", FORE_ALG_ECDSA, FORE_ALG_SHA256);
    ek = fore_test_key_ek_public(&key);
    ak = fore_test_key_public(&key);
    name = fore_ak_name(ak);
    {
        GBytes *const cases[][3] = {
            {ak, name, secret},   {blank, name, secret}, {NULL, name, secret}, {ek, blank, secret},
            {ek, secret, secret}, {ek, ak, secret},      {ek, name, blank},    {ek, name, big},
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
            g_autoptr(GError) error = NULL;
            GBytes *blob = NULL, *wrapped = NULL;

            g_assert_false(fore_credential_make(cases[i][0], cases[i][1], cases[i][2], &blob,
                                                &wrapped, &error));
            g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
            g_assert_null(blob);
        }
    }
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
#define ADD(path, fn)    g_test_add_func("/attest/credential/" path, fn)
#define ATTACK(path, fn) g_test_add_func("/attest/attack/" path, fn)
    ADD("known-answer", test_vector);
    ADD("unfit-inputs-are-refused", test_refuses);
    ADD("opens-on-its-tpm", test_opens);
    ATTACK("36-credential-for-another-ak", test_other_name);
    ATTACK("36-credential-for-another-tpm", test_other_tpm);
    ADD("damaged-is-refused", test_damage);
    ADD("opens-with-an-ecc-ek", test_ecc_ek);
    rc = g_test_run();
    fore_test_swtpm_free(emulator);
    return rc;
}
