/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp-agent/fore-config.h"

#include <string.h>

#include "common/fore-error.h"
#include "profile/fore-store.h"

#define GROUP "foreseed"

static const char *const known_keys[] = {"control",
                                         "state-dir",
                                         "tcti",
                                         "store-key-file",
                                         "pam-address",
                                         "pam-pin",
                                         "overcommit",
                                         "reserve-vcpus",
                                         "reserve-memory",
                                         "attest-timeout-ms",
                                         "store-key-pkcs11",
                                         "store-key-module",
                                         "store-tiers",
                                         NULL};

static ForeConfig *defaults(void)
{
    ForeConfig *c = g_new0(ForeConfig, 1);

    c->control = g_strdup("unix:/run/foresee/foreseed.sock");
    c->state_dir = g_strdup("/var/lib/foresee");
    c->tcti = g_strdup("device:/dev/tpmrm0");
    c->store_key_file = g_strdup("");
    c->store_key_pkcs11 = g_strdup("");
    c->store_key_module = g_strdup("");
    c->tiers = g_strdup(FORE_STORE_TIERS_DEFAULT);
    c->pam_address = g_strdup("");
    c->pam_pin = g_strdup("");
    c->overcommit = 2.0;
    c->reserve_mem_bytes = G_GUINT64_CONSTANT(1) << 30;
    c->attest_timeout_ms = 8000;
    return c;
}

void fore_config_free(ForeConfig *c)
{
    if (c == NULL) {
        return;
    }
    g_free(c->control);
    g_free(c->state_dir);
    g_free(c->tcti);
    g_free(c->store_key_file);
    g_free(c->store_key_pkcs11);
    g_free(c->store_key_module);
    g_free(c->tiers);
    g_free(c->pam_address);
    g_free(c->pam_pin);
    g_free(c);
}

static void take_string(GKeyFile *file, const char *key, char **where)
{
    char *value = g_key_file_get_string(file, GROUP, key, NULL);

    if (value != NULL) {
        g_free(*where);
        *where = value;
    }
}

static bool take_real(GKeyFile *file, const char *key, double min, double max, double *where,
                      GError **error)
{
    g_autofree char *text = g_key_file_get_string(file, GROUP, key, NULL);
    char *end = NULL;
    double v;

    if (text == NULL) {
        return true;
    }
    v = g_ascii_strtod(text, &end);
    if (end == text || *end != '\0' || !(v >= min && v <= max)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "%s = '%s': must be a number %g..%g",
                    key, text, min, max);
        return false;
    }
    *where = v;
    return true;
}

static bool check_keys(GKeyFile *file, GError **error)
{
    g_auto(GStrv) groups = g_key_file_get_groups(file, NULL);
    g_auto(GStrv) keys = g_key_file_get_keys(file, GROUP, NULL, NULL);

    for (char **g = groups; *g != NULL; g++) {
        if (strcmp(*g, GROUP) != 0) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                        "unknown section [%s]; only [%s] is read", *g, GROUP);
            return false;
        }
    }
    for (char **k = keys; k != NULL && *k != NULL; k++) {
        if (!g_strv_contains(known_keys, *k)) {
            g_autofree char *all = g_strjoinv(", ", (char **)known_keys);
            g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "unknown key '%s'; known: %s", *k,
                        all);
            return false;
        }
    }
    return true;
}

static bool check_values(const ForeConfig *c, GError **error)
{
    ForeStoreTiers tiers;

    if (c->pam_address[0] != '\0' && (strlen(c->pam_pin) != FORE_PIN_HEX ||
                                      strspn(c->pam_pin, "0123456789abcdef") != FORE_PIN_HEX)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "pam-pin = '%s': must be the %d lower-case hex digits that 'foresee-pam "
                    "--print-pin' prints",
                    c->pam_pin, FORE_PIN_HEX);
        return false;
    }
    if (c->tcti[0] == '\0' && c->store_key_file[0] == '\0' && c->store_key_pkcs11[0] == '\0') {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "none of tcti, store-key-pkcs11 and store-key-file is set: the store is never "
                    "kept unencrypted");
        return false;
    }
    if (c->store_key_pkcs11[0] != '\0' && !g_str_has_prefix(c->store_key_pkcs11, "pkcs11:")) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "store-key-pkcs11 = '%s': must be the URI of an RSA key, 'pkcs11:token=...'",
                    c->store_key_pkcs11);
        return false;
    }
    if (!fore_store_tiers_parse(c->tiers, &tiers, error)) {
        g_prefix_error(error, "store-");
        return false;
    }
    return true;
}

ForeConfig *fore_config_load(const char *path, GError **error)
{
    g_autoptr(ForeConfig) c = defaults();
    g_autoptr(GKeyFile) file = g_key_file_new();
    double timeout = c->attest_timeout_ms, reserve = (double)c->reserve_mem_bytes;

    if (path == NULL) {
        return check_values(c, error) ? g_steal_pointer(&c) : NULL;
    }
    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, error)) {
        bool missing = error != NULL && g_error_matches(*error, G_FILE_ERROR, G_FILE_ERROR_NOENT);
        g_autofree char *text = error != NULL ? g_strdup((*error)->message) : NULL;
        g_clear_error(error);
        g_set_error(error, FORE_ERROR, missing ? FORE_ERROR_NOT_FOUND : FORE_ERROR_INVALID,
                    "%s: %s", path, text);
        return NULL;
    }
    take_string(file, "control", &c->control);
    take_string(file, "state-dir", &c->state_dir);
    take_string(file, "tcti", &c->tcti);
    take_string(file, "store-key-file", &c->store_key_file);
    take_string(file, "store-key-pkcs11", &c->store_key_pkcs11);
    take_string(file, "store-key-module", &c->store_key_module);
    take_string(file, "store-tiers", &c->tiers);
    take_string(file, "pam-address", &c->pam_address);
    take_string(file, "pam-pin", &c->pam_pin);
    if (!check_keys(file, error) ||
        !take_real(file, "overcommit", 0.1, 64, &c->overcommit, error) ||
        !take_real(file, "reserve-vcpus", 0, 4096, &c->reserve_vcpus, error) ||
        !take_real(file, "reserve-memory", 0, 1e15, &reserve, error) ||
        !take_real(file, "attest-timeout-ms", 100, 60000, &timeout, error) ||
        !check_values(c, error)) {
        g_prefix_error(error, "%s: ", path);
        return NULL;
    }
    c->attest_timeout_ms = (unsigned)timeout;
    c->reserve_mem_bytes = (uint64_t)reserve;
    return g_steal_pointer(&c);
}
