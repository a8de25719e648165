/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One test a vector: /attest/vectors/PATH.  Times are pinned, nothing depends on today.
 */
#include <string.h>

#include "tests/lib/fore-test-key.h"
#include "tests/unit/vectors.h"

static void free_row(gpointer data)
{
    ForeVector *row = data;

    g_free((char *)row->name);
    g_free(row);
}

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
    static Table all[6];

    all[0] = (Table){fore_vectors_eventlog, fore_n_vectors_eventlog};
    all[1] = (Table){fore_vectors_ima, fore_n_vectors_ima};
    all[2] = (Table){fore_vectors_snp, fore_n_vectors_snp};
    all[3] = (Table){fore_vectors_spdm, fore_n_vectors_spdm};
    all[4] = (Table){fore_vectors_quote, fore_n_vectors_quote};
    all[5] = (Table){fore_vectors_cert, fore_n_vectors_cert};
    *ret_n = G_N_ELEMENTS(all);
    return all;
}

/* Whose rows are in another test program, with vectors of their own there. */
static const char *const elsewhere[] = {
    "*/MANIFEST.tsv",        /* of a folder */
    "generated-swtpm/*.sig", /* beside their quotes */
    "generated-swtpm/*.pcr", /* PCR values in tpm2-tools' form, which is not ours */
    "generated-swtpm/*.pem",
    "keylime/makecredential/*",    /* test-credential: known answers */
    "go-tpm-tools/attestations/*", /* no nonce was asked for: nothing that could be expected */
};

static bool has_row(const char *name)
{
    unsigned n;
    const Table *all = tables(&n);

    for (unsigned t = 0; t < n; t++) {
        for (unsigned i = 0; i < all[t].n; i++) {
            if (g_pattern_match_simple(all[t].rows[i].name, name)) {
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

static bool has_own_row(const char *name)
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
    return false;
}

/* A test for each file that a row with a '*' stands for. */
static void add_pattern(const ForeVector *row, char **lines)
{
    for (unsigned i = 1; i < g_strv_length(lines) && lines[i][0] != '\0'; i++) {
        g_autofree char *name = g_strndup(lines[i], strcspn(lines[i], "\t"));
        g_autofree char *path = g_strconcat("/attest/vectors/", name, NULL);

        if (g_pattern_match_simple(row->name, name) && !has_own_row(name)) {
            ForeVector *one = g_memdup2(row, sizeof(*row));

            one->name = g_steal_pointer(&name);
            g_test_add_data_func_full(path, one, (GTestDataFunc)run, free_row);
        }
    }
}

static void add_row(const ForeVector *row, char **lines)
{
    g_autofree char *path = g_strconcat("/attest/vectors/", row->name, NULL);

    if (strchr(row->name, '*') != NULL) {
        add_pattern(row, lines);
    } else if (row->check != NULL) {
        g_test_add_data_func(path, row, run);
    }
}

int main(int argc, char **argv)
{
    unsigned n;
    const Table *all = tables(&n);

    g_autoptr(GBytes) manifest = NULL;
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    g_test_init(&argc, &argv, NULL);
    manifest = fore_test_vector("MANIFEST.tsv");
    text = manifest != NULL
               ? g_strndup(g_bytes_get_data(manifest, NULL), g_bytes_get_size(manifest))
               : g_strdup("");
    lines = g_strsplit(text, "\n", -1);
    g_test_add_func("/attest/vectors/every-file-of-the-manifest-has-a-row", test_manifest);
    for (unsigned t = 0; t < n; t++) {
        for (unsigned i = 0; i < all[t].n; i++) {
            add_row(&all[t].rows[i], lines);
        }
    }
    return g_test_run();
}
