/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A software TPM of its own for one test program: state, certificate authority and sockets in a
 * private temporary directory, nothing outside it is touched.  It dies with the test.
 */
#include <glib.h>
#include <stdbool.h>

typedef struct ForeTestSwtpm ForeTestSwtpm;

/** fore_test_swtpm_missing: what is not installed ("swtpm", ...), for g_test_skip(); NULL: all is
 * there */
const char *fore_test_swtpm_missing(void);

/** fore_test_swtpm_new: manufactured with EK certificate (about 1 s) and running for TSS; aborts
 * the test when it cannot.  State is encrypted. */
ForeTestSwtpm *fore_test_swtpm_new(void);
void fore_test_swtpm_free(ForeTestSwtpm *t); /* ends it and removes the directory; NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeTestSwtpm, fore_test_swtpm_free)

const char *fore_test_swtpm_tcti(const ForeTestSwtpm *t);      /* for fore_tpm_open() */
const char *fore_test_swtpm_dir(const ForeTestSwtpm *t);       /* the private directory */
const char *fore_test_swtpm_state_dir(const ForeTestSwtpm *t); /* inside it */
const char *fore_test_swtpm_ca_file(const ForeTestSwtpm *t);   /* PEM: issuer and root */
const char *fore_test_swtpm_uuid(const ForeTestSwtpm *t);      /* --vmid of the EK certificate */
int fore_test_swtpm_pid(ForeTestSwtpm *t);                     /* to kill, stop or continue it */
bool fore_test_swtpm_is_alive(ForeTestSwtpm *t);
/** fore_test_swtpm_restart: stop and start with the same state: resetCount grows */
void fore_test_swtpm_restart(ForeTestSwtpm *t);
/** fore_test_swtpm_stop: leave it stopped (the node is silent); _restart() brings it back */
void fore_test_swtpm_stop(ForeTestSwtpm *t);

/** fore_test_remove_tree: delete @path and what is in it */
void fore_test_remove_tree(const char *path);
