/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vtpm/host/fore-keyfile.h"

#include <string.h>

#include "common/fore-error.h"
#include "common/fore-identity.h"

#define PCR_LAST 15

bool fore_keyfile_refuse(GError **error, const char *key, const char *value, const char *want)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "%s = '%.80s': want %s", key,
                value != NULL ? value : "", want);
    return false;
}

static bool only_known(const ForeKeyfile *keyfile, const char *const *known, const char *manual,
                       GError **error)
{
    g_auto(GStrv) groups = g_key_file_get_groups(keyfile->file, NULL);
    g_auto(GStrv) keys = g_key_file_get_keys(keyfile->file, keyfile->group, NULL, NULL);
    g_autofree char *want = g_strdup_printf("one that %s lists", manual);

    for (unsigned i = 0; groups[i] != NULL; i++) {
        if (strcmp(groups[i], keyfile->group) != 0) {
            return fore_keyfile_refuse(error, "group", groups[i], keyfile->group);
        }
    }
    if (keys == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "there is no group [%s]",
                    keyfile->group);
        return false;
    }
    for (unsigned i = 0; keys[i] != NULL; i++) {
        if (!g_strv_contains(known, keys[i])) {
            return fore_keyfile_refuse(error, "key", keys[i], want);
        }
    }
    return true;
}

bool fore_keyfile_parse(ForeKeyfile *ret, const char *text, size_t size, const char *group,
                        const char *const *known, const char *manual, GError **error)
{
    g_auto(ForeKeyfile) keyfile = {g_key_file_new(), group};
    g_autoptr(GError) why = NULL;

    if (!g_key_file_load_from_data(keyfile.file, text, size, G_KEY_FILE_NONE, &why)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "%s", why->message);
        return false;
    }
    if (!only_known(&keyfile, known, manual, error)) {
        return false;
    }
    *ret = (ForeKeyfile){g_steal_pointer(&keyfile.file), group};
    return true;
}

void fore_keyfile_done(ForeKeyfile *keyfile)
{
    g_clear_pointer(&keyfile->file, g_key_file_unref);
}

char *fore_keyfile_read(const char *path, size_t *ret_size, GError **error)
{
    g_autoptr(GError) why = NULL;
    char *text = NULL;
    gsize size;

    if (!g_file_get_contents(path, &text, &size, &why)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "%s", why->message);
        return NULL;
    }
    *ret_size = size;
    return text;
}

char *fore_keyfile_text(const ForeKeyfile *keyfile, const char *key)
{
    char *text = g_key_file_get_string(keyfile->file, keyfile->group, key, NULL);

    if (text != NULL && g_strstrip(text)[0] == '\0') {
        g_clear_pointer(&text, g_free);
    }
    return text;
}

bool fore_keyfile_number(const ForeKeyfile *keyfile, const char *key, unsigned min, unsigned max,
                         unsigned fallback, unsigned *ret, GError **error)
{
    g_autofree char *text = fore_keyfile_text(keyfile, key);
    g_autofree char *want = NULL;
    guint64 value;

    if (text == NULL) {
        *ret = fallback;
        return true;
    }
    if (!g_ascii_string_to_unsigned(text, 10, min, max, &value, NULL)) {
        want = g_strdup_printf("a number %u..%u", min, max);
        return fore_keyfile_refuse(error, key, text, want);
    }
    *ret = (unsigned)value;
    return true;
}

bool fore_keyfile_bool(const ForeKeyfile *keyfile, const char *key, bool fallback, bool *ret,
                       GError **error)
{
    g_autofree char *text = fore_keyfile_text(keyfile, key);

    *ret = text != NULL ? strcmp(text, "true") == 0 : fallback;
    if (text != NULL && !*ret && strcmp(text, "false") != 0) {
        return fore_keyfile_refuse(error, key, text, "true or false");
    }
    return true;
}

bool fore_keyfile_pin_is_valid(const char *pin)
{
    return pin != NULL && strlen(pin) == FORE_PIN_HEX &&
           strspn(pin, "0123456789abcdef") == FORE_PIN_HEX;
}

bool fore_keyfile_pins(const ForeKeyfile *keyfile, const char *key, char ***ret, GError **error)
{
    g_autofree char *text = fore_keyfile_text(keyfile, key);
    g_auto(GStrv) words = g_strsplit_set(text != NULL ? text : "", " ,;\t", -1);
    g_autoptr(GPtrArray) pins = g_ptr_array_new_with_free_func(g_free);

    for (unsigned i = 0; words[i] != NULL; i++) {
        if (words[i][0] == '\0') {
            continue;
        }
        if (!fore_keyfile_pin_is_valid(words[i])) {
            return fore_keyfile_refuse(error, key, words[i], "pins of 64 lower-case hex digits");
        }
        g_ptr_array_add(pins, g_strdup(words[i]));
    }
    g_ptr_array_add(pins, NULL);
    *ret = (char **)g_ptr_array_free(g_steal_pointer(&pins), FALSE);
    return true;
}

static bool parse_pcrs(const char *text, uint32_t *ret)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);

    *ret = 0;
    for (unsigned i = 0; parts[i] != NULL; i++) {
        g_auto(GStrv) ends = g_strsplit(g_strstrip(parts[i]), "-", 2);
        guint64 first, last;

        if (ends[0] == NULL ||
            !g_ascii_string_to_unsigned(ends[0], 10, 0, PCR_LAST, &first, NULL)) {
            return false;
        }
        last = first;
        if (ends[1] != NULL &&
            !g_ascii_string_to_unsigned(ends[1], 10, first, PCR_LAST, &last, NULL)) {
            return false;
        }
        for (guint64 pcr = first; pcr <= last; pcr++) {
            *ret |= 1u << pcr;
        }
    }
    return *ret != 0;
}

bool fore_keyfile_pcrs(const ForeKeyfile *keyfile, const char *key, const char *fallback,
                       uint32_t *ret, GError **error)
{
    g_autofree char *text = fore_keyfile_text(keyfile, key);

    if (!parse_pcrs(text != NULL ? text : fallback, ret)) {
        return fore_keyfile_refuse(error, key, text, "PCRs of 0..15 such as 0-9,14");
    }
    return true;
}

bool fore_keyfile_need(const char *value, const char *key, GError **error)
{
    if (value == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "%s is missing", key);
        return false;
    }
    return true;
}
