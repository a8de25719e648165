/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vtpm/pam/fore-pam-config.h"

#include <string.h>

#include "common/fore-error.h"
#include "vtpm/host/fore-keyfile.h"

#define GROUP "pam"

/* PCR 10 (IMA) grows with every file that runs and is judged by its log, not by one value. */
#define DEFAULT_VM_PCRS   "0-9,11-14"
#define DEFAULT_NODE_PCRS "0-9,14"

static const char *const known_keys[] = {
    "listen",
    "state-dir",
    "name",
    "agent-pins",
    "operator-pins",
    "hardware-ca",
    "vtpm-ca",
    "policy-key",
    "tcti",
    "grant-lifetime-s",
    "deadline-ms",
    "session-ms",
    "max-sessions",
    "max-per-second",
    "max-enrolments-per-minute",
    "vm-pcrs",
    "node-pcrs",
    "allow-software-tpm",
    "signing-key",
    "next-signing-key",
    "pkcs11-module",
    "insecure-software-key",
    "snp-ca",
    "audit-anchor-s",
    "require-crl",
    NULL,
};

void fore_pam_config_free(ForePamConfig *config)
{
    if (config == NULL) {
        return;
    }
    g_free(config->listen);
    g_free(config->state_dir);
    g_free(config->name);
    g_strfreev(config->agent_pins);
    g_strfreev(config->operator_pins);
    g_free(config->hardware_ca);
    g_free(config->vtpm_ca);
    g_free(config->policy_key);
    g_free(config->tcti);
    g_free(config->signing_key);
    g_free(config->next_signing_key);
    g_free(config->pkcs11_module);
    g_free(config->snp_ca);
    g_free(config);
}

/* One key cannot be both: an agent must not gain an operator's rights by a slip. */
static bool pins_are_apart(const ForePamConfig *config, GError **error)
{
    for (unsigned i = 0; config->agent_pins[i] != NULL; i++) {
        if (g_strv_contains((const char *const *)config->operator_pins, config->agent_pins[i])) {
            return fore_keyfile_refuse(error, "agent-pins", config->agent_pins[i],
                                       "a key that is not an operator's too");
        }
    }
    return true;
}

/* Where the key lives must be said: a key that anybody can copy is nobody's silent default. */
static bool settle_key(ForePamConfig *config, GError **error)
{
    if (config->signing_key == NULL && config->insecure_software_key) {
        config->signing_key = g_strdup("file");
    }
    if (config->signing_key == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "signing-key is missing: want pkcs11:..., tpm, or insecure-software-key = true "
                    "for a key in a file");
        return false;
    }
    return g_strcmp0(config->signing_key, config->next_signing_key) != 0 ||
           fore_keyfile_refuse(error, "next-signing-key", config->next_signing_key,
                               "another key than signing-key");
}

static bool fill(ForePamConfig *config, const ForeKeyfile *file, GError **error)
{
    config->listen = fore_keyfile_text(file, "listen");
    config->state_dir = fore_keyfile_text(file, "state-dir");
    config->name = fore_keyfile_text(file, "name");
    config->hardware_ca = fore_keyfile_text(file, "hardware-ca");
    config->vtpm_ca = fore_keyfile_text(file, "vtpm-ca");
    config->policy_key = fore_keyfile_text(file, "policy-key");
    config->tcti = fore_keyfile_text(file, "tcti");
    config->snp_ca = fore_keyfile_text(file, "snp-ca");
    config->signing_key = fore_keyfile_text(file, "signing-key");
    config->next_signing_key = fore_keyfile_text(file, "next-signing-key");
    config->pkcs11_module = fore_keyfile_text(file, "pkcs11-module");
    if (config->name == NULL) {
        config->name = g_strdup("foresee-pam");
    }
    return fore_keyfile_need(config->listen, "listen", error) &&
           fore_keyfile_need(config->state_dir, "state-dir", error) &&
           fore_keyfile_pins(file, "agent-pins", &config->agent_pins, error) &&
           fore_keyfile_pins(file, "operator-pins", &config->operator_pins, error) &&
           pins_are_apart(config, error) &&
           fore_keyfile_number(file, "grant-lifetime-s", 5, 3600, 60, &config->grant_lifetime_s,
                               error) &&
           fore_keyfile_number(file, "deadline-ms", 100, 60000, 2000, &config->deadline_ms,
                               error) &&
           fore_keyfile_number(file, "session-ms", 1000, 60000, 10000, &config->session_ms,
                               error) &&
           fore_keyfile_number(file, "max-sessions", 1, 64, 8, &config->max_sessions, error) &&
           fore_keyfile_number(file, "max-per-second", 1, 10000, 50, &config->max_per_second,
                               error) &&
           fore_keyfile_number(file, "max-enrolments-per-minute", 1, 10000, 60,
                               &config->max_enrolments, error) &&
           fore_keyfile_pcrs(file, "vm-pcrs", DEFAULT_VM_PCRS, &config->vm_pcr_mask, error) &&
           fore_keyfile_pcrs(file, "node-pcrs", DEFAULT_NODE_PCRS, &config->node_pcr_mask, error) &&
           fore_keyfile_bool(file, "require-crl", true, &config->require_crl, error) &&
           fore_keyfile_bool(file, "allow-software-tpm", false, &config->allow_software_tpm,
                             error) &&
           fore_keyfile_bool(file, "insecure-software-key", false, &config->insecure_software_key,
                             error) &&
           fore_keyfile_number(file, "audit-anchor-s", 0, 86400, 3600, &config->anchor_interval_s,
                               error) &&
           settle_key(config, error);
}

ForePamConfig *fore_pam_config_parse(const char *text, size_t size, GError **error)
{
    g_auto(ForeKeyfile) file = {NULL, NULL};
    g_autoptr(ForePamConfig) config = NULL;

    if (!fore_keyfile_parse(&file, text, size, GROUP, known_keys, "foresee-pam(8)", error)) {
        return NULL;
    }
    config = g_new0(ForePamConfig, 1);
    if (!fill(config, &file, error)) {
        return NULL;
    }
    return g_steal_pointer(&config);
}

ForePamConfig *fore_pam_config_load(const char *path, GError **error)
{
    size_t size = 0;
    g_autofree char *text = fore_keyfile_read(path, &size, error);
    ForePamConfig *config = text != NULL ? fore_pam_config_parse(text, size, error) : NULL;

    if (text != NULL && config == NULL) {
        g_prefix_error(error, "%s: ", path);
    }
    return config;
}
