/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works: one pass over the text counts nesting, commas and string lengths without building
 * anything; only a text within its bounds reaches jansson, whose own depth limit is a compile-time
 * 2048.
 */
#include "common/fore-json.h"

#include <math.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"

const ForeJsonLimits fore_json_limits_guest = {65536, 16, 4096, 49152};
const ForeJsonLimits fore_json_limits_peer = {1u << 20, 32, 65536, 1u << 20};
const ForeJsonLimits fore_json_limits_qmp = {10u << 20, 64, 1000000, 10u << 20};

/* Bytes from @text's opening quote to past its closing one; 0 when it never ends. */
static size_t skip_string(const char *text, size_t left)
{
    for (size_t i = 1; i < left; i++) {
        if (text[i] == '\\') {
            i++;
        } else if (text[i] == '"') {
            return i + 1;
        }
    }
    return 0;
}

static bool within_limits(const char *text, size_t size, const ForeJsonLimits *limits,
                          GError **error)
{
    unsigned depth = 0;
    size_t items = 0;

    for (size_t i = 0; i < size; i++) {
        if (text[i] == '"') {
            size_t n = skip_string(text + i, size - i);
            if (n == 0) {
                g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "JSON string never ends");
                return false;
            }
            if (n - 2 > limits->max_string) {
                g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                            "JSON string of %zu bytes; at most %zu are taken", n - 2,
                            limits->max_string);
                return false;
            }
            i += n - 1;
        } else if (text[i] == '{' || text[i] == '[') {
            depth++;
        } else if ((text[i] == '}' || text[i] == ']') && depth > 0) {
            depth--;
        } else if (text[i] == ',') {
            items++;
        }
        if (depth > limits->max_depth || items > limits->max_items) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                        "JSON passes its bounds: nesting %u of %u, items %zu of %zu", depth,
                        limits->max_depth, items, limits->max_items);
            return false;
        }
    }
    return true;
}

json_t *fore_json_parse(const char *text, size_t size, const ForeJsonLimits *limits, GError **error)
{
    json_error_t why;
    json_t *value;

    if (size > limits->max_bytes) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT, "JSON of %zu bytes; at most %zu are taken",
                    size, limits->max_bytes);
        return NULL;
    }
    if (!within_limits(text, size, limits, error)) {
        return NULL;
    }
    value = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
    if (value == NULL) {
        g_autofree char *shown = g_utf8_make_valid(why.text, -1);
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "bad JSON at byte %d: %s", why.position,
                    shown);
        return NULL;
    }
    if (!json_is_object(value)) {
        json_decref(value);
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "JSON is not an object");
        return NULL;
    }
    return value;
}

static json_t *get(const json_t *obj, const char *key, bool fits(const json_t *), const char *type,
                   GError **error)
{
    json_t *value = json_object_get(obj, key);

    if (value == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "'%s' is missing; it must be %s", key,
                    type);
        return NULL;
    }
    if (!fits(value)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "'%s' is not %s", key, type);
        return NULL;
    }
    return value;
}

static bool is_string(const json_t *v)
{
    /* An embedded NUL would make two readers see two texts. */
    return json_is_string(v) && strlen(json_string_value(v)) == json_string_length(v);
}

static bool is_integer(const json_t *v)
{
    return json_is_integer(v);
}

static bool is_number(const json_t *v)
{
    return json_is_number(v);
}

static bool is_boolean(const json_t *v)
{
    return json_is_boolean(v);
}

static bool is_object(const json_t *v)
{
    return json_is_object(v);
}

static bool is_array(const json_t *v)
{
    return json_is_array(v);
}

bool fore_json_get_string(const json_t *obj, const char *key, const char **ret, GError **error)
{
    json_t *v = get(obj, key, is_string, "a string", error);

    if (v == NULL) {
        return false;
    }
    *ret = json_string_value(v);
    return true;
}

bool fore_json_get_int(const json_t *obj, const char *key, int64_t min, int64_t max, int64_t *ret,
                       GError **error)
{
    json_t *v = get(obj, key, is_integer, "an integer", error);

    if (v == NULL) {
        return false;
    }
    if (json_integer_value(v) < min || json_integer_value(v) > max) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "'%s' is %" JSON_INTEGER_FORMAT "; it must be %" G_GINT64_FORMAT
                    "..%" G_GINT64_FORMAT,
                    key, json_integer_value(v), min, max);
        return false;
    }
    *ret = json_integer_value(v);
    return true;
}

bool fore_json_get_real(const json_t *obj, const char *key, double min, double max, double *ret,
                        GError **error)
{
    json_t *v = get(obj, key, is_number, "a number", error);
    double x;

    if (v == NULL) {
        return false;
    }
    x = json_number_value(v);
    if (!isfinite(x) || x < min || x > max) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "'%s' is %g; it must be %g..%g", key, x,
                    min, max);
        return false;
    }
    *ret = x;
    return true;
}

bool fore_json_get_bool(const json_t *obj, const char *key, bool *ret, GError **error)
{
    json_t *v = get(obj, key, is_boolean, "true or false", error);

    if (v == NULL) {
        return false;
    }
    *ret = json_is_true(v);
    return true;
}

bool fore_json_get_object(const json_t *obj, const char *key, json_t **ret, GError **error)
{
    json_t *v = get(obj, key, is_object, "an object", error);

    if (v == NULL) {
        return false;
    }
    *ret = v;
    return true;
}

bool fore_json_get_array(const json_t *obj, const char *key, size_t max, json_t **ret,
                         GError **error)
{
    json_t *v = get(obj, key, is_array, "an array", error);

    if (v == NULL) {
        return false;
    }
    if (json_array_size(v) > max) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "'%s' has %zu elements; at most %zu are taken", key, json_array_size(v), max);
        return false;
    }
    *ret = v;
    return true;
}

bool fore_json_get_bytes(const json_t *obj, const char *key, size_t max, GBytes **ret,
                         GError **error)
{
    const char *text = NULL;
    GBytes *bytes;

    if (!fore_json_get_string(obj, key, &text, error)) {
        return false;
    }
    bytes = fore_b64_decode(text, max);
    if (bytes == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "'%s' is not base64 of at most %zu bytes", key, max);
        return false;
    }
    *ret = bytes;
    return true;
}

json_t *fore_json_bytes(GBytes *bytes)
{
    gsize size = 0;
    const void *data = g_bytes_get_data(bytes, &size);
    g_autofree char *text = fore_b64_encode(data, size);

    return json_string(text);
}

char *fore_json_dump_line(const json_t *value)
{
    char *raw = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    char *text = g_strdup(raw);

    g_assert(raw != NULL);
    free(raw);
    return text;
}
