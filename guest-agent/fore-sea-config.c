/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest-agent/fore-sea-config.h"

#include <stddef.h>
#include <string.h>

#include "common/fore-error.h"
#include "common/fore-flow.h"
#include "common/fore-identity.h"

#define GROUP "sea"

/* Text keys: where they go and what they are when they are left out. */
static const struct {
    const char *key;
    size_t offset;
    const char *preset; /* NULL: none */
} texts[] = {
    {"vm-uuid", offsetof(ForeSeaConfig, vm_uuid), NULL},
    {"pam-key", offsetof(ForeSeaConfig, pam_key), NULL},
    {"host-pin", offsetof(ForeSeaConfig, host_pin), NULL},
    {"tcti", offsetof(ForeSeaConfig, tcti), "device:/dev/tpmrm0"},
    {"state-dir", offsetof(ForeSeaConfig, state_dir), "/var/lib/foresee-sea"},
    {"sysfs-root", offsetof(ForeSeaConfig, sysfs_root), "/sys"},
    {"procfs-root", offsetof(ForeSeaConfig, procfs_root), "/proc"},
    {"port", offsetof(ForeSeaConfig, port), NULL},
};

#define KEY_MILLISECONDS   "milliseconds"
#define KEY_RELEASE_MEMORY "release-memory"

static bool fail(GError **error, const char *key, const char *value, const char *want)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "[" GROUP "] %s=%s: %s", key, value, want);
    return false;
}

static bool is_known(const char *key)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        if (g_str_equal(key, texts[i].key)) {
            return true;
        }
    }
    return g_str_equal(key, KEY_MILLISECONDS) || g_str_equal(key, KEY_RELEASE_MEMORY);
}

static bool check_keys(GKeyFile *file, GError **error)
{
    g_auto(GStrv) groups = g_key_file_get_groups(file, NULL);
    g_auto(GStrv) keys = g_key_file_get_keys(file, GROUP, NULL, NULL);

    if (!keys || g_strv_length(groups) != 1) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "the file must have one group, [" GROUP "]");
        return false;
    }
    for (unsigned i = 0; keys[i]; i++) {
        if (!is_known(keys[i])) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                        "[" GROUP "] %s: unknown key; see foresee-sea(8)", keys[i]);
            return false;
        }
    }
    return true;
}

/* The UUID that QEMU gives to -uuid, which only root may read. */
static char *read_dmi_uuid(const char *sysfs_root)
{
    g_autofree char *path = g_build_filename(sysfs_root, "class/dmi/id/product_uuid", NULL);
    g_autofree char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return NULL;
    }
    return g_ascii_strdown(g_strstrip(text), -1);
}

static bool is_pin(const char *text)
{
    return strlen(text) == FORE_PIN_HEX && strspn(text, "0123456789abcdef") == FORE_PIN_HEX;
}

static bool check_port(const char *port, GError **error)
{
    if (port[0] != '/' && !g_str_has_prefix(port, "unix:")) {
        return fail(error, "port", port, "must be a device's absolute path or unix:PATH");
    }
    return true;
}

bool fore_sea_config_set_port(ForeSeaConfig *config, const char *port, GError **error)
{
    if (!check_port(port, error)) {
        return false;
    }
    g_free(config->port);
    config->port = g_strdup(port);
    return true;
}

static bool check_values(ForeSeaConfig *config, GError **error)
{
    if (!config->pam_key) {
        return fail(error, "pam-key", "", "required: the path of the PAM's public key in PEM");
    }
    if (!config->host_pin || !is_pin(config->host_pin)) {
        return fail(error, "host-pin", config->host_pin ? config->host_pin : "",
                    "required: 64 lower-case hex characters, as foreseed shows its pin");
    }
    if (!config->vm_uuid) {
        config->vm_uuid = read_dmi_uuid(config->sysfs_root);
    }
    if (!config->vm_uuid || !fore_uuid_is_valid(config->vm_uuid)) {
        return fail(error, "vm-uuid", config->vm_uuid ? config->vm_uuid : "",
                    "give the UUID that QEMU's -uuid or the libvirt domain has, in lower case");
    }
    return !config->port || check_port(config->port, error);
}

static bool read_numbers(GKeyFile *file, ForeSeaConfig *config, GError **error)
{
    g_autofree char *ms = g_key_file_get_string(file, GROUP, KEY_MILLISECONDS, NULL);
    g_autofree char *release = g_key_file_get_string(file, GROUP, KEY_RELEASE_MEMORY, NULL);
    guint64 value = 1000;

    if (ms && !g_ascii_string_to_unsigned(ms, 10, FORE_SEA_INTERVAL_MIN, FORE_SEA_INTERVAL_MAX,
                                          &value, NULL)) {
        return fail(error, KEY_MILLISECONDS, ms, "a number from 100 to 60000");
    }
    if (release && !g_str_equal(release, "driver") && !g_str_equal(release, "offline")) {
        return fail(error, KEY_RELEASE_MEMORY, release,
                    "driver (virtio-mem takes its blocks back itself) or offline (DIMMs)");
    }
    config->milliseconds = (unsigned)value;
    config->offline_memory = release && g_str_equal(release, "offline");
    return true;
}

ForeSeaConfig *fore_sea_config_parse(const char *text, size_t size, GError **error)
{
    g_autoptr(ForeSeaConfig) config = g_new0(ForeSeaConfig, 1);
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) err = NULL;

    if (size > FORE_SEA_CONFIG_MAX || memchr(text, '\0', size)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "not a text of at most %d bytes",
                    FORE_SEA_CONFIG_MAX);
        return NULL;
    }
    if (!g_key_file_load_from_data(file, text, size, G_KEY_FILE_NONE, &err)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "%s", err->message);
        return NULL;
    }
    if (!check_keys(file, error) || !read_numbers(file, config, error)) {
        return NULL;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        char *value = g_key_file_get_string(file, GROUP, texts[i].key, NULL);
        if (value && value[0] == '\0') {
            g_clear_pointer(&value, g_free);
        }
        G_STRUCT_MEMBER(char *, config, texts[i].offset) =
            value ? value : g_strdup(texts[i].preset);
    }
    return check_values(config, error) ? g_steal_pointer(&config) : NULL;
}

ForeSeaConfig *fore_sea_config_load(const char *path, GError **error)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *text = NULL;
    ForeSeaConfig *config;
    gsize size = 0;

    if (!g_file_get_contents(path, &text, &size, &err)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "%s; see foresee-sea(8)",
                    err->message);
        return NULL;
    }
    config = fore_sea_config_parse(text, size, error);
    if (!config) {
        g_prefix_error(error, "%s: ", path);
    }
    return config;
}

void fore_sea_config_free(ForeSeaConfig *config)
{
    if (!config) {
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_free(G_STRUCT_MEMBER(char *, config, texts[i].offset));
    }
    g_free(config);
}
