/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* foreseed's configuration: /etc/foresee/foreseed.conf, a key file; see foreseed(8). */
#include <glib.h>

#include "common/fore-identity.h"
#include "control/fore-policy.h"

typedef struct {
    char *control;          /* address of the control socket, "unix:/run/foresee/foreseed.sock" */
    char *state_dir;        /* store, model, identity, sealed key */
    char *tcti;             /* host TPM; "" = none, then store_key_file must be set */
    char *store_key_file;   /* 32 bytes in hex, for hosts without a TPM; "" = sealed to the TPM */
    char *store_key_pkcs11; /* "pkcs11:..." of an RSA key that wraps it instead of the TPM; "" */
    char *store_key_module; /* the token's library; "" = as OpenSSL is configured */
    char *tiers;            /* how long history is kept; fore_store_tiers_parse() */
    char *pam_address;      /* "" = no PAM: nothing is ever granted */
    char *pam_pin;
    double overcommit;    /* vCPUs promised per host CPU */
    double reserve_vcpus; /* of the product, kept for the host */
    uint64_t reserve_mem_bytes;
    unsigned attest_timeout_ms; /* for the whole of begin, quote and finish */
} ForeConfig;

/**
 * fore_config_load: @path NULL = all defaults
 * Errors: FORE_ERROR_NOT_FOUND (no such file), FORE_ERROR_INVALID (unknown key, bad value: names
 * both)
 */
ForeConfig *fore_config_load(const char *path, GError **error);
void fore_config_free(ForeConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeConfig, fore_config_free)
