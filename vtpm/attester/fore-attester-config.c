/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vtpm/attester/fore-attester-config.h"

#include <string.h>

#include "common/fore-error.h"
#include "vtpm/host/fore-keyfile.h"

#define GROUP        "attester"
#define DEFAULT_TCTI "device:/dev/tpmrm0"

#define DEFAULT_FIRMWARE_LOG "/sys/kernel/security/tpm0/binary_bios_measurements"
#define DEFAULT_LAUNCH_LOG   "/run/foresee/launch.log"
#define DEFAULT_IMA_LOG      "/sys/kernel/security/ima/binary_runtime_measurements"

static const char *const known_keys[] = {
    "id",        "role",         "listen",  "tcti",       "pam-pin",
    "state-dir", "firmware-log", "ima-log", "launch-log", NULL,
};

void fore_attester_config_free(ForeAttesterConfig *config)
{
    if (config == NULL) {
        return;
    }
    g_free(config->id);
    g_free(config->listen);
    g_free(config->tcti);
    g_free(config->pam_pin);
    g_free(config->state_dir);
    g_free(config->firmware_log);
    g_free(config->ima_log);
    g_free(config->launch_log);
    g_free(config);
}

static bool check(const ForeAttesterConfig *c, const char *role, GError **error)
{
    if (c->id == NULL || !fore_name_is_valid(c->id)) {
        return fore_keyfile_refuse(error, "id", c->id,
                                   "a name of letters, digits, '.', '_' and '-'");
    }
    if (c->role == FORE_ROLE_N || c->role == FORE_ROLE_GUEST) {
        return fore_keyfile_refuse(error, "role", role, "hypervisor, switch or storage");
    }
    if (c->listen == NULL) {
        return fore_keyfile_refuse(error, "listen", NULL, "tcp:HOST:PORT or unix:PATH");
    }
    if (c->state_dir == NULL) {
        return fore_keyfile_refuse(error, "state-dir", NULL, "a folder for the attester's key");
    }
    if (c->pam_pin != NULL && !fore_keyfile_pin_is_valid(c->pam_pin)) {
        return fore_keyfile_refuse(error, "pam-pin", c->pam_pin, "64 lower-case hex digits");
    }
    return true;
}

static void fill(ForeAttesterConfig *config, const ForeKeyfile *file)
{
    config->id = fore_keyfile_text(file, "id");
    config->listen = fore_keyfile_text(file, "listen");
    config->tcti = fore_keyfile_text(file, "tcti");
    config->pam_pin = fore_keyfile_text(file, "pam-pin");
    config->state_dir = fore_keyfile_text(file, "state-dir");
    config->firmware_log = fore_keyfile_text(file, "firmware-log");
    config->ima_log = fore_keyfile_text(file, "ima-log");
    config->launch_log = fore_keyfile_text(file, "launch-log");
    if (config->tcti == NULL) {
        config->tcti = g_strdup(DEFAULT_TCTI);
    }
    if (config->firmware_log == NULL) {
        config->firmware_log = g_strdup(DEFAULT_FIRMWARE_LOG);
    }
    if (config->ima_log == NULL) {
        config->ima_log = g_strdup(DEFAULT_IMA_LOG);
    }
    if (config->launch_log == NULL) {
        config->launch_log = g_strdup(DEFAULT_LAUNCH_LOG);
    }
}

ForeAttesterConfig *fore_attester_config_parse(const char *text, size_t size, GError **error)
{
    g_auto(ForeKeyfile) file = {NULL, NULL};
    g_autoptr(ForeAttesterConfig) config = NULL;
    g_autofree char *role = NULL;

    if (!fore_keyfile_parse(&file, text, size, GROUP, known_keys, "foresee-attester(8)", error)) {
        return NULL;
    }
    config = g_new0(ForeAttesterConfig, 1);
    role = fore_keyfile_text(&file, "role");
    config->role = fore_role_from_name(role);
    fill(config, &file);
    if (!check(config, role, error)) {
        return NULL;
    }
    return g_steal_pointer(&config);
}

ForeAttesterConfig *fore_attester_config_load(const char *path, GError **error)
{
    size_t size = 0;
    g_autofree char *text = fore_keyfile_read(path, &size, error);
    ForeAttesterConfig *config =
        text != NULL ? fore_attester_config_parse(text, size, error) : NULL;

    if (text != NULL && config == NULL) {
        g_prefix_error(error, "%s: ", path);
    }
    return config;
}
