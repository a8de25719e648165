/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/fore-error.h"

#include <string.h>

GQuark fore_error_quark(void)
{
    return g_quark_from_static_string("fore-error-quark");
}

static const char *const names[] = {
    [FORE_ERROR_FAILED] = "Failed",
    [FORE_ERROR_INVALID] = "Invalid",
    [FORE_ERROR_LIMIT] = "Limit",
    [FORE_ERROR_NOT_FOUND] = "NotFound",
    [FORE_ERROR_EXISTS] = "Exists",
    [FORE_ERROR_TIMEOUT] = "Timeout",
    [FORE_ERROR_CLOSED] = "Closed",
    [FORE_ERROR_UNTRUSTED] = "Untrusted",
    [FORE_ERROR_UNAVAILABLE] = "Unavailable",
    [FORE_ERROR_UNSUPPORTED] = "Unsupported",
};
G_STATIC_ASSERT(G_N_ELEMENTS(names) == FORE_ERROR_N);

const char *fore_error_code_name(ForeErrorCode code)
{
    g_assert(code < FORE_ERROR_N);
    return names[code];
}

ForeErrorCode fore_error_code_from_name(const char *name)
{
    for (unsigned i = 0; name != NULL && i < FORE_ERROR_N; i++) {
        if (strcmp(name, names[i]) == 0) {
            return i;
        }
    }
    return FORE_ERROR_FAILED;
}
