/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * foreseed and its weights: it signs what it trains, uses nothing that another key signed, and goes
 * on with a training that kill -9 cut short.
 */
#include <string.h>
#include <unistd.h>

#include "common/fore-bytes.h"
#include "common/fore-identity.h"
#include "common/fore-signed.h"
#include "profile/fore-store.h"
#include "tests/agent/test-foreseed-fixture.h"
#include "tests/lib/synthetic-bursts.h"

/* A recording of web1 that ended a minute ago, written while foreseed does not run. */
static void record(const ForeseedTest *t)
{
    SyntheticConfig process = {.seed = 1000, .n = 150};
    g_autoptr(Synthetic) s = synthetic_new(&process);
    g_autofree char *path = foreseed_test_path(t, "state/store.db");
    g_autofree char *key_path = foreseed_test_path(t, "key"), *hex = NULL;
    g_autoptr(GBytes) key = NULL;
    g_autoptr(ForeStore) store = NULL;
    g_autoptr(GError) error = NULL;
    int64_t from_ms = g_get_real_time() / 1000 - 210000;

    g_assert_true(g_file_get_contents(key_path, &hex, NULL, &error));
    key = fore_hex_decode(g_strstrip(hex), FORE_STORE_KEY_BYTES);
    store = fore_store_open(path, g_bytes_get_data(key, NULL), &error);
    g_assert_no_error(error);
    for (unsigned i = 0; i < s->n; i++) {
        s->samples[i].wall_ms = from_ms + 1000 * (int64_t)i;
    }
    g_assert_true(fore_store_import(store, "web1", s->samples, s->n, &error));
}

static ForeseedTest *with_history(void)
{
    ForeseedTest *t = foreseed_test_new(NULL);

    foreseed_test_start(t); /* makes its identity and its store */
    g_assert_cmpint(foreseed_test_stop(t), ==, 0);
    record(t);
    return t;
}

static bool is_trained(ForeseedTest *t)
{
    g_autoptr(json_t) status = foreseed_test_call(t, "query-status", NULL);

    return json_is_true(json_object_get(json_object_get(status, "model"), "trained"));
}

static void train(ForeseedTest *t, json_t *arguments)
{
    const json_t *end;

    foreseed_test_do(t, "train", arguments);
    end = foreseed_test_event(t, "MODEL", NULL, NULL);
    g_assert_true(json_is_true(json_object_get(end, "ok")));
    g_assert_true(is_trained(t)); /* loaded live */
}

/* Starts with these bytes as model.fore. Returns: whether it is used; the log must then hold @why
 */
static bool starts_with(ForeseedTest *t, const void *data, gsize size, const char *why)
{
    g_autofree char *path = foreseed_test_path(t, "state/model.fore");
    bool used;

    g_assert_true(g_file_set_contents(path, data, (gssize)size, NULL));
    g_string_truncate(t->log, 0);
    foreseed_test_start(t);
    used = is_trained(t);
    g_assert_cmpint(foreseed_test_stop(t), ==, 0);
    if (why != NULL && strstr(t->log->str, why) == NULL) {
        g_error("'%s' does not say '%s'", t->log->str, why);
    }
    return used;
}

/* Runs a command to its end; foreseed is another process, so nothing here has to turn. */
static bool run_beside(const char *const *argv)
{
    g_autoptr(GError) error = NULL;
    int status = 1;

    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL, NULL,
                               &status, &error));
    return g_spawn_check_wait_status(status, NULL);
}

/* What `foresee plot` draws: the recording, and what the weights of now say of it. */
static void test_history(void)
{
    g_autoptr(ForeseedTest) t = with_history();
    g_autoptr(json_t) none = NULL, got = NULL;
    g_autofree char *svg = foreseed_test_path(t, "web1.svg"), *text = NULL;
    const char *argv[] = {
        g_getenv("FORE_FORESEE"), "--socket", t->control, "plot", "web1", "-o", svg, NULL};
    json_t *low, *high, *actual;
    unsigned known = 0;

    foreseed_test_start(t);
    foreseed_test_refused(t, "query-history", json_pack("{s:s}", "name", "web1"),
                          FORE_ERROR_NOT_FOUND, "web1");
    foreseed_test_add(t, "web1", "5c1f0b6e-8d7a-4f3b-9c2d-1e0f6a7b8c9d", NULL);
    none = foreseed_test_call(t, "query-history", json_pack("{s:s}", "name", "web1"));
    g_assert_true(json_is_null(json_array_get(json_object_get(none, "low"), 100)));
    train(t, json_pack("{s:i}", "epochs", 10));
    foreseed_test_refused(t, "query-history", json_pack("{s:s,s:i}", "name", "web1", "ahead", 4),
                          FORE_ERROR_INVALID, "'ahead'");
    foreseed_test_refused(t, "query-history",
                          json_pack("{s:s,s:s}", "name", "web1", "resource", "net"),
                          FORE_ERROR_INVALID, "'resource'");
    got =
        foreseed_test_call(t, "query-history", json_pack("{s:s,s:i}", "name", "web1", "ahead", 3));
    actual = json_object_get(got, "actual");
    low = json_object_get(got, "low");
    high = json_object_get(got, "high");
    g_assert_cmpuint(json_array_size(actual), >=, 150);
    for (size_t i = 0; i < json_array_size(actual); i++) {
        json_t *a = json_array_get(low, i), *b = json_array_get(high, i);

        known += json_is_number(a) ? 1 : 0;
        g_assert_true(!json_is_number(a) || json_number_value(a) <= json_number_value(b));
    }
    g_assert_cmpuint(known, >=, 140);
    g_assert_true(run_beside(argv));
    g_assert_true(g_file_get_contents(svg, &text, NULL, NULL));
    g_assert_nonnull(strstr(text, "web1, demand for vCPUs"));
}

static void test_signed(void)
{
    g_autoptr(ForeseedTest) t = with_history();
    g_autofree char *path = foreseed_test_path(t, "state/model.fore");
    g_autofree char *pem = foreseed_test_path(t, "state/identity.pem"), *data = NULL;
    g_autoptr(ForeIdentity) own = NULL, other = fore_identity_new("other", NULL);
    g_autoptr(GBytes) weights = NULL, foreign = NULL, wrong = NULL;
    gsize size = 0;

    foreseed_test_start(t);
    train(t, json_pack("{s:i}", "epochs", 3));
    g_assert_cmpint(foreseed_test_stop(t), ==, 0);
    g_assert_true(g_file_get_contents(path, &data, &size, NULL));
    own = fore_identity_load_or_create(pem, "foreseed", NULL);
    weights = fore_signed_open(fore_identity_key(own), "weights", data, size, NULL);
    g_assert_nonnull(weights);
    foreign = fore_signed_wrap(fore_identity_key(other), "weights", g_bytes_get_data(weights, NULL),
                               g_bytes_get_size(weights), NULL);
    wrong = fore_signed_wrap(fore_identity_key(own), "weights", "FOREWGTS", 8, NULL);

    g_assert_true(starts_with(t, data, size, NULL));
    g_assert_false(starts_with(t, g_bytes_get_data(weights, NULL), g_bytes_get_size(weights),
                               "is not used: signed weights: it is not signed"));
    g_assert_false(starts_with(t, g_bytes_get_data(foreign, NULL), g_bytes_get_size(foreign),
                               "another host signed it"));
    g_assert_false(
        starts_with(t, g_bytes_get_data(wrong, NULL), g_bytes_get_size(wrong), "weights file"));
    data[size / 2] ^= 1;
    g_assert_false(starts_with(t, data, size, "the signature does not fit"));
    foreseed_test_start(t);
}

static void test_resumed(void)
{
    g_autoptr(ForeseedTest) t = with_history();
    g_autofree char *path = foreseed_test_path(t, "state/train.checkpoint");
    g_autofree char *kept = NULL;
    const json_t *first, *end;
    gsize size = 0;

    foreseed_test_start(t);
    foreseed_test_refused(t, "train", json_pack("{s:b}", "resume", 1), FORE_ERROR_NOT_FOUND,
                          "no interrupted training");
    foreseed_test_refused(t, "train", json_pack("{s:b,s:i}", "resume", 1, "seed", 3),
                          FORE_ERROR_INVALID, "'resume'");
    foreseed_test_do(t, "train", json_pack("{s:i,s:i}", "epochs", 60, "seed", 5));
    foreseed_test_event(t, "TRAIN", NULL, NULL);
    foreseed_test_kill(t);
    g_assert_true(g_file_get_contents(path, &kept, &size, NULL));

    g_string_truncate(t->log, 0);
    foreseed_test_start(t);
    g_assert_nonnull(strstr(t->log->str, "foresee train --resume"));
    foreseed_test_do(t, "train", json_pack("{s:b}", "resume", 1));
    first = foreseed_test_event(t, "TRAIN", NULL, NULL);
    g_assert_cmpint(json_integer_value(json_object_get(first, "max-epochs")), ==, 60);
    g_assert_cmpint(json_integer_value(json_object_get(first, "epoch")), >, 1);
    end = foreseed_test_event(t, "MODEL", NULL, NULL);
    g_assert_true(json_is_true(json_object_get(end, "ok")));
    g_assert_cmpint(access(path, F_OK), !=, 0); /* what is done needs no checkpoint */

    kept[size / 2] ^= 1;
    g_assert_true(g_file_set_contents(path, kept, (gssize)size, NULL));
    foreseed_test_refused(t, "train", json_pack("{s:b}", "resume", 1), FORE_ERROR_UNTRUSTED,
                          "the signature does not fit");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent/model/only-what-this-host-signed-is-used", test_signed);
    g_test_add_func("/agent/model/history-is-forecast-anew", test_history);
    g_test_add_func("/agent/model/killed-training-is-resumed", test_resumed);
    return g_test_run();
}
