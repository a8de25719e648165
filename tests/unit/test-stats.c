/* SPDX-License-Identifier: GPL-2.0-or-later */
/* KVM's statistics as QEMU gives them over QMP, and as it should not. */
#include <string.h>

#include "common/fore-error.h"
#include "qmp-agent/fore-stats.h"

static bool parse(const char *text, ForeStatsTotals *ret, GError **error)
{
    g_autoptr(json_t) list = json_loads(text, 0, NULL);

    g_assert_nonnull(list);
    return fore_stats_parse(list, ret, error);
}

static void test_sums(void)
{
    ForeStatsTotals t;
    g_autoptr(GError) error = NULL;

    g_assert_true(
        parse("[{\"provider\":\"kvm\",\"qom-path\":\"/a\",\"stats\":["
              "{\"name\":\"exits\",\"value\":100},{\"name\":\"guest_mode\",\"value\":true},"
              "{\"name\":\"halt_wait_hist\",\"value\":[1,2]},"
              "{\"name\":\"halt_wait_ns\",\"value\":7}]},"
              "{\"provider\":\"cryptodev\",\"stats\":[{\"name\":\"exits\",\"value\":1}]},"
              "{\"provider\":\"kvm\",\"qom-path\":\"/b\",\"stats\":["
              "{\"name\":\"exits\",\"value\":11}]}]",
              &t, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(t.vcpus, ==, 2);
    g_assert_cmpuint(t.value[FORE_STATS_EXITS], ==, 111);
    g_assert_cmphex(t.has, ==, 1u << FORE_STATS_EXITS); /* the other was told by one vCPU only */
}

static void test_empty(void)
{
    ForeStatsTotals t;

    g_assert_true(parse("[]", &t, NULL)); /* what TCG answers */
    g_assert_cmpuint(t.vcpus, ==, 0);
    g_assert_cmphex(t.has, ==, 0);
}

static void test_refused(void)
{
    static const char *const bad[] = {
        "{}",
        "[1]",
        "[{\"provider\":\"kvm\"}]",
        "[{\"provider\":\"kvm\",\"stats\":{}}]",
        "[{\"provider\":\"kvm\",\"stats\":[{\"name\":\"exits\"}]}]",
        "[{\"provider\":\"kvm\",\"stats\":[{\"value\":1}]}]",
        "[{\"provider\":\"kvm\",\"stats\":[{\"name\":\"exits\",\"value\":-1}]}]",
        "[{\"provider\":\"kvm\",\"stats\":[{\"name\":\"exits\",\"value\":1.5}]}]",
        "[{\"provider\":\"kvm\",\"stats\":[{\"name\":\"exits\",\"value\":true}]}]",
        ("[{\"provider\":\"kvm\",\"stats\":[{\"name\":\"exits\",\"value\":1},"
         "{\"name\":\"exits\",\"value\":1}]}]"),
        "[{\"stats\":[]}]",
    };
    ForeStatsTotals t = {.vcpus = 77};

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_test_message("%s", bad[i]);
        g_assert_false(parse(bad[i], &t, &error));
        g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    }
    g_assert_cmpuint(t.vcpus, ==, 77);
}

static void test_too_many(void)
{
    g_autoptr(json_t) list = json_array();
    ForeStatsTotals t;

    for (unsigned i = 0; i < 1025; i++) {
        json_array_append_new(list, json_pack("{s:s,s:[]}", "provider", "kvm", "stats"));
    }
    g_assert_false(fore_stats_parse(list, &t, NULL));
    json_array_remove(list, 0);
    g_assert_true(fore_stats_parse(list, &t, NULL));
    g_assert_cmpuint(t.vcpus, ==, 1024);
}

static void test_view(void)
{
    ForeStats s = {.state = FORE_STATS_KVM};

    g_assert_null(fore_stats_view(&s));
    s.prev = (ForeStatsTotals){.vcpus = 2,
                               .has = 1u << FORE_STATS_EXITS | 1u << FORE_STATS_HALT_WAIT_NS};
    s.now = s.prev;
    s.now.value[FORE_STATS_EXITS] = 500;
    s.now.value[FORE_STATS_HALT_WAIT_NS] = 7500000000;
    s.at_ns = 6000000000;
    g_assert_null(fore_stats_view(&s)); /* one answer is no rate */
    s.prev_ns = 1000000000;
    g_autoptr(json_t) view = fore_stats_view(&s);
    g_assert_nonnull(view);
    g_assert_cmpfloat(json_real_value(json_object_get(view, "exits-per-s")), ==, 100);
    g_assert_cmpfloat(json_real_value(json_object_get(view, "halt-wait-vcpus")), ==, 1.5);
    g_assert_null(json_object_get(view, "io-exits-per-s"));
    s.now.vcpus = 3;
    g_assert_null(fore_stats_view(&s));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent/stats/vcpus-are-summed", test_sums);
    g_test_add_func("/agent/stats/empty-list-is-no-vcpu", test_empty);
    g_test_add_func("/agent/stats/bad-answer-is-refused-whole", test_refused);
    g_test_add_func("/agent/stats/number-of-vcpus-is-bounded", test_too_many);
    g_test_add_func("/agent/stats/rates-need-two-answers-of-the-same-vcpus", test_view);
    return g_test_run();
}
