/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/agent/test-sea-fixture.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fore-error.h"

#define NOBODY_THERE "swtpm:path=/nonexistent/sock"

/* Reads the agent's log until it says that it serves. */
static void wait_until_serving(SeaTest *test)
{
    g_autoptr(GString) log = g_string_new(NULL);
    char c;

    while (!strstr(log->str, "channel pin")) {
        if (read(test->log, &c, 1) != 1) {
            g_error("foresee-sea ended before it served: %s", log->str);
        }
        g_string_append_c(log, c);
    }
}

static void write_config(SeaTest *test, const char *path, const char *tcti, const char *more)
{
    g_autofree char *pam_key = g_build_filename(test->dir, "pam.pem", NULL);
    g_autofree char *text =
        g_strdup_printf("[sea]\nvm-uuid=%s\npam-key=%s\nhost-pin=%s\ntcti=%s\nstate-dir=%s/state\n"
                        "sysfs-root=%s\nport=%s\nmilliseconds=100\n%s",
                        SEA_TEST_UUID, pam_key, fore_identity_pin(test->host), tcti, test->dir,
                        test->sysfs->root, test->address, more ? more : "");
    g_autoptr(GError) err = NULL;

    fore_key_save_public(fore_identity_key(test->pam), pam_key, &err);
    g_assert_no_error(err);
    g_file_set_contents(path, text, -1, &err);
    g_assert_no_error(err);
}

/* A test that aborts takes its agent along. */
static void die_with_parent(gpointer data)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

SeaTest *sea_test_new(ForeTestSwtpm *tpm, const char *more_config)
{
    SeaTest *test = g_new0(SeaTest, 1);
    const char *program = g_getenv("FORE_SEA");
    g_autofree char *config = NULL;
    g_autoptr(GError) err = NULL;

    g_assert_nonnull(program);
    test->sysfs = fore_test_sysfs_new(3, 8, 4, 2);
    test->dir = g_dir_make_tmp("foresee-sea-XXXXXX", &err);
    g_assert_no_error(err);
    test->address = g_strdup_printf("unix:%s/port", test->dir);
    test->host = fore_identity_new("host", &err);
    test->pam = fore_identity_new("pam", &err);
    g_assert_no_error(err);
    config = g_build_filename(test->dir, "sea.conf", NULL);
    write_config(test, config, tpm ? fore_test_swtpm_tcti(tpm) : NOBODY_THERE, more_config);
    char *argv[] = {(char *)program, (char *)"--config", config, NULL};
    g_spawn_async_with_pipes(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, die_with_parent, NULL,
                             &test->pid, NULL, NULL, &test->log, &err);
    g_assert_no_error(err);
    wait_until_serving(test);
    return test;
}

void sea_test_free(SeaTest *test)
{
    int status = 0;

    kill(test->pid, SIGTERM);
    g_assert_cmpint(waitpid(test->pid, &status, 0), ==, test->pid);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 0); /* a sanitizer's complaint would show here */
    close(test->log);
    fore_test_remove_tree(test->dir);
    fore_test_sysfs_free(test->sysfs);
    fore_identity_free(test->host);
    fore_identity_free(test->pam);
    g_free(test->address);
    g_free(test->dir);
    g_free(test);
}

ForeChannelConfig sea_test_channel(SeaTest *test, ForeIdentity *who)
{
    return (ForeChannelConfig){.mode = FORE_CHANNEL_TLS_CLIENT, .identity = who};
}

ForeClient *sea_test_connect(SeaTest *test)
{
    ForeChannelConfig channel = sea_test_channel(test, test->host);
    g_autoptr(GError) err = NULL;
    ForeClient *client = fore_client_new(test->address, &channel, SEA_TEST_CALL_MS, &err);

    g_assert_no_error(err);
    return client;
}

json_t *sea_test_call(ForeClient *client, const char *command, json_t *arguments)
{
    g_autoptr(GError) err = NULL;
    json_t *ret = fore_client_call(client, command, arguments, SEA_TEST_CALL_MS, &err);

    g_assert_no_error(err);
    return ret;
}

char *sea_test_refused(ForeClient *client, const char *command, json_t *arguments,
                       ForeErrorCode code)
{
    g_autoptr(GError) err = NULL;

    g_assert_null(fore_client_call(client, command, arguments, SEA_TEST_CALL_MS, &err));
    g_test_message("%s", err->message);
    g_assert_error(err, FORE_ERROR, (int)code);
    return g_strdup(err->message);
}

json_t *sea_test_event(ForeClient *client, const char *name)
{
    for (;;) {
        g_autoptr(GError) err = NULL;
        g_autoptr(json_t) event = fore_client_next_event(client, SEA_TEST_CALL_MS, &err);

        g_assert_no_error(err);
        if (g_str_equal(json_string_value(json_object_get(event, "event")), name)) {
            return json_incref(json_object_get(event, "data"));
        }
    }
}

int64_t sea_test_int(const json_t *object, const char *key)
{
    g_autoptr(GError) err = NULL;
    int64_t value = 0;

    fore_json_get_int(object, key, G_MININT64, G_MAXINT64, &value, &err);
    g_assert_no_error(err);
    return value;
}

ForeGrant sea_test_grant(ForeClient *client)
{
    g_autoptr(json_t) info = sea_test_call(client, "sea-info", NULL);
    int64_t now_s = g_get_real_time() / G_USEC_PER_SEC;
    g_autofree char *id = g_uuid_string_random();
    ForeGrant grant = {
        .vm_uuid = SEA_TEST_UUID,
        .vcpus = 3,
        .mem_bytes = 6 * SEA_TEST_BLOCK,
        .seq = (uint64_t)sea_test_int(info, "seq") + 1,
        .issued_s = now_s,
        .expires_s = now_s + 60,
        .n_nodes = 1,
        .nodes = {"guest"},
    };

    memset(grant.evidence, 'e', 64);
    g_strlcpy(grant.id, id, sizeof grant.id);
    g_strlcpy(grant.ak_name, json_string_value(json_object_get(info, "ak-name")),
              sizeof grant.ak_name);
    return grant;
}

json_t *sea_test_signed(const ForeGrant *grant, ForeIdentity *signer)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *jws = fore_grant_sign(grant, fore_identity_key(signer), &err);

    g_assert_no_error(err);
    return json_pack("{s:s}", "grant", jws);
}
