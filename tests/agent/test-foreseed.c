/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foreseed as a process: its control socket, its life and its disk. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "tests/agent/test-foreseed-fixture.h"

#define UUID_1 "11111111-2222-3333-4444-555555555555"
#define UUID_2 "11111111-2222-3333-4444-555555555556"

static ForeseedTest *started(const char *more)
{
    ForeseedTest *t = foreseed_test_new(more);

    foreseed_test_start(t);
    return t;
}

static json_t *policy(const char *key, const char *value)
{
    return json_pack("{s:s}", key, value);
}

static json_t *set(const char *name, json_t *settings)
{
    return json_pack("{s:s,s:o}", "name", name, "policy", settings);
}

static const char *setting(const json_t *vm, const char *key)
{
    return json_string_value(json_object_get(json_object_get(vm, "policy"), key));
}

/* --- VMs --- */

static void test_add_show_remove(void)
{
    g_autoptr(ForeseedTest) t = started(NULL);
    g_autoptr(json_t) none = foreseed_test_call(t, "query-vms", NULL);
    g_autoptr(json_t) vm = NULL, again = NULL;

    g_assert_cmpuint(json_array_size(json_object_get(none, "vms")), ==, 0);
    foreseed_test_add(t, "web1", UUID_1, policy("max-vcpus", "4"));
    vm = foreseed_test_vm(t, "web1");
    g_assert_cmpstr(json_string_value(json_object_get(vm, "uuid")), ==, UUID_1);
    g_assert_cmpstr(json_string_value(json_object_get(vm, "mode")), ==, "recommend");
    g_assert_cmpstr(json_string_value(json_object_get(vm, "state")), ==, "unreachable");
    g_assert_cmpstr(setting(vm, "max-vcpus"), ==, "4");
    foreseed_test_do(t, "vm-set", set("web1", policy("mode", "observe")));
    again = foreseed_test_vm(t, "web1");
    g_assert_cmpstr(json_string_value(json_object_get(again, "mode")), ==, "observe");
    g_assert_cmpstr(setting(again, "max-vcpus"), ==, "4"); /* the rest stays */
    foreseed_test_do(t, "vm-remove", json_pack("{s:s}", "name", "web1"));
    foreseed_test_event(t, "REMOVED", "name", "web1");
    foreseed_test_refused(t, "query-vms", json_pack("{s:s}", "name", "web1"), FORE_ERROR_NOT_FOUND,
                          "no VM named 'web1'; 'foresee vm list'");
}

static void test_unknown_vm(void)
{
    static const char *const commands[] = {
        "query-vms", "query-forecast", "query-ledger", "query-attestation", "explain",
        "attest",    "vm-enroll",      "vm-set",       "vm-remove",         "train"};
    g_autoptr(ForeseedTest) t = started(NULL);

    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        foreseed_test_refused(t, commands[i], json_pack("{s:s}", "name", "nobody"),
                              FORE_ERROR_NOT_FOUND, "'nobody'; 'foresee vm list' shows");
    }
    foreseed_test_refused(t, "dance", NULL, FORE_ERROR_NOT_FOUND, "'dance'");
    foreseed_test_refused(t, "explain", NULL, FORE_ERROR_INVALID, "'name' is missing");
    foreseed_test_refused(t, "explain", json_pack("{s:i}", "name", 7), FORE_ERROR_INVALID,
                          "'name' is not a string");
}

static void test_bad_records(void)
{
    static const struct {
        const char *key, *value, *says;
        ForeErrorCode code;
    } bad[] = {
        {"uuid", "11111111-2222-3333-4444-55555555555G", "uuid '11111111", FORE_ERROR_INVALID},
        {"uuid", "AAAAAAAA-2222-3333-4444-555555555555", "lower case", FORE_ERROR_INVALID},
        {"uuid", "", "xxxxxxxx-xxxx", FORE_ERROR_INVALID},
        {"name", "../../etc", "letters, digits", FORE_ERROR_INVALID},
        {"name", "-rf", "letters, digits", FORE_ERROR_INVALID},
        {"vmem-device", "a/b", "vmem-device 'a/b'", FORE_ERROR_INVALID},
        {"qmp", NULL, "'qmp' is missing", FORE_ERROR_INVALID},
        {"page", NULL, "'page' is missing", FORE_ERROR_INVALID},
        {"sea", NULL, "'sea' is missing", FORE_ERROR_INVALID},
    };
    g_autoptr(ForeseedTest) t = started(NULL);

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        json_t *record = foreseed_test_record(t, "web1", UUID_1);
        if (bad[i].value != NULL) {
            json_object_set_new(record, bad[i].key, json_string(bad[i].value));
        } else {
            json_object_del(record, bad[i].key);
        }
        foreseed_test_refused(t, "vm-add", record, bad[i].code, bad[i].says);
    }
}

static void test_bad_policies(void)
{
    static const struct {
        const char *key, *value, *says;
        ForeErrorCode code;
    } bad[] = {
        {"max-vcpu", "4", "no setting named 'max-vcpu'; known are: mode", FORE_ERROR_NOT_FOUND},
        {"max-vcpus", "many", "max-vcpus does not take 'many'; give", FORE_ERROR_INVALID},
        {"mode", "reckless", "observe | recommend | enforce", FORE_ERROR_INVALID},
        {"min-vcpus", "9", "min-vcpus 9 and max-vcpus", FORE_ERROR_INVALID},
    };
    g_autoptr(ForeseedTest) t = started(NULL);
    g_autoptr(json_t) vm = NULL;

    foreseed_test_add(t, "web1", UUID_1, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        json_t *record = foreseed_test_record(t, "web2", UUID_2);
        json_object_set_new(record, "policy", policy(bad[i].key, bad[i].value));
        foreseed_test_refused(t, "vm-add", record, bad[i].code, bad[i].says);
        foreseed_test_refused(t, "vm-set", set("web1", policy(bad[i].key, bad[i].value)),
                              bad[i].code, bad[i].says);
    }
    foreseed_test_refused(t, "vm-set", set("web1", json_array()), FORE_ERROR_INVALID, "'policy'");
    foreseed_test_refused(t, "vm-set", set("web1", json_pack("{s:[]}", "mode")), FORE_ERROR_INVALID,
                          "'mode'");
    /* all or none */
    foreseed_test_refused(t, "vm-set",
                          set("web1", json_pack("{s:s,s:s}", "max-vcpus", "8", "mode", "no")),
                          FORE_ERROR_INVALID, "mode");
    vm = foreseed_test_vm(t, "web1");
    g_assert_cmpstr(setting(vm, "max-vcpus"), ==, "1");
}

static void test_duplicates(void)
{
    g_autoptr(ForeseedTest) t = started(NULL);
    json_t *record;

    foreseed_test_add(t, "web1", UUID_1, NULL);
    foreseed_test_refused(t, "vm-add", foreseed_test_record(t, "web1", UUID_2), FORE_ERROR_EXISTS,
                          "foresee vm remove web1");
    foreseed_test_refused(t, "vm-add", foreseed_test_record(t, "web2", UUID_1), FORE_ERROR_EXISTS,
                          "VM 'web1' has the same name, UUID or socket");
    record = foreseed_test_record(t, "web1", UUID_2);
    json_object_set_new(record, "name", json_string("web2"));
    foreseed_test_refused(t, "vm-add", record, FORE_ERROR_EXISTS, "socket");
    foreseed_test_add(t, "web2", UUID_2, NULL);
}

static void test_without_pam(void)
{
    g_autoptr(ForeseedTest) t = started(NULL);
    g_autoptr(json_t) status = foreseed_test_call(t, "query-status", NULL);

    g_assert_false(json_is_true(json_object_get(json_object_get(status, "pam"), "configured")));
    foreseed_test_add(t, "web1", UUID_1, NULL);
    foreseed_test_refused(t, "attest", json_pack("{s:s}", "name", "web1"), FORE_ERROR_UNAVAILABLE,
                          "pam-address is not set");
    foreseed_test_refused(t, "vm-enroll", json_pack("{s:s,s:[s]}", "name", "web1", "pathway", "n1"),
                          FORE_ERROR_UNAVAILABLE, "pam-address is not set");
}

static void test_bad_training(void)
{
    g_autoptr(ForeseedTest) t = started(NULL);

    foreseed_test_refused(t, "train", NULL, FORE_ERROR_INVALID, "no history");
    foreseed_test_refused(t, "train", json_pack("{s:i}", "epochs", 0), FORE_ERROR_INVALID,
                          "'epochs' is 0");
    foreseed_test_refused(t, "train", json_pack("{s:s}", "seed", "x"), FORE_ERROR_INVALID,
                          "'seed'");
    foreseed_test_refused(t, "query-events", json_pack("{s:i}", "limit", 1001), FORE_ERROR_INVALID,
                          "'limit' is 1001; it must be 1..1000");
}

static void test_events_are_kept(void)
{
    g_autoptr(ForeseedTest) t = started(NULL);
    g_autoptr(json_t) first = NULL, rest = NULL;
    json_t *event;

    foreseed_test_add(t, "web1", UUID_1, NULL);
    foreseed_test_do(t, "vm-remove", json_pack("{s:s}", "name", "web1"));
    first = foreseed_test_call(t, "query-events", json_pack("{s:i}", "limit", 1000));
    event = json_array_get(json_object_get(first, "events"),
                           json_array_size(json_object_get(first, "events")) - 1);
    g_assert_cmpstr(json_string_value(json_object_get(event, "event")), ==, "REMOVED");
    g_assert_cmpfloat(json_number_value(json_object_get(event, "time")), >, 1.6e9);
    rest = foreseed_test_call(t, "query-events",
                              json_pack("{s:O}", "after-id", json_object_get(event, "id")));
    g_assert_cmpuint(json_array_size(json_object_get(rest, "events")), ==, 0);
}

/* --- life --- */

static void test_second_instance(void)
{
    g_autoptr(ForeseedTest) t = started(NULL);
    g_autoptr(ForeseedTest) other = foreseed_test_new(NULL);
    g_autofree char *state = foreseed_test_path(t, "state"), *text = NULL;
    g_autofree char *key = foreseed_test_path(t, "key");

    /* another socket, the same state */
    text = g_strdup_printf("[foreseed]\ncontrol=%s\nstate-dir=%s\nstore-key-file=%s\n",
                           other->control, state, key);
    g_assert_true(g_file_set_contents(other->config, text, -1, NULL));
    g_assert_cmpint(foreseed_test_start_fails(other), ==, 4);
    g_assert_nonnull(strstr(other->log->str, "already running"));
    g_assert_nonnull(strstr(other->log->str, state));
    /* another state, the same socket */
    g_free(text);
    text = g_strdup_printf("[foreseed]\ncontrol=%s\nstate-dir=%s/other\nstore-key-file=%s\n",
                           t->control, other->dir, key);
    g_assert_true(g_file_set_contents(other->config, text, -1, NULL));
    g_assert_cmpint(foreseed_test_start_fails(other), ==, 4);
    foreseed_test_do(t, "query-status", NULL); /* the first one still answers */
}

static void test_sigterm(void)
{
    g_autoptr(ForeseedTest) t = started(NULL);
    g_autofree char *socket = foreseed_test_path(t, "control");

    foreseed_test_add(t, "web1", UUID_1, NULL);
    g_assert_cmpint(foreseed_test_stop(t), ==, 0);
    g_assert_false(g_file_test(socket, G_FILE_TEST_EXISTS));
    g_assert_nonnull(strstr(t->log->str, "guests keep what they have"));
    foreseed_test_start(t);
    json_decref(foreseed_test_vm(t, "web1"));
}

static void test_kill(void)
{
    g_autoptr(ForeseedTest) t = started(NULL);
    g_autoptr(json_t) vm = NULL, before = NULL, after = NULL;

    before = foreseed_test_call(t, "query-status", NULL);
    foreseed_test_add(t, "web1", UUID_1, policy("max-vcpus", "7"));
    foreseed_test_add(t, "web2", UUID_2, NULL);
    foreseed_test_do(t, "vm-set", set("web1", policy("mode", "enforce")));
    foreseed_test_kill(t);
    foreseed_test_start(t); /* over the socket file that was left */
    vm = foreseed_test_vm(t, "web1");
    g_assert_cmpstr(json_string_value(json_object_get(vm, "mode")), ==, "enforce");
    g_assert_cmpstr(setting(vm, "max-vcpus"), ==, "7");
    json_decref(foreseed_test_vm(t, "web2"));
    after = foreseed_test_call(t, "query-status", NULL);
    g_assert_cmpstr(json_string_value(json_object_get(after, "pin")), ==,
                    json_string_value(json_object_get(before, "pin")));
}

static void test_wrong_key(void)
{
    g_autoptr(ForeseedTest) t = started(NULL);
    g_autofree char *key = foreseed_test_path(t, "key");
    g_autofree char *good = NULL;

    foreseed_test_add(t, "web1", UUID_1, NULL);
    g_assert_cmpint(foreseed_test_stop(t), ==, 0);
    g_assert_true(g_file_get_contents(key, &good, NULL, NULL));
    g_assert_true(g_file_set_contents(
        key, "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n", -1, NULL));
    g_assert_cmpint(foreseed_test_start_fails(t), ==, 6);
    g_assert_nonnull(strstr(t->log->str, "store.db"));
    g_assert_true(g_file_set_contents(key, "not hex", -1, NULL));
    g_assert_cmpint(foreseed_test_start_fails(t), ==, 3);
    g_assert_nonnull(strstr(t->log->str, "openssl rand -hex 32"));
    g_assert_true(g_file_set_contents(key, good, -1, NULL)); /* nothing was lost by trying */
    foreseed_test_start(t);
    json_decref(foreseed_test_vm(t, "web1"));
}

static void test_bad_configurations(void)
{
    static const struct {
        const char *line, *says;
    } bad[] = {
        {"colour=blue\n", "unknown key 'colour'; known: control"},
        {"overcommit=none\n", "overcommit = 'none': must be a number 0.1..64"},
        {"attest-timeout-ms=5\n", "100..60000"},
        {"pam-address=unix:/x\npam-pin=12\n", "foresee-pam --print-pin"},
        {"[other]\na=b\n", "unknown section [other]"},
    };
    g_autoptr(ForeseedTest) t = foreseed_test_new(NULL);

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        foreseed_test_configure(t, bad[i].line);
        g_assert_cmpint(foreseed_test_start_fails(t), ==, 3);
        g_assert_nonnull(strstr(t->log->str, bad[i].says));
        g_assert_nonnull(strstr(t->log->str, t->config)); /* which file */
    }
    g_unlink(t->config);
    g_assert_cmpint(foreseed_test_start_fails(t), ==, 3);
    g_assert_nonnull(strstr(t->log->str, t->config));
}

static void test_many_clients(void)
{
    g_autoptr(ForeseedTest) t = started(NULL);
    g_autoptr(GPtrArray) fds = g_ptr_array_new();

    for (unsigned i = 0; i < 300; i++) { /* more than are taken; each says nothing */
        g_autoptr(GError) err = NULL;
        int fd = fore_connect(t->control, &err);
        if (fd < 0) {
            break; /* the backlog is full: the rest would not come through either */
        }
        g_ptr_array_add(fds, GINT_TO_POINTER(fd));
    }
    foreseed_test_do(t, "query-status", NULL);
    for (guint i = 0; i < fds->len; i++) {
        close(GPOINTER_TO_INT(fds->pdata[i]));
    }
    foreseed_test_do(t, "query-status", NULL);
}

/* --- the disk --- */

/* Fills the file system of @path; false when it could not be filled. */
static bool fill_up(const char *path)
{
    static const char block[4096];
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ssize_t n = 0;

    for (unsigned i = 0; fd >= 0 && i < 10000 && n >= 0; i++) {
        n = write(fd, block, sizeof block);
    }
    close(fd);
    return n < 0 && errno == ENOSPC;
}

static bool store_is_ok(ForeseedTest *t)
{
    g_autoptr(json_t) status = foreseed_test_call(t, "query-status", NULL);
    const json_t *store = json_object_get(status, "store");

    g_test_message("store: %s", json_string_value(json_object_get(store, "reason")));
    return json_is_true(json_object_get(store, "ok"));
}

static void with_full_disk(ForeseedTest *t, const char *filler)
{
    g_autoptr(json_t) vm = NULL;

    g_assert_true(store_is_ok(t));
    foreseed_test_add(t, "web1", UUID_1, NULL);
    g_assert_true(fill_up(filler));
    foreseed_test_refused(t, "vm-add", foreseed_test_record(t, "web2", UUID_2),
                          FORE_ERROR_UNAVAILABLE, "store");
    g_assert_false(store_is_ok(t));
    vm = foreseed_test_vm(t, "web1"); /* it goes on */
    foreseed_test_refused(t, "query-vms", json_pack("{s:s}", "name", "web2"), FORE_ERROR_NOT_FOUND,
                          "web2"); /* and remembers nothing that it cannot keep */
    g_unlink(filler);
    foreseed_test_add(t, "web2", UUID_2, NULL);
    g_assert_true(store_is_ok(t));
    foreseed_test_kill(t);
    foreseed_test_start(t);
    json_decref(foreseed_test_vm(t, "web1"));
    json_decref(foreseed_test_vm(t, "web2"));
    g_assert_cmpint(foreseed_test_stop(t), ==, 0);
}

static void test_full_disk(void)
{
    g_autoptr(ForeseedTest) t = foreseed_test_new(NULL);
    g_autofree char *state = foreseed_test_path(t, "state");
    g_autofree char *filler = g_build_filename(state, "filler", NULL);

    g_assert_cmpint(g_mkdir(state, 0700), ==, 0);
    /* In a mount namespace of this program's own, so that nothing outlives it.  In a chroot "/" is
     * no mount point and cannot be made private (EINVAL); there the file system goes when it is
     * unmounted below. */
    if (unshare(CLONE_NEWNS) != 0 ||
        (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 && errno != EINVAL) ||
        mount("foreseed-test", state, "tmpfs", MS_NOSUID | MS_NODEV, "size=2m,mode=0700") != 0) {
        g_autofree char *why = g_strdup_printf("mount of a tmpfs: %s", g_strerror(errno));
        g_test_skip(why);
        return;
    }
    foreseed_test_start(t);
    with_full_disk(t, filler);
    g_assert_cmpint(umount2(state, MNT_DETACH), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent/foreseed/vm-is-added-shown-set-removed", test_add_show_remove);
    g_test_add_func("/agent/foreseed/unknown-vm-is-named-with-a-remedy", test_unknown_vm);
    g_test_add_func("/agent/foreseed/bad-record-names-its-key", test_bad_records);
    g_test_add_func("/agent/foreseed/bad-policy-names-what-is-right", test_bad_policies);
    g_test_add_func("/agent/foreseed/duplicate-is-refused", test_duplicates);
    g_test_add_func("/agent/foreseed/without-pam-nothing-is-attested", test_without_pam);
    g_test_add_func("/agent/foreseed/arguments-are-bounded", test_bad_training);
    g_test_add_func("/agent/foreseed/events-are-kept", test_events_are_kept);
    g_test_add_func("/agent/foreseed/second-instance-exits-4", test_second_instance);
    g_test_add_func("/agent/foreseed/sigterm-exits-0", test_sigterm);
    g_test_add_func("/agent/foreseed/kill-and-restart-keeps-the-vms", test_kill);
    g_test_add_func("/agent/foreseed/wrong-store-key-exits-6", test_wrong_key);
    g_test_add_func("/agent/foreseed/bad-configuration-exits-3", test_bad_configurations);
    g_test_add_func("/agent/foreseed/silent-clients-do-not-crowd-it-out", test_many_clients);
    g_test_add_func("/agent/foreseed/full-disk-is-survived", test_full_disk);
    return g_test_run();
}
