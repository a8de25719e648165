/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A PKCS#11 token in a folder (SoftHSM2) with one P-256 key, for OpenSSL's pkcs11 provider. */
#include <glib.h>

typedef struct ForeTestToken ForeTestToken;

/** fore_test_token_missing: what is not installed, for g_test_skip(); NULL: all is there */
const char *fore_test_token_missing(void);
/** fore_test_token_new: sets SOFTHSM2_CONF for this process and its children */
ForeTestToken *fore_test_token_new(void);
void fore_test_token_free(ForeTestToken *token);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeTestToken, fore_test_token_free)

const char *fore_test_token_module(void); /* shared object */
/** fore_test_token_uri: of key @label, made when missing; with its PIN (transfer full) */
char *fore_test_token_uri(ForeTestToken *token, const char *label);
/** fore_test_token_bad_uri: the same with a wrong PIN (transfer full) */
char *fore_test_token_bad_uri(ForeTestToken *token, const char *label);
/** fore_test_token_remove / _insert: pull the token out, put it back */
void fore_test_token_remove(ForeTestToken *token);
void fore_test_token_insert(ForeTestToken *token);
