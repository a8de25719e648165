/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One test a vector: /attest/vectors/PATH.  Times are pinned, nothing depends on today.
 */
#include <string.h>

#include "tests/lib/fore-test-key.h"
#include "tests/unit/vectors.h"

static void run(gconstpointer data)
{
    const ForeVector *vector = data;
    g_autoptr(GBytes) bytes = fore_test_vector(vector->name);

    if (bytes != NULL) {
        vector->check(vector, bytes);
    }
}

typedef struct {
    const ForeVector *rows;
    unsigned n;
} Table;

static const Table *tables(unsigned *ret_n)
{
    static Table all[4];

    all[0] = (Table){fore_vectors_eventlog, fore_n_vectors_eventlog};
    all[1] = (Table){fore_vectors_ima, fore_n_vectors_ima};
    all[2] = (Table){fore_vectors_snp, fore_n_vectors_snp};
    all[3] = (Table){fore_vectors_spdm, fore_n_vectors_spdm};
    *ret_n = G_N_ELEMENTS(all);
    return all;
}

/* Whose rows are in another test program, with vectors of their own there. */
static const char *const elsewhere[] = {
    "*/MANIFEST.tsv",           /* of a folder */
    "generated-swtpm/*",        /* test-quote, test-ak, test-ekcert */
    "keylime/quote/*",          /* test-quote, test-credential */
    "keylime/makecredential/*", /* test-credential */
    "keylime/ek-certs/*",       /* test-ekcert */
    "keylime/tpm_cert_store/*", /* test-ekcert */
    "keylime/dsse/*",           /* another envelope than ours */
    "safeboot/certs/*",         /* test-ekcert */
    "rust-keylime/quote/*",     /* test-quote */
    "go-tpm-tools/attestations/*",
    "go-tpm-tools/ca-certs/*",
    "go-tpm-tools/certificates/*",
    "trustee/jwk/*",
    "trustee/tdx/*", /* TDX is not judged: docs/attestation.md */
    "trustee/az-tdx-vtpm/*",
    "trustee/tpm_evidence.json",
};

static bool has_row(const char *name)
{
    unsigned n;
    const Table *all = tables(&n);

    for (unsigned t = 0; t < n; t++) {
        for (unsigned i = 0; i < all[t].n; i++) {
            if (strcmp(all[t].rows[i].name, name) == 0) {
                return true;
            }
        }
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(elsewhere); i++) {
        if (g_pattern_match_simple(elsewhere[i], name)) {
            return true;
        }
    }
    return false;
}

static void test_manifest(void)
{
    g_autoptr(GBytes) bytes = fore_test_vector("MANIFEST.tsv");
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (bytes == NULL) {
        return;
    }
    text = g_strndup(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    lines = g_strsplit(text, "\n", -1);
    for (unsigned i = 1; lines[i] != NULL && lines[i][0] != '\0'; i++) {
        g_autofree char *name = g_strndup(lines[i], strcspn(lines[i], "\t"));

        if (!has_row(name)) {
            g_test_message("%s has no row", name);
            g_test_fail();
        }
    }
}

int main(int argc, char **argv)
{
    unsigned n;
    const Table *all = tables(&n);

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/attest/vectors/every-file-of-the-manifest-has-a-row", test_manifest);
    for (unsigned t = 0; t < n; t++) {
        for (unsigned i = 0; i < all[t].n; i++) {
            g_autofree char *path = g_strconcat("/attest/vectors/", all[t].rows[i].name, NULL);

            if (all[t].rows[i].check != NULL) {
                g_test_add_data_func(path, &all[t].rows[i], run);
            }
        }
    }
    return g_test_run();
}
