/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "common/fore-error.h"
#include "common/fore-json.h"

static json_t *parse(const char *text, const ForeJsonLimits *limits, GError **error)
{
    return fore_json_parse(text, strlen(text), limits, error);
}

static void assert_taken(const char *text, const ForeJsonLimits *limits)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(json_t) value = parse(text, limits, &err);

    g_assert_no_error(err);
    g_assert_nonnull(value);
}

static void assert_refused(const char *text, const ForeJsonLimits *limits, ForeErrorCode code)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(json_t) value = parse(text, limits, &err);

    g_assert_null(value);
    g_assert_error(err, FORE_ERROR, (int)code);
}

static json_t *good(const char *text)
{
    g_autoptr(GError) err = NULL;
    json_t *value = parse(text, &fore_json_limits_peer, &err);

    g_assert_no_error(err);
    return value;
}

/* {"a": [[...]]}, @depth at least 2 */
static char *nested(unsigned depth)
{
    g_autofree char *open = g_strnfill(depth - 1, '['), *close = g_strnfill(depth - 1, ']');

    return g_strconcat("{\"a\":", open, close, "}", NULL);
}

/* {"a": [0,0,...]} with @n commas */
static char *commas(size_t n)
{
    GString *text = g_string_new("{\"a\":[0");

    for (size_t i = 0; i < n; i++) {
        g_string_append(text, ",0");
    }
    g_string_append(text, "]}");
    return g_string_free(text, FALSE);
}

static char *long_string(size_t n)
{
    g_autofree char *x = g_strnfill(n, 'x');

    return g_strconcat("{\"a\":\"", x, "\"}", NULL);
}

/* --- bounds --- */

static void test_depth(void)
{
    const ForeJsonLimits *all[] = {&fore_json_limits_guest, &fore_json_limits_peer,
                                   &fore_json_limits_qmp};

    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        ForeJsonLimits limits = *all[i];
        g_autofree char *fits = nested(limits.max_depth), *deep = nested(limits.max_depth + 1);
        g_autofree char *absurd = nested(100000);
        assert_taken(fits, &limits);
        assert_refused(deep, &limits, FORE_ERROR_LIMIT);
        limits.max_bytes = SIZE_MAX; /* depth alone must stop it */
        assert_refused(absurd, &limits, FORE_ERROR_LIMIT);
    }
}

static void test_sizes(void)
{
    const ForeJsonLimits limits = {
        .max_bytes = 64, .max_depth = 4, .max_items = 5, .max_string = 20};
    g_autofree char *items = commas(5), *more_items = commas(6);
    g_autofree char *string = long_string(20), *longer = long_string(21), *huge = long_string(80);

    assert_taken(items, &limits);
    assert_refused(more_items, &limits, FORE_ERROR_LIMIT);
    assert_taken(string, &limits);
    assert_refused(longer, &limits, FORE_ERROR_LIMIT);
    assert_refused(huge, &limits, FORE_ERROR_LIMIT);
    /* what stands in a string is text: no nesting, no comma, no end */
    assert_taken("{\"a\":\"[[[[[[,,,,,,]\"}", &limits);
    assert_taken("{\"a\":\"\\\"[[[[[[\"}", &limits);
    assert_taken("{\"a\":\"\\\\\",\"b\":[[]]}", &limits);
    /* brackets that close too often do not buy depth */
    assert_refused("]]]]{\"a\":[[[[]]]]}", &limits, FORE_ERROR_LIMIT);
}

static void test_refused(void)
{
    static const char *const bad[] = {
        "",
        "{",
        "{}}",
        "{} {}",
        "[]",
        "7",
        "null",
        "\"text\"",
        "{\"a\":1,\"a\":2}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{\"a\":1e999}",
        "{\"a\":99999999999999999999}",
        "{\"a\":01}",
        "{\"a\":'x'}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\u0000\"}",
        "{\"a\":\"\xff\"}",
        "{\"a\":\"\xc0\x80\"}",
        "{\"a\":\"tab\there\"}",
        "{\"a\":\"no end}",
        "{\"a\":\"no end\\",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "/* */ {}",
        "\xef\xbb\xbf{}",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_test_message("%u", i);
        assert_refused(bad[i], &fore_json_limits_peer, FORE_ERROR_INVALID);
    }
}

static void test_size_counts_not_nul(void)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(json_t) value = fore_json_parse("{}garbage", 2, &fore_json_limits_peer, &err);

    g_assert_no_error(err);
    g_assert_nonnull(value);
    g_assert_null(fore_json_parse("{}\0{}", 5, &fore_json_limits_peer, &err));
    g_assert_error(err, FORE_ERROR, FORE_ERROR_INVALID);
}

/* --- getters --- */

static void test_getters(void)
{
    g_autoptr(json_t) v = good("{\"s\":\"x\",\"i\":-3,\"r\":2.5,\"b\":true,\"o\":{},\"a\":[1,2],"
                               "\"bytes\":\"Zm9v\"}");
    const char *s = NULL;
    int64_t i = 0;
    double r = 0;
    bool b = false;
    json_t *o = NULL, *a = NULL;
    g_autoptr(GBytes) bytes = NULL;

    g_assert_true(fore_json_get_string(v, "s", &s, NULL));
    g_assert_cmpstr(s, ==, "x");
    g_assert_true(fore_json_get_int(v, "i", -3, -3, &i, NULL));
    g_assert_cmpint(i, ==, -3);
    g_assert_true(fore_json_get_real(v, "r", 2.5, 2.5, &r, NULL));
    g_assert_true(fore_json_get_real(v, "i", -5, 0, &r, NULL)); /* an integer is a number */
    g_assert_cmpfloat(r, ==, -3);
    g_assert_true(fore_json_get_bool(v, "b", &b, NULL));
    g_assert_true(b);
    g_assert_true(fore_json_get_object(v, "o", &o, NULL));
    g_assert_true(fore_json_get_array(v, "a", 2, &a, NULL));
    g_assert_cmpuint(json_array_size(a), ==, 2);
    g_assert_true(fore_json_get_bytes(v, "bytes", 3, &bytes, NULL));
    g_assert_cmpmem(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), "foo", 3);
}

/* Every getter refuses a missing key, another type and a value out of range, names the key, and
 * leaves the output alone. */
static void test_getters_refuse(void)
{
    g_autoptr(json_t) v = good("{\"n\":null,\"i\":7,\"s\":\"x!\",\"r\":2.5,\"a\":[1,2,3]}");
    static const char *const keys[] = {"missing", "n"};
    const char *s = "untouched";
    int64_t i = 42;
    double r = 42;
    bool b = true;
    json_t *o = NULL;
    GBytes *bytes = NULL;
    g_autoptr(GError) err = NULL;

    for (unsigned k = 0; k < G_N_ELEMENTS(keys); k++) {
        g_assert_false(fore_json_get_string(v, keys[k], &s, NULL));
        g_assert_false(fore_json_get_int(v, keys[k], 0, 100, &i, NULL));
        g_assert_false(fore_json_get_real(v, keys[k], 0, 100, &r, NULL));
        g_assert_false(fore_json_get_bool(v, keys[k], &b, NULL));
        g_assert_false(fore_json_get_object(v, keys[k], &o, NULL));
        g_assert_false(fore_json_get_array(v, keys[k], 9, &o, NULL));
        g_assert_false(fore_json_get_bytes(v, keys[k], 9, &bytes, NULL));
    }
    g_assert_false(fore_json_get_int(v, "i", 8, 100, &i, NULL));
    g_assert_false(fore_json_get_int(v, "i", 0, 6, &i, NULL));
    g_assert_false(fore_json_get_int(v, "r", 0, 100, &i, NULL));
    g_assert_false(fore_json_get_real(v, "r", 2.6, 3, &r, NULL));
    g_assert_false(fore_json_get_bool(v, "i", &b, NULL));
    g_assert_false(fore_json_get_bytes(v, "s", 9, &bytes, NULL));
    g_assert_cmpstr(s, ==, "untouched");
    g_assert_cmpint(i, ==, 42);
    g_assert_cmpfloat(r, ==, 42);
    g_assert_true(b);
    g_assert_null(o);
    g_assert_null(bytes);
    g_assert_false(fore_json_get_array(v, "a", 2, &o, &err));
    g_assert_error(err, FORE_ERROR, FORE_ERROR_LIMIT);
    g_assert_nonnull(strstr(err->message, "'a'"));
    g_clear_error(&err);
    g_assert_false(fore_json_get_int(v, "i", 8, 100, &i, &err));
    g_assert_error(err, FORE_ERROR, FORE_ERROR_INVALID);
    g_assert_cmpstr(err->message, ==, "'i' is 7; it must be 8..100");
    g_clear_error(&err);
    g_assert_false(fore_json_get_string(NULL, "x", &s, &err)); /* no object has no keys */
    g_assert_error(err, FORE_ERROR, FORE_ERROR_INVALID);
}

/* Two readers of one text must see one text. */
static void test_embedded_nul(void)
{
    g_autoptr(json_t) v = json_object();
    const char *s = NULL;

    json_object_set_new(v, "s", json_stringn("good\0evil", 9));
    g_assert_false(fore_json_get_string(v, "s", &s, NULL));
}

static void test_dump_comes_back(void)
{
    g_autoptr(json_t) v = good("{\"a\":[1,2.5,\"\\u00e9\\n\\\"\"],\"b\":{\"c\":null,\"d\":false}}");
    g_autofree char *line = fore_json_dump_line(v);
    g_autoptr(json_t) again = good(line);
    g_autoptr(GBytes) bytes = g_bytes_new("\x00\xff", 2);
    g_autoptr(json_t) text = fore_json_bytes(bytes);

    g_assert_null(strchr(line, '\n')); /* one line, whatever is in it */
    g_assert_true(json_equal(v, again));
    g_assert_cmpstr(json_string_value(text), ==, "AP8=");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/common/json/nesting-is-bounded-before-parsing", test_depth);
    g_test_add_func("/common/json/sizes-are-bounded-before-parsing", test_sizes);
    g_test_add_func("/common/json/what-is-no-object-is-refused", test_refused);
    g_test_add_func("/common/json/size-counts-not-nul", test_size_counts_not_nul);
    g_test_add_func("/common/json/getters-read-their-type", test_getters);
    g_test_add_func("/common/json/getters-refuse-and-name-the-key", test_getters_refuse);
    g_test_add_func("/common/json/embedded-nul-is-no-text", test_embedded_nul);
    g_test_add_func("/common/json/dump-is-one-line-and-comes-back", test_dump_comes_back);
    return g_test_run();
}
