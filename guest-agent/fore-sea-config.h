/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * /etc/foresee/sea.conf: a GKeyFile, group [sea] (foresee-sea(8) describes each key).
 */
#include <glib.h>
#include <stdbool.h>

#define FORE_SEA_CONFIG_PATH  "/etc/foresee/sea.conf"
#define FORE_SEA_CONFIG_MAX   65536 /* bytes */
#define FORE_SEA_INTERVAL_MIN 100   /* ms */
#define FORE_SEA_INTERVAL_MAX 60000 /* ms */

typedef struct {
    char *vm_uuid;   /* canonical, lower case */
    char *pam_key;   /* path of the PAM's public key, PEM */
    char *host_pin;  /* 64 hex characters: the only peer */
    char *tcti;      /* as fore_tpm_open() */
    char *state_dir; /* the channel's key is kept here */
    char *sysfs_root, *procfs_root;
    char *port;            /* NULL: find the virtio-serial port by name; "/dev/x"; "unix:PATH" */
    unsigned milliseconds; /* between two reports */
    bool offline_memory;   /* a release takes memory blocks offline itself (DIMMs) */
} ForeSeaConfig;

/**
 * fore_sea_config_parse: @text of @size bytes, need not be terminated
 * Errors: FORE_ERROR_INVALID: names the key, its value and what is right; unknown keys and missing
 *         required ones (pam-key, host-pin; vm-uuid where the machine has no DMI) too
 */
ForeSeaConfig *fore_sea_config_parse(const char *text, size_t size, GError **error);
/** fore_sea_config_load: from a file.  Errors also: FORE_ERROR_UNAVAILABLE (cannot be read) */
ForeSeaConfig *fore_sea_config_load(const char *path, GError **error);
/** fore_sea_config_set_port: another port than the file says; errors as fore_sea_config_parse() */
bool fore_sea_config_set_port(ForeSeaConfig *config, const char *port, GError **error);
void fore_sea_config_free(ForeSeaConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeSeaConfig, fore_sea_config_free)
