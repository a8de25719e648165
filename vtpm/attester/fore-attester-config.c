/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vtpm/attester/fore-attester-config.h"

#include <string.h>

#include "common/fore-error.h"
#include "common/fore-identity.h"

#define GROUP        "attester"
#define DEFAULT_TCTI "device:/dev/tpmrm0"

static const char *const known_keys[] = {"id",      "role",      "listen", "tcti",
                                         "pam-pin", "state-dir", NULL};

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
    g_free(config);
}

static bool set_invalid(GError **error, const char *key, const char *value, const char *want)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "%s = '%.80s': want %s", key,
                value != NULL ? value : "", want);
    return false;
}

static bool only_known_keys(GKeyFile *file, GError **error)
{
    g_auto(GStrv) keys = g_key_file_get_keys(file, GROUP, NULL, NULL);

    if (keys == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "there is no group [" GROUP "]");
        return false;
    }
    for (unsigned i = 0; keys[i] != NULL; i++) {
        if (!g_strv_contains(known_keys, keys[i])) {
            return set_invalid(error, "key", keys[i], "one that foresee-attester(8) lists");
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

static bool pin_is_valid(const char *pin)
{
    return pin != NULL && strlen(pin) == FORE_PIN_HEX &&
           strspn(pin, "0123456789abcdef") == FORE_PIN_HEX;
}

static bool check(const ForeAttesterConfig *c, const char *role, GError **error)
{
    if (c->id == NULL || !fore_name_is_valid(c->id)) {
        return set_invalid(error, "id", c->id, "a name of letters, digits, '.', '_' and '-'");
    }
    if (c->role == FORE_ROLE_N || c->role == FORE_ROLE_GUEST) {
        return set_invalid(error, "role", role, "hypervisor, switch or storage");
    }
    if (c->listen == NULL) {
        return set_invalid(error, "listen", NULL, "tcp:HOST:PORT or unix:PATH");
    }
    if (c->state_dir == NULL) {
        return set_invalid(error, "state-dir", NULL, "a folder for the attester's key");
    }
    if (c->pam_pin != NULL && !pin_is_valid(c->pam_pin)) {
        return set_invalid(error, "pam-pin", c->pam_pin, "64 lower-case hex digits");
    }
    return true;
}

static ForeAttesterConfig *from_file(GKeyFile *file, GError **error)
{
    g_autoptr(ForeAttesterConfig) config = NULL;
    g_autofree char *role = NULL;

    if (!only_known_keys(file, error)) {
        return NULL;
    }
    config = g_new0(ForeAttesterConfig, 1);
    role = get_text(file, "role");
    config->role = fore_role_from_name(role);
    config->id = get_text(file, "id");
    config->listen = get_text(file, "listen");
    config->tcti = get_text(file, "tcti");
    config->pam_pin = get_text(file, "pam-pin");
    config->state_dir = get_text(file, "state-dir");
    if (config->tcti == NULL) {
        config->tcti = g_strdup(DEFAULT_TCTI);
    }
    if (!check(config, role, error)) {
        return NULL;
    }
    return g_steal_pointer(&config);
}

ForeAttesterConfig *fore_attester_config_parse(const char *text, size_t size, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) why = NULL;

    if (!g_key_file_load_from_data(file, text, size, G_KEY_FILE_NONE, &why)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "%s", why->message);
        return NULL;
    }
    return from_file(file, error);
}

ForeAttesterConfig *fore_attester_config_load(const char *path, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;
    ForeAttesterConfig *config;
    gsize size;

    if (!g_file_get_contents(path, &text, &size, &why)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "%s", why->message);
        return NULL;
    }
    config = fore_attester_config_parse(text, size, error);
    if (config == NULL) {
        g_prefix_error(error, "%s: ", path);
    }
    return config;
}
