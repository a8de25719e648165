/* SPDX-License-Identifier: GPL-2.0-or-later */
/* KVM's statistics from a scripted QEMU: asked once whether there is KVM, and then now and then. */
#include <glib/gstdio.h>

#include "common/fore-error.h"
#include "qmp-agent/fore-stats.h"
#include "tests/lib/fore-test-qmp.h"

#define DEADLINE_S 30

typedef struct {
    GMainContext *context;
    char *dir, *path;
    ForeTestQmp *server;
    ForeLink *link;
    bool up;
    ForeStats stats;
    uint64_t now_ns; /* as the test tells it */
} Case;

static void on_up(ForeLink *link, gpointer data)
{
    ((Case *)data)->up = true;
}

static void on_down(ForeLink *link, const GError *why, gpointer data)
{
    ((Case *)data)->up = false;
}

static void on_event(ForeLink *link, const char *event, const json_t *ev_data, gpointer data)
{
}

static const ForeLinkOps ops = {on_up, on_down, on_event};

static gboolean too_late(gpointer data)
{
    g_error("not within %d s", DEADLINE_S);
    return G_SOURCE_REMOVE;
}

static void wait_until(Case *c, const bool *flag, bool wanted)
{
    g_autoptr(GSource) timer = g_timeout_source_new_seconds(DEADLINE_S);

    g_source_set_callback(timer, too_late, NULL, NULL);
    g_source_attach(timer, c->context);
    while (*flag != wanted) {
        g_main_context_iteration(c->context, TRUE);
    }
    g_source_destroy(timer);
}

static void set_up(Case *c, gconstpointer data)
{
    ForeWireConfig config = {.json = fore_json_limits_qmp};

    c->context = g_main_context_new();
    c->dir = g_dir_make_tmp("foresee-stats-XXXXXX", NULL);
    c->path = g_build_filename(c->dir, "socket", NULL);
    g_autofree char *address = g_strconcat("unix:", c->path, NULL);
    c->server = fore_test_qmp_new(c->context, c->path, 1, NULL, NULL);
    c->link = fore_link_new(c->context, address, NULL, &config, &ops, c);
    c->now_ns = 1000 * G_GUINT64_CONSTANT(1000000000);
    wait_until(c, &c->up, true);
}

static void tear_down(Case *c, gconstpointer data)
{
    fore_link_free(c->link);
    fore_test_qmp_free(c->server);
    g_remove(c->path);
    g_rmdir(c->dir);
    g_free(c->path);
    g_free(c->dir);
    g_main_context_unref(c->context);
}

/* One poll, @later_ns after the one before, and its answer. */
static void poll_once(Case *c, uint64_t later_ns)
{
    c->now_ns += later_ns;
    fore_stats_poll(&c->stats, c->link, c->now_ns);
    wait_until(c, &c->stats.asking, false);
}

static void answer_kvm(Case *c, bool enabled)
{
    fore_test_qmp_return(c->server, "query-kvm",
                         json_pack("{s:b,s:b}", "enabled", (int)enabled, "present", 1));
}

static void answer_exits(Case *c, int exits)
{
    fore_test_qmp_return(c->server, "query-stats",
                         json_pack("[{s:s,s:[{s:s,s:i}]}]", "provider", "kvm", "stats", "name",
                                   "exits", "value", exits));
}

static void test_kvm(Case *c, gconstpointer data)
{
    answer_kvm(c, true);
    poll_once(c, 0);
    g_assert_cmpint(c->stats.state, ==, FORE_STATS_KVM);
    answer_exits(c, 100);
    poll_once(c, 1);
    g_assert_null(fore_stats_view(&c->stats));
    poll_once(c, FORE_STATS_EVERY_NS - 1); /* too early: nothing is asked */
    g_assert_cmpuint(fore_test_qmp_count(c->server, "query-stats"), ==, 1);
    answer_exits(c, 150);
    poll_once(c, 1);
    g_autoptr(json_t) view = fore_stats_view(&c->stats);
    g_assert_cmpfloat(json_real_value(json_object_get(view, "exits-per-s")), >, 0);
    g_assert_cmpuint(fore_test_qmp_count(c->server, "query-kvm"), ==, 1);

    /* An answer that is wrong ends the rates, and two good ones bring them back. */
    fore_test_qmp_return(c->server, "query-stats", json_object());
    poll_once(c, FORE_STATS_EVERY_NS);
    g_assert_null(fore_stats_view(&c->stats));
    answer_exits(c, 200);
    poll_once(c, FORE_STATS_EVERY_NS);
    g_assert_null(fore_stats_view(&c->stats));
}

static void test_tcg(Case *c, gconstpointer data)
{
    answer_kvm(c, false);
    poll_once(c, 0);
    for (unsigned i = 0; i < 5; i++) {
        poll_once(c, FORE_STATS_EVERY_NS);
    }
    g_assert_cmpint(c->stats.state, ==, FORE_STATS_ABSENT);
    g_assert_cmpuint(fore_test_qmp_count(c->server, "query-kvm"), ==, 1);
    g_assert_cmpuint(fore_test_qmp_count(c->server, "query-stats"), ==, 0);
}

static void test_old_qemu(Case *c, gconstpointer data)
{
    poll_once(c, 0); /* CommandNotFound */
    g_assert_cmpint(c->stats.state, ==, FORE_STATS_ABSENT);
}

static void test_lost(Case *c, gconstpointer data)
{
    answer_kvm(c, true);
    poll_once(c, 0);
    fore_test_qmp_swallow(c->server, "query-stats");
    fore_stats_poll(&c->stats, c->link, ++c->now_ns);
    g_assert_true(c->stats.asking);
    fore_test_qmp_drop(c->server);
    wait_until(c, &c->up, false);
    fore_stats_reset(&c->stats);
    wait_until(c, &c->stats.asking, false);
    g_assert_cmpint(c->stats.state, ==, FORE_STATS_UNKNOWN);
    wait_until(c, &c->up, true);
    answer_kvm(c, true);
    poll_once(c, FORE_STATS_EVERY_NS);
    g_assert_cmpint(c->stats.state, ==, FORE_STATS_KVM);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add("/agent/stats/" path, Case, NULL, set_up, func, tear_down)
    ADD("kvm-is-asked-now-and-then", test_kvm);
    ADD("tcg-is-asked-once", test_tcg);
    ADD("qemu-that-knows-no-statistics-is-left-alone", test_old_qemu);
    ADD("lost-connection-starts-over", test_lost);
    return g_test_run();
}
