/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vtpm/pam/fore-pam-config.h"

#include <string.h>

#include "common/fore-error.h"
#include "common/fore-identity.h"

#define GROUP "pam"

/* PCR 10 (IMA) grows with every file that runs and is judged by its log, not by one value. */
#define DEFAULT_VM_PCRS   "0-9,11-14"
#define DEFAULT_NODE_PCRS "0-9,14"
#define PCR_LAST          15

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
    "vm-pcrs",
    "node-pcrs",
    "allow-software-tpm",
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
    g_free(config);
}

static bool set_invalid(GError **error, const char *key, const char *value, const char *want)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "%s = '%.80s': want %s", key, value, want);
    return false;
}

static bool only_known_keys(GKeyFile *file, GError **error)
{
    g_auto(GStrv) groups = g_key_file_get_groups(file, NULL);
    g_auto(GStrv) keys = g_key_file_get_keys(file, GROUP, NULL, NULL);

    for (unsigned i = 0; groups[i] != NULL; i++) {
        if (strcmp(groups[i], GROUP) != 0) {
            return set_invalid(error, "group", groups[i], "only [" GROUP "]");
        }
    }
    if (keys == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "there is no group [" GROUP "]");
        return false;
    }
    for (unsigned i = 0; keys[i] != NULL; i++) {
        if (!g_strv_contains(known_keys, keys[i])) {
            return set_invalid(error, "key", keys[i], "one that foresee-pam(8) lists");
        }
    }
    return true;
}

static char *get_text(GKeyFile *file, const char *key)
{
    char *text = g_key_file_get_string(file, GROUP, key, NULL);

    if (text != NULL && g_strstrip(text)[0] == '\0') {
        g_clear_pointer(&text, g_free);
    }
    return text;
}

static bool get_number(GKeyFile *file, const char *key, unsigned min, unsigned max,
                       unsigned fallback, unsigned *ret, GError **error)
{
    g_autofree char *text = get_text(file, key);
    g_autofree char *want = NULL;
    guint64 value;

    if (text == NULL) {
        *ret = fallback;
        return true;
    }
    if (!g_ascii_string_to_unsigned(text, 10, min, max, &value, NULL)) {
        want = g_strdup_printf("a number %u..%u", min, max);
        return set_invalid(error, key, text, want);
    }
    *ret = (unsigned)value;
    return true;
}

static bool get_bool(GKeyFile *file, const char *key, bool fallback, bool *ret, GError **error)
{
    g_autofree char *text = get_text(file, key);

    *ret = text != NULL ? strcmp(text, "true") == 0 : fallback;
    if (text != NULL && !*ret && strcmp(text, "false") != 0) {
        return set_invalid(error, key, text, "true or false");
    }
    return true;
}

static bool pin_is_valid(const char *pin)
{
    return strlen(pin) == FORE_PIN_HEX && strspn(pin, "0123456789abcdef") == FORE_PIN_HEX;
}

/* Pins separated by blanks, commas or semicolons. */
static bool get_pins(GKeyFile *file, const char *key, char ***ret, GError **error)
{
    g_autofree char *text = get_text(file, key);
    g_auto(GStrv) words = g_strsplit_set(text != NULL ? text : "", " ,;\t", -1);
    g_autoptr(GPtrArray) pins = g_ptr_array_new_with_free_func(g_free);

    for (unsigned i = 0; words[i] != NULL; i++) {
        if (words[i][0] == '\0') {
            continue;
        }
        if (!pin_is_valid(words[i])) {
            return set_invalid(error, key, words[i], "pins of 64 lower-case hex digits");
        }
        g_ptr_array_add(pins, g_strdup(words[i]));
    }
    g_ptr_array_add(pins, NULL);
    *ret = (char **)g_ptr_array_free(g_steal_pointer(&pins), FALSE);
    return true;
}

/* "0-9,14" */
static bool parse_pcrs(const char *text, uint32_t *ret)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);

    *ret = 0;
    for (unsigned i = 0; parts[i] != NULL; i++) {
        g_auto(GStrv) ends = g_strsplit(g_strstrip(parts[i]), "-", 2);
        guint64 first, last;

        if (ends[0] == NULL ||
            !g_ascii_string_to_unsigned(ends[0], 10, 0, PCR_LAST, &first, NULL)) {
            return false;
        }
        last = first;
        if (ends[1] != NULL &&
            !g_ascii_string_to_unsigned(ends[1], 10, first, PCR_LAST, &last, NULL)) {
            return false;
        }
        for (guint64 pcr = first; pcr <= last; pcr++) {
            *ret |= 1u << pcr;
        }
    }
    return *ret != 0;
}

static bool get_pcrs(GKeyFile *file, const char *key, const char *fallback, uint32_t *ret,
                     GError **error)
{
    g_autofree char *text = get_text(file, key);

    if (!parse_pcrs(text != NULL ? text : fallback, ret)) {
        return set_invalid(error, key, text, "PCRs of 0..15 such as 0-9,14");
    }
    return true;
}

static bool need(const char *value, const char *key, GError **error)
{
    if (value == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "%s is missing", key);
        return false;
    }
    return true;
}

/* One key cannot be both: an agent must not gain an operator's rights by a slip. */
static bool pins_are_apart(const ForePamConfig *config, GError **error)
{
    for (unsigned i = 0; config->agent_pins[i] != NULL; i++) {
        if (g_strv_contains((const char *const *)config->operator_pins, config->agent_pins[i])) {
            return set_invalid(error, "agent-pins", config->agent_pins[i],
                               "a key that is not an operator's too");
        }
    }
    return true;
}

static bool fill(ForePamConfig *config, GKeyFile *file, GError **error)
{
    config->listen = get_text(file, "listen");
    config->state_dir = get_text(file, "state-dir");
    config->name = get_text(file, "name");
    config->hardware_ca = get_text(file, "hardware-ca");
    config->vtpm_ca = get_text(file, "vtpm-ca");
    config->policy_key = get_text(file, "policy-key");
    config->tcti = get_text(file, "tcti");
    if (config->name == NULL) {
        config->name = g_strdup("foresee-pam");
    }
    return need(config->listen, "listen", error) && need(config->state_dir, "state-dir", error) &&
           get_pins(file, "agent-pins", &config->agent_pins, error) &&
           get_pins(file, "operator-pins", &config->operator_pins, error) &&
           pins_are_apart(config, error) &&
           get_number(file, "grant-lifetime-s", 5, 3600, 60, &config->grant_lifetime_s, error) &&
           get_number(file, "deadline-ms", 100, 60000, 2000, &config->deadline_ms, error) &&
           get_number(file, "session-ms", 1000, 60000, 10000, &config->session_ms, error) &&
           get_number(file, "max-sessions", 1, 64, 8, &config->max_sessions, error) &&
           get_number(file, "max-per-second", 1, 10000, 50, &config->max_per_second, error) &&
           get_pcrs(file, "vm-pcrs", DEFAULT_VM_PCRS, &config->vm_pcr_mask, error) &&
           get_pcrs(file, "node-pcrs", DEFAULT_NODE_PCRS, &config->node_pcr_mask, error) &&
           get_bool(file, "require-crl", true, &config->require_crl, error) &&
           get_bool(file, "allow-software-tpm", false, &config->allow_software_tpm, error);
}

static ForePamConfig *from_file(GKeyFile *file, GError **error)
{
    g_autoptr(ForePamConfig) config = g_new0(ForePamConfig, 1);

    if (!only_known_keys(file, error) || !fill(config, file, error)) {
        return NULL;
    }
    return g_steal_pointer(&config);
}

ForePamConfig *fore_pam_config_parse(const char *text, size_t size, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) why = NULL;

    if (!g_key_file_load_from_data(file, text, size, G_KEY_FILE_NONE, &why)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "%s", why->message);
        return NULL;
    }
    return from_file(file, error);
}

ForePamConfig *fore_pam_config_load(const char *path, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;
    ForePamConfig *config;
    gsize size;

    if (!g_file_get_contents(path, &text, &size, &why)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "%s", why->message);
        return NULL;
    }
    config = fore_pam_config_parse(text, size, error);
    if (config == NULL) {
        g_prefix_error(error, "%s: ", path);
    }
    return config;
}
