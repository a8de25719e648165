/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The configuration of foresee-attester: a key file with one group, [attester].  Unknown keys are
 * errors. */
#include <glib.h>
#include <stdbool.h>

#include "vtpm/attest/fore-pathway.h"

typedef struct {
    char *id;                     /* of this node, as the PAM enrols it */
    ForeRole role;                /* hypervisor, switch or storage */
    char *listen;                 /* "tcp:HOST:PORT" or "unix:PATH" */
    char *tcti;                   /* of its TPM */
    char *pam_pin;                /* the only peer that is served; 64 hex digits */
    char *state_dir;              /* made with mode 0700 when missing */
    char *firmware_log, *ima_log; /* absolute paths of the kernel's binary measurement lists */
    char *launch_log;             /* of foresee-vtpm(8) */
} ForeAttesterConfig;

/** fore_attester_config_load. Errors: FORE_ERROR_UNAVAILABLE, FORE_ERROR_INVALID (names the key) */
ForeAttesterConfig *fore_attester_config_load(const char *path, GError **error);
ForeAttesterConfig *fore_attester_config_parse(const char *text, size_t size, GError **error);
void fore_attester_config_free(ForeAttesterConfig *config); /* NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeAttesterConfig, fore_attester_config_free)
