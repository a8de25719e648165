/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foresee(1) as a person and a script see it: what it prints, and its exit codes. */
#include <gio/gio.h>
#include <string.h>

#include "tests/agent/test-foreseed-peers.h"

enum { DONE, ANSWER_IS_ERROR, WRONG_USE, NOBODY_ANSWERS, NOT_AFFIRMED };

typedef struct {
    bool done;
    int code;
    char *out, *err;
} Result;

static Result last; /* of the newest run */

static void on_end(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GError) error = NULL;

    g_subprocess_communicate_utf8_finish(G_SUBPROCESS(source), result, &last.out, &last.err,
                                         &error);
    g_assert_no_error(error);
    g_assert_true(g_subprocess_get_if_exited(G_SUBPROCESS(source)));
    last.code = g_subprocess_get_exit_status(G_SUBPROCESS(source));
    last.done = true;
}

/* The end comes in @last. */
static void start(const char *socket, const char *words)
{
    g_autofree char *line = g_strdup_printf("%s %s", g_getenv("FORE_FORESEE"), words);
    g_autoptr(GSubprocessLauncher) launcher =
        g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE);
    g_auto(GStrv) argv = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(GSubprocess) p = NULL;

    g_assert_true(g_shell_parse_argv(line, NULL, &argv, &error));
    g_subprocess_launcher_setenv(launcher, "FORESEE_SOCKET", socket, TRUE);
    g_clear_pointer(&last.out, g_free);
    g_clear_pointer(&last.err, g_free);
    last.done = false;
    p = g_subprocess_launcher_spawnv(launcher, (const char *const *)argv, &error);
    g_assert_no_error(error);
    g_subprocess_communicate_utf8_async(p, NULL, NULL, on_end, NULL);
}

static void run(ForeseedTest *t, const char *words, int code)
{
    start(t->control, words);
    WAIT_FOR(t, last.done);
    if (last.code != code) {
        g_error("foresee %s: exit code %d, not %d: %s%s", words, last.code, code, last.out,
                last.err);
    }
}

static void run_and_find(ForeseedTest *t, const char *words, int code, const char *part)
{
    run(t, words, code);
    if (strstr(last.out, part) == NULL && strstr(last.err, part) == NULL) {
        g_error("foresee %s does not print '%s': %s%s", words, part, last.out, last.err);
    }
}

static json_t *run_json(ForeseedTest *t, const char *words, int code)
{
    json_t *value;

    run(t, words, code);
    value = json_loads(last.out, JSON_REJECT_DUPLICATES, NULL);
    g_assert_nonnull(value);
    return value;
}

static void test_without_daemon(void)
{
    g_autoptr(ForeseedTest) t = foreseed_test_new(NULL);

    run_and_find(t, "status", NOBODY_ANSWERS, "is it running? start it with: foreseed");
    run_and_find(t, "vm list", NOBODY_ANSWERS, t->control + strlen("unix:"));
    run_and_find(t, "events -f", NOBODY_ANSWERS, "does not answer");
    run_and_find(t, "--version", DONE, "foresee ");
    run_and_find(t, "--help", DONE, "forecast NAME");
    run_and_find(t, "vm args web1 --uuid " RIG_UUID, DONE, "org.foresee.sea.0");
}

static void test_wrong_use(void)
{
    static const char *const wrong[] = {
        "",
        "dance",
        "--frobnicate",
        "vm",
        "vm fly web1",
        "vm show",
        "vm show a b",
        "vm show ../x",
        "vm list web1",
        "vm set web1",
        "vm set web1 mode",
        "vm add web1",
        "vm args web1 --uuid 12",
        "vm enroll web1",
        "forecast",
        "explain a b",
        "ledger a b",
        "events now",
        "status now",
        "train --epochs -1",
        "train a b",
        "doctor please",
        "pam",
        "pam nodes",
        "pam learn planet x",
        "pam enroll-node n1",
    };
    g_autoptr(ForeseedTest) t = foreseed_test_new(NULL);

    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        run_and_find(t, wrong[i], WRONG_USE, "see 'foresee --help'");
        g_assert_cmpstr(last.out, ==, "");
    }
}

static void test_looking(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    g_autoptr(json_t) vm = NULL, list = NULL;

    test_sea_load(rig->sea, 3, 3, 100 * RIG_MIB);
    foreseed_test_event(rig->t, "LEDGER", "state", "online");
    run_and_find(rig->t, "vm list", DONE, "web1             enforce");
    run_and_find(rig->t, "vm show web1", DONE, "vcpus-online");
    /* foreseed knows where its page is; nobody writes one here */
    run_and_find(rig->t, "page web1 --once", ANSWER_IS_ERROR, "cannot open the profile page");
    run_and_find(rig->t, "forecast web1", DONE, "reactive");
    run_and_find(rig->t, "explain web1", DONE, "lead time");
    run_and_find(rig->t, "ledger", DONE, "online");
    run_and_find(rig->t, "ledger web1", DONE, "promised vcpu:       4.00 of");
    run_and_find(rig->t, "events", DONE, "GRANT");
    run_and_find(rig->t, "status", DONE, "PAM: connected");
    vm = run_json(rig->t, "--json vm show web1", DONE);
    g_assert_cmpint(
        json_integer_value(json_object_get(json_object_get(vm, "capacity"), "vcpus-online")), ==,
        4);
    list = run_json(rig->t, "-j vm list", DONE);
    g_assert_cmpuint(json_array_size(json_object_get(list, "vms")), ==, 1);
    json_decref(run_json(rig->t, "-j forecast web1", DONE));
    json_decref(run_json(rig->t, "-j explain web1", DONE));
    json_decref(run_json(rig->t, "-j ledger", DONE));
    json_decref(run_json(rig->t, "-j status", DONE));
}

static void test_changing(void)
{
    g_autoptr(Rig) rig = rig_new("mode=observe");

    run(rig->t, "vm set web1 max-vcpus=3 mode=recommend", DONE);
    run_and_find(rig->t, "vm show web1", DONE, "recommend");
    run_and_find(rig->t, "vm set web1 colour=blue", ANSWER_IS_ERROR, "no setting named 'colour'");
    run_and_find(rig->t, "vm show web9", ANSWER_IS_ERROR, "no VM named 'web9'");
    run(rig->t,
        "vm add web2 --uuid 6f2b1a54-0c3d-4e5f-8a9b-0c1d2e3f4a5c --dir /nonexistent max-vcpus=2",
        DONE);
    run_and_find(rig->t, "vm show web2", DONE, "unreachable");
    run_and_find(rig->t, "vm show web2", DONE, "/nonexistent/qmp.sock"); /* why */
    run(rig->t, "vm remove web2", DONE);
    run_and_find(rig->t, "vm remove web2", ANSWER_IS_ERROR, "web2");
    run_and_find(rig->t, "vm enroll web1 hv1", ANSWER_IS_ERROR, "cannot enrol 'web1'");
}

static void test_attesting(void)
{
    g_autoptr(Rig) rig = rig_new("mode=observe");

    run_and_find(rig->t, "attest web1", DONE, "web1: affirming");
    rig->pam->reason = "pcr-value-mismatch";
    run_and_find(rig->t, "attest web1", NOT_AFFIRMED, "pcr-value-mismatch");
    run_and_find(rig->t, "attest web1 --last", NOT_AFFIRMED, "contraindicated");
    rig->pam->mute = "begin";
    run_and_find(rig->t, "attest web1", ANSWER_IS_ERROR, "pam:timeout");
}

static void test_following(void)
{
    g_autoptr(Rig) rig = rig_new("mode=observe");

    start(rig->t->control, "events --follow");
    foreseed_test_event(rig->t, "FORECAST", "name", "web1");
    foreseed_test_event(rig->t, "FORECAST", "name", "web1");
    g_assert_cmpint(foreseed_test_stop(rig->t), ==, 0);
    WAIT_FOR(rig->t, last.done);
    g_assert_cmpint(last.code, ==, NOBODY_ANSWERS);
    g_assert_nonnull(strstr(last.out, "FORECAST"));
    g_assert_nonnull(strstr(last.err, "foreseed went away"));
}

static void test_operating(void)
{
    g_autoptr(Rig) rig = rig_new("mode=observe");
    g_autofree char *key = foreseed_test_path(rig->t, "operator.pem");
    g_autofree char *pam = foreseed_test_path(rig->t, "pam");
    g_autofree char *pin = g_strdup_printf("--identity %s pam pin", key);
    g_autofree char *nodes =
        g_strdup_printf("--pam unix:%s --pam-pin %s --identity %s pam nodes", pam,
                        fore_identity_pin(rig->pam->server.identity), key);
    g_autofree char *other = NULL;

    run(rig->t, pin, DONE);
    g_assert_cmpuint(strlen(g_strstrip(last.out)), ==, FORE_PIN_HEX);
    run_and_find(rig->t, nodes, ANSWER_IS_ERROR, "not in this script"); /* the PAM's own words */
    other = g_strdup_printf("--pam unix:%s --pam-pin %064d --identity %s pam nodes", pam, 7, key);
    run_and_find(rig->t, other, NOBODY_ANSWERS, "the PAM does not answer"); /* another's key */
}

/* What is missing depends on the machine; that it is said, with a remedy, does not. */
static void test_doctor(void)
{
    g_autoptr(ForeseedTest) t = foreseed_test_new(NULL);
    g_autoptr(json_t) report = NULL;
    json_t *row;
    size_t i;

    start(t->control, "--json doctor");
    WAIT_FOR(t, last.done);
    g_assert_true(last.code == DONE || last.code == NOT_AFFIRMED);
    report = json_loads(last.out, 0, NULL);
    g_assert_cmpint(json_is_true(json_object_get(report, "ok")), ==, last.code == DONE);
    g_assert_cmpuint(json_array_size(json_object_get(report, "findings")), >=, 6);
    json_array_foreach (json_object_get(report, "findings"), i, row) {
        const char *finding = json_string_value(json_object_get(row, "finding"));
        const char *remedy = json_string_value(json_object_get(row, "remedy"));
        g_assert_true(strcmp(finding, "ok") == 0 || remedy[0] != '\0');
    }
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent/cli/without-daemon-says-how-to-start-it", test_without_daemon);
    g_test_add_func("/agent/cli/wrong-use-exits-2", test_wrong_use);
    g_test_add_func("/agent/cli/looking-shows-what-there-is", test_looking);
    g_test_add_func("/agent/cli/changing-tells-what-was-wrong", test_changing);
    g_test_add_func("/agent/cli/attest-exits-by-the-verdict", test_attesting);
    g_test_add_func("/agent/cli/events-are-followed-to-the-end", test_following);
    g_test_add_func("/agent/cli/pam-commands-need-the-right-key", test_operating);
    g_test_add_func("/agent/cli/doctor-says-what-is-missing", test_doctor);
    rc = g_test_run();
    g_free(last.out);
    g_free(last.err);
    return rc;
}
