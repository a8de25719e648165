/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Configuration files of the daemons beside TPMs: a key file with one group.  An unknown key or
 * group is an error, because a misspelt security option must not be a silent default; every error
 * names the key, the value and what is wanted.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    GKeyFile *file;
    const char *group;
} ForeKeyfile;

/**
 * fore_keyfile_parse
 * @text: @size bytes, need not be terminated   @group: the only group
 * @known: NULL-terminated keys   @manual: page that lists them, for the message
 * Errors: FORE_ERROR_INVALID
 */
bool fore_keyfile_parse(ForeKeyfile *ret, const char *text, size_t size, const char *group,
                        const char *const *known, const char *manual, GError **error);
void fore_keyfile_done(ForeKeyfile *keyfile);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ForeKeyfile, fore_keyfile_done)

/** fore_keyfile_read: the bytes of @path (transfer full). Errors: FORE_ERROR_UNAVAILABLE */
char *fore_keyfile_read(const char *path, size_t *ret_size, GError **error);

/** fore_keyfile_refuse: sets FORE_ERROR_INVALID "KEY = 'VALUE': want WANT"; always false */
bool fore_keyfile_refuse(GError **error, const char *key, const char *value, const char *want);

/** fore_keyfile_text: stripped, NULL when absent or empty (transfer full) */
char *fore_keyfile_text(const ForeKeyfile *keyfile, const char *key);
bool fore_keyfile_number(const ForeKeyfile *keyfile, const char *key, unsigned min, unsigned max,
                         unsigned fallback, unsigned *ret, GError **error);
bool fore_keyfile_bool(const ForeKeyfile *keyfile, const char *key, bool fallback, bool *ret,
                       GError **error);
/** fore_keyfile_pins: pins separated by blanks, commas or semicolons; @ret NULL-terminated */
bool fore_keyfile_pins(const ForeKeyfile *keyfile, const char *key, char ***ret, GError **error);
/** fore_keyfile_pcrs: "0-9,14" as a mask of PCRs 0..15, not empty */
bool fore_keyfile_pcrs(const ForeKeyfile *keyfile, const char *key, const char *fallback,
                       uint32_t *ret, GError **error);
/** fore_keyfile_need: false with an error when @value is NULL */
bool fore_keyfile_need(const char *value, const char *key, GError **error);
/** fore_keyfile_pin_is_valid: 64 lower-case hex digits; NULL allowed */
bool fore_keyfile_pin_is_valid(const char *pin);
