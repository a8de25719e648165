/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/lib/fore-test-swtpm.h"

#include <ftw.h>
#include <glib/gstdio.h>
#include <unistd.h>

#include "vtpm/host/fore-swtpm.h"

struct ForeTestSwtpm {
    char *dir, *state_dir, *ca_dir, *ca_file, *socket;
    GBytes *key;
    ForeSwtpmConfig config;
    ForeSwtpm *swtpm;
};

static int on_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

void fore_test_remove_tree(const char *path)
{
    nftw(path, on_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *fore_test_swtpm_missing(void)
{
    static const char *const programs[] = {"swtpm", "swtpm_setup", "swtpm_localca"};

    for (unsigned i = 0; i < G_N_ELEMENTS(programs); i++) {
        g_autofree char *path = g_find_program_in_path(programs[i]);
        if (path == NULL) {
            return programs[i];
        }
    }
    return NULL;
}

static void start(ForeTestSwtpm *t)
{
    g_autoptr(GError) error = NULL;

    t->swtpm = fore_swtpm_start(&t->config, FORE_SWTPM_FOR_TSS, t->socket, true, &error);
    g_assert_no_error(error);
}

ForeTestSwtpm *fore_test_swtpm_new(void)
{
    ForeTestSwtpm *t = g_new0(ForeTestSwtpm, 1);
    g_autoptr(GError) error = NULL;
    g_autofree char *pem = NULL;
    guint8 key[FORE_SWTPM_KEY_BYTES];

    for (unsigned i = 0; i < sizeof(key); i++) {
        key[i] = (guint8)g_random_int();
    }
    t->key = g_bytes_new(key, sizeof(key));
    t->dir = g_dir_make_tmp("foresee-swtpm-XXXXXX", &error);
    g_assert_no_error(error);
    t->state_dir = g_build_filename(t->dir, "state", NULL);
    t->ca_dir = g_build_filename(t->dir, "ca", NULL);
    t->ca_file = g_build_filename(t->dir, "ca.pem", NULL);
    t->socket = g_build_filename(t->dir, "tpm", NULL);
    t->config = (ForeSwtpmConfig){
        .state_dir = t->state_dir,
        .vm_uuid = "6f1d4c1e-0a52-4a8e-9d57-2f3c8b1a7e40",
        .key = t->key,
        .ca_dir = t->ca_dir,
    };
    fore_swtpm_manufacture(&t->config, &error);
    g_assert_no_error(error);
    pem = fore_swtpm_ca_pem(t->ca_dir, &error);
    g_assert_no_error(error);
    g_file_set_contents(t->ca_file, pem, -1, &error);
    g_assert_no_error(error);
    start(t);
    return t;
}

void fore_test_swtpm_free(ForeTestSwtpm *t)
{
    if (t == NULL) {
        return;
    }
    fore_swtpm_free(t->swtpm);
    fore_test_remove_tree(t->dir);
    g_bytes_unref(t->key);
    g_free(t->dir);
    g_free(t->state_dir);
    g_free(t->ca_dir);
    g_free(t->ca_file);
    g_free(t->socket);
    g_free(t);
}

void fore_test_swtpm_stop(ForeTestSwtpm *t)
{
    g_clear_pointer(&t->swtpm, fore_swtpm_free);
}

void fore_test_swtpm_restart(ForeTestSwtpm *t)
{
    fore_test_swtpm_stop(t);
    start(t);
}

const char *fore_test_swtpm_tcti(const ForeTestSwtpm *t)
{
    return fore_swtpm_tcti(t->swtpm);
}

const char *fore_test_swtpm_dir(const ForeTestSwtpm *t)
{
    return t->dir;
}

const char *fore_test_swtpm_state_dir(const ForeTestSwtpm *t)
{
    return t->state_dir;
}

const char *fore_test_swtpm_ca_file(const ForeTestSwtpm *t)
{
    return t->ca_file;
}

const char *fore_test_swtpm_uuid(const ForeTestSwtpm *t)
{
    return t->config.vm_uuid;
}

int fore_test_swtpm_pid(ForeTestSwtpm *t)
{
    return t->swtpm != NULL ? fore_swtpm_pid(t->swtpm) : 0;
}

bool fore_test_swtpm_is_alive(ForeTestSwtpm *t)
{
    return t->swtpm != NULL && fore_swtpm_is_alive(t->swtpm);
}
