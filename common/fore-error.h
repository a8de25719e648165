/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The one GError domain of Foresee.  A code is something a caller can act on; the message names the
 * object, the value and what to do.
 */
#include <glib.h>

#define FORE_ERROR (fore_error_quark())
GQuark fore_error_quark(void);

typedef enum {
    FORE_ERROR_FAILED,      /* the world said no and there is nothing more specific to do */
    FORE_ERROR_INVALID,     /* bytes or arguments that break the contract; do not retry */
    FORE_ERROR_LIMIT,       /* a bound was reached: size, depth, rate, capacity */
    FORE_ERROR_NOT_FOUND,   /* the named object does not exist */
    FORE_ERROR_EXISTS,      /* it is there already */
    FORE_ERROR_TIMEOUT,     /* the deadline passed; the effect is unknown, re-query */
    FORE_ERROR_CLOSED,      /* the peer went away; the effect is unknown, re-query */
    FORE_ERROR_UNTRUSTED,   /* signature, pin, nonce or policy: the answer is no */
    FORE_ERROR_UNAVAILABLE, /* not now: disk full, device busy, part not running; retry later */
    FORE_ERROR_UNSUPPORTED, /* this build, QEMU or kernel cannot do it */
    FORE_ERROR_N
} ForeErrorCode;

/**
 * fore_error_code_name: stable name of a code, as sent on the wire in "error.class"
 * @code: below FORE_ERROR_N
 * Returns: static string, e.g. "Untrusted"
 */
const char *fore_error_code_name(ForeErrorCode code);

/** fore_error_code_from_name: inverse; FORE_ERROR_FAILED for an unknown name (NULL allowed) */
ForeErrorCode fore_error_code_from_name(const char *name);
