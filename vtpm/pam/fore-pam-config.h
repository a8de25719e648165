/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The configuration of foresee-pam: a key file with one group, [pam].  An unknown key is an error,
 * because a misspelt security option must not be a silent default.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    char *listen;         /* "tcp:HOST:PORT" or "unix:PATH" */
    char *state_dir;      /* made with mode 0700 when missing */
    char *name;           /* shown in verdicts */
    char **agent_pins;    /* NULL-terminated, each 64 hex digits; may be empty */
    char **operator_pins; /* as above */
    char *hardware_ca;    /* PEM bundle that vouches for node TPMs; NULL: no node can be enrolled */
    char *vtpm_ca;        /* PEM bundle that vouches for vTPMs; NULL: no VM can be enrolled */
    char *policy_key;     /* PEM public key of reference values; NULL: none can be set */
    char *tcti;           /* TPM that seals the inventory key; NULL: key file */
    char *signing_key;    /* "pkcs11:...", "tpm[:NAME]", "file[:NAME]"; see fore-key.h */
    char *next_signing_key; /* the key to come, or NULL */
    char *pkcs11_module;    /* shared object of the token, or NULL */
    unsigned
        anchor_interval_s; /* 0 (never) ..86400: the audit log's head goes into the TPM at tcti */
    bool insecure_software_key; /* "file" may be */
    char *snp_ca;               /* PEM: ARKs (and lists) of confidential guests; NULL: none */
    unsigned grant_lifetime_s;  /* 5..3600 */
    unsigned deadline_ms;       /* 100..60000: for the answers of the pathway's nodes */
    unsigned session_ms;        /* 1000..60000: from begin to finish */
    unsigned max_sessions;      /* 1..64 open at once for one peer */
    unsigned max_per_second;    /* 1..10000 commands of one key */
    unsigned max_enrolments;    /* 1..10000 enrolments of one key a minute */
    uint32_t vm_pcr_mask, node_pcr_mask; /* bit n = PCR n, 0..15 */
    bool require_crl;        /* every issuer of an EK certificate needs a current list */
    bool allow_software_tpm; /* nodes may answer with a software TPM: tests and demos */
} ForePamConfig;

/**
 * fore_pam_config_load: @path
 * Errors: FORE_ERROR_UNAVAILABLE (cannot read), FORE_ERROR_INVALID (the message names the key)
 */
ForePamConfig *fore_pam_config_load(const char *path, GError **error);
/** fore_pam_config_parse: the same from text of @size bytes */
ForePamConfig *fore_pam_config_parse(const char *text, size_t size, GError **error);
void fore_pam_config_free(ForePamConfig *config); /* NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForePamConfig, fore_pam_config_free)
