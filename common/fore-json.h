/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * JSON from outside: jansson behind size, depth, array and string bounds that are checked before a
 * tree is built; typed getters whose errors name the key.
 */
#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    size_t max_bytes;   /* of the text */
    unsigned max_depth; /* of nesting, 1 = a flat object */
    size_t max_items;   /* of commas in the whole text: bounds arrays and objects */
    size_t max_string;  /* bytes between two quotes */
} ForeJsonLimits;

extern const ForeJsonLimits
    fore_json_limits_guest; /* 64 KiB, depth 16, 4096 items, 48 KiB strings */
extern const ForeJsonLimits fore_json_limits_peer; /* 1 MiB, depth 32, 65536 items, 1 MiB strings */
extern const ForeJsonLimits fore_json_limits_qmp;  /* 10 MiB, depth 64, 1e6 items, 10 MiB strings */

G_DEFINE_AUTOPTR_CLEANUP_FUNC(json_t, json_decref)

/**
 * fore_json_parse: one JSON object from @text
 * @text: @size bytes, need not be terminated; duplicate keys, invalid UTF-8, NaN and overflow
 * refused Errors: FORE_ERROR_LIMIT (a bound), FORE_ERROR_INVALID (syntax, or not an object)
 */
json_t *fore_json_parse(const char *text, size_t size, const ForeJsonLimits *limits,
                        GError **error);

/* Getters: the value must be present and of the type, else FORE_ERROR_INVALID naming @key. */
bool fore_json_get_string(const json_t *obj, const char *key, const char **ret, GError **error);
bool fore_json_get_int(const json_t *obj, const char *key, int64_t min, int64_t max, int64_t *ret,
                       GError **error);
bool fore_json_get_real(const json_t *obj, const char *key, double min, double max, double *ret,
                        GError **error); /* accepts integers; refuses NaN and infinities */
bool fore_json_get_bool(const json_t *obj, const char *key, bool *ret, GError **error);
bool fore_json_get_object(const json_t *obj, const char *key, json_t **ret, GError **error);
bool fore_json_get_array(const json_t *obj, const char *key, size_t max, json_t **ret,
                         GError **error);
/** fore_json_get_bytes: a base64 string of at most @max bytes; @ret: (transfer full) */
bool fore_json_get_bytes(const json_t *obj, const char *key, size_t max, GBytes **ret,
                         GError **error);

/** fore_json_bytes: a JSON string holding the base64 of @bytes */
json_t *fore_json_bytes(GBytes *bytes);
/** fore_json_dump_line: compact text without a newline (transfer full, g_free) */
char *fore_json_dump_line(const json_t *value);
