/* SPDX-License-Identifier: GPL-2.0-or-later */
/* JSON from outside, and the texts inside it: whatever is taken keeps its bounds and comes back. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ForeJsonLimits small = {4096, 8, 100, 200};

static unsigned depth_of(const json_t *value)
{
    unsigned most = 0;
    const char *key;
    size_t i;
    json_t *item;

    json_array_foreach ((json_t *)value, i, item) {
        most = MAX(most, depth_of(item));
    }
    json_object_foreach ((json_t *)value, key, item) {
        most = MAX(most, depth_of(item));
    }
    return json_is_array(value) || json_is_object(value) ? most + 1 : 0;
}

static void check_getters(const json_t *object)
{
    const char *key, *text = NULL;
    json_t *item, *list = NULL;

    json_object_foreach ((json_t *)object, key, item) {
        int64_t i = 5;
        double r = 5;
        GBytes *bytes = NULL;
        if (fore_json_get_int(object, key, 0, 10, &i, NULL) && (i < 0 || i > 10)) {
            abort();
        }
        if (fore_json_get_real(object, key, -1, 1, &r, NULL) && !(r >= -1 && r <= 1)) {
            abort();
        }
        if (fore_json_get_string(object, key, &text, NULL) &&
            strlen(text) != json_string_length(item)) {
            abort();
        }
        if (fore_json_get_array(object, key, 3, &list, NULL) && json_array_size(list) > 3) {
            abort();
        }
        if (fore_json_get_bytes(object, key, 16, &bytes, NULL)) {
            g_autofree char *again =
                fore_b64_encode(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
            if (g_bytes_get_size(bytes) > 16 || strcmp(again, json_string_value(item)) != 0) {
                abort();
            }
            g_bytes_unref(bytes);
        }
    }
}

static void check(const json_t *value, const ForeJsonLimits *limits)
{
    g_autofree char *line = fore_json_dump_line(value);
    g_autoptr(json_t) again = NULL;

    if (depth_of(value) > limits->max_depth || strchr(line, '\n') != NULL) {
        abort();
    }
    again = fore_json_parse(line, strlen(line), &fore_json_limits_qmp, NULL);
    if (again == NULL || !json_equal(value, again)) {
        abort();
    }
    check_getters(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const ForeJsonLimits *all[] = {&small, &fore_json_limits_guest};

    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(json_t) value = fore_json_parse((const char *)data, size, all[i], &error);
        if ((value == NULL) != (error != NULL) ||
            (error != NULL && !g_utf8_validate(error->message, -1, NULL))) {
            abort();
        }
        if (value != NULL) {
            check(value, all[i]);
        }
    }
    return 0;
}
