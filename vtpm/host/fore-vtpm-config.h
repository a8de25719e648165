/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Configuration of foresee-vtpm(8). */
#include "vtpm/host/fore-vtpm.h"

typedef struct {
    char *tcti, *dir, *run_dir, *ca_dir, *launch_log, *libvirt_dir;
    uint32_t pcr_mask;
} ForeVtpmConfig;

/** fore_vtpm_config_parse: @text is @size bytes of a key file with the group [vtpm]
 *  Errors: FORE_ERROR_INVALID (names the key and the value) */
ForeVtpmConfig *fore_vtpm_config_parse(const char *text, size_t size, GError **error);
/** fore_vtpm_config_load: @path NULL: all defaults. Errors: FORE_ERROR_UNAVAILABLE, as above */
ForeVtpmConfig *fore_vtpm_config_load(const char *path, GError **error);
void fore_vtpm_config_free(ForeVtpmConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeVtpmConfig, fore_vtpm_config_free)
/** fore_vtpm_config_host: a view of it, borrowed */
ForeVtpmHost fore_vtpm_config_host(const ForeVtpmConfig *config);
