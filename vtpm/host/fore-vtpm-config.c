/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vtpm/host/fore-vtpm-config.h"

#include <string.h>

#include "common/fore-error.h"
#include "vtpm/host/fore-keyfile.h"

#define MAX_RUN_DIR 55 /* leaves room for "/UUID.sock.ctrl" in a socket address of 108 bytes */

static const char *const known_keys[] = {
    "tcti", "state-dir", "run-dir", "ca-dir", "seal-pcrs", "launch-log", "libvirt-dir", NULL,
};

void fore_vtpm_config_free(ForeVtpmConfig *c)
{
    if (c == NULL) {
        return;
    }
    g_free(c->tcti);
    g_free(c->dir);
    g_free(c->run_dir);
    g_free(c->ca_dir);
    g_free(c->launch_log);
    g_free(c->libvirt_dir);
    g_free(c);
}

static char *text_or(const ForeKeyfile *file, const char *key, const char *fallback)
{
    char *text = fore_keyfile_text(file, key);

    return text != NULL ? text : g_strdup(fallback);
}

static bool check_dir(const char *key, const char *path, GError **error)
{
    return g_path_is_absolute(path) && strpbrk(path, ",\n") == NULL
               ? true
               : fore_keyfile_refuse(error, key, path, "an absolute path without a comma");
}

static bool seal_pcrs(const ForeKeyfile *file, uint32_t *ret, GError **error)
{
    g_autofree char *text = fore_keyfile_text(file, "seal-pcrs");

    if (text != NULL && strcmp(text, "none") == 0) {
        *ret = 0;
        return true;
    }
    return fore_keyfile_pcrs(file, "seal-pcrs", "7", ret, error);
}

ForeVtpmConfig *fore_vtpm_config_parse(const char *text, size_t size, GError **error)
{
    g_auto(ForeKeyfile) file = {NULL, NULL};
    g_autoptr(ForeVtpmConfig) c = g_new0(ForeVtpmConfig, 1);

    if (!fore_keyfile_parse(&file, text, size, "vtpm", known_keys, "foresee-vtpm(8)", error)) {
        return NULL;
    }
    c->tcti = text_or(&file, "tcti", "device:/dev/tpmrm0");
    c->dir = text_or(&file, "state-dir", "/var/lib/foresee/vtpm");
    c->run_dir = text_or(&file, "run-dir", "/run/foresee/vtpm");
    c->ca_dir = text_or(&file, "ca-dir", "/var/lib/foresee/vtpm-ca");
    c->launch_log = text_or(&file, "launch-log", "/run/foresee/launch.log");
    c->libvirt_dir = text_or(&file, "libvirt-dir", "/var/lib/libvirt/swtpm");
    if (!check_dir("state-dir", c->dir, error) || !check_dir("run-dir", c->run_dir, error) ||
        !check_dir("ca-dir", c->ca_dir, error) || !check_dir("launch-log", c->launch_log, error) ||
        !seal_pcrs(&file, &c->pcr_mask, error)) {
        return NULL;
    }
    if (strlen(c->run_dir) > MAX_RUN_DIR) {
        fore_keyfile_refuse(error, "run-dir", c->run_dir,
                            "at most 55 characters, so that a socket's address fits");
        return NULL;
    }
    return g_steal_pointer(&c);
}

ForeVtpmConfig *fore_vtpm_config_load(const char *path, GError **error)
{
    static const char nothing[] = "[vtpm]\n";
    g_autofree char *text = NULL;
    size_t size = 0;
    ForeVtpmConfig *config;

    if (path == NULL) {
        return fore_vtpm_config_parse(nothing, strlen(nothing), error);
    }
    text = fore_keyfile_read(path, &size, error);
    config = text != NULL ? fore_vtpm_config_parse(text, size, error) : NULL;
    if (text != NULL && config == NULL) {
        g_prefix_error(error, "%s: ", path);
    }
    return config;
}

ForeVtpmHost fore_vtpm_config_host(const ForeVtpmConfig *c)
{
    return (ForeVtpmHost){.tcti = c->tcti,
                          .dir = c->dir,
                          .run_dir = c->run_dir,
                          .ca_dir = c->ca_dir,
                          .pcr_mask = c->pcr_mask};
}
