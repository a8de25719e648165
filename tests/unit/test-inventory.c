/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The PAM's memory on disk: encrypted, whole or unchanged, tied to its audit log; and the
 * configuration. */
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "tests/lib/fore-test-swtpm.h"
#include "vtpm/pam/fore-audit.h"
#include "vtpm/pam/fore-inventory-file.h"
#include "vtpm/pam/fore-inventory.h"
#include "vtpm/pam/fore-pam-config.h"

#define VM "6b9f0c1e-2d3a-4b5c-8d7e-9f0a1b2c3d4e"

typedef struct {
    char *dir, *file, *log, *key;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("foresee-inventory-XXXXXX", NULL);
    f->file = g_build_filename(f->dir, "inventory", NULL);
    f->log = g_build_filename(f->dir, "audit.log", NULL);
    f->key = g_build_filename(f->dir, "inventory.key", NULL);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    fore_test_remove_tree(f->dir);
    g_free(f->dir);
    g_free(f->file);
    g_free(f->log);
    g_free(f->key);
}

static ForeInventory *open_ok(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *note = NULL;
    ForeInventory *inv = fore_inventory_open(f->dir, NULL, &note, &error);

    g_assert_no_error(error);
    g_assert_null(note);
    return inv;
}

static void open_refused(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *note = NULL;

    g_assert_null(fore_inventory_open(f->dir, NULL, &note, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED);
}

static ForeRecord *make_record(ForeSubject subject, const char *id, const char *salt)
{
    ForeRecord *r = fore_record_new(subject, id);

    r->role = subject == FORE_SUBJECT_VM ? FORE_ROLE_GUEST : FORE_ROLE_SWITCH;
    r->ek_public = g_bytes_new(salt, strlen(salt));
    r->ak_public = g_bytes_new(salt, strlen(salt));
    r->ak_name = g_bytes_new(salt, strlen(salt));
    r->ak_name_hex = g_strdup("00");
    if (subject == FORE_SUBJECT_NODE) {
        r->address = g_strdup("tcp:10.0.0.1:1");
        r->pin = g_strdup("pin");
    } else {
        r->pathway = g_strsplit("sw1", ",", -1);
    }
    return r;
}

static void add(ForeInventory *inv, ForeSubject subject, const char *id, const char *salt)
{
    ForeChange change = {"enrolled", id, "peer", "detail \"quoted\" \n"};
    g_autoptr(GError) error = NULL;

    g_assert_true(fore_inventory_add(inv, make_record(subject, id, salt), &change, &error));
    g_assert_no_error(error);
}

static void fill(Fixture *f)
{
    g_autoptr(ForeInventory) inv = open_ok(f);
    ForeRecord *vm;

    add(inv, FORE_SUBJECT_NODE, "sw1", "one");
    add(inv, FORE_SUBJECT_VM, VM, "two");
    vm = fore_inventory_find(inv, VM);
    vm->seq = 41;
    vm->has_clock = true;
    vm->clock =
        (ForeTpmClock){.clock_ms = 123456, .reset_count = 7, .restart_count = 2, .safe = true};
    g_strlcpy(vm->sticky, "pcr-value-mismatch", sizeof(vm->sticky));
    g_assert_true(fore_inventory_save(inv, NULL, NULL));
    g_assert_true(fore_inventory_set_reference(
        inv, "a.b.c", &(ForeChange){"set-reference", "", "peer", "version 1"}, NULL));
}

static void test_round_trip(Fixture *f, gconstpointer data)
{
    g_autoptr(ForeInventory) inv = NULL;
    const ForeRecord *vm, *node;
    uint64_t lines = 0;

    fill(f);
    inv = open_ok(f);
    vm = fore_inventory_find(inv, VM);
    node = fore_inventory_find(inv, "sw1");
    g_assert_nonnull(vm);
    g_assert_nonnull(node);
    g_assert_cmpuint(vm->seq, ==, 41);
    g_assert_cmpuint(vm->clock.clock_ms, ==, 123456);
    g_assert_cmpuint(vm->clock.reset_count, ==, 7);
    g_assert_true(vm->clock.safe);
    g_assert_cmpstr(vm->sticky, ==, "pcr-value-mismatch");
    g_assert_cmpstr(vm->pathway[0], ==, "sw1");
    g_assert_cmpstr(node->address, ==, "tcp:10.0.0.1:1");
    g_assert_cmpint(node->role, ==, FORE_ROLE_SWITCH);
    g_assert_false(node->has_clock);
    g_assert_cmpstr(fore_inventory_reference(inv), ==, "a.b.c");
    g_assert_true(fore_inventory_find_key(inv, vm->ek_public, node->ak_name) != NULL);
    g_assert_true(fore_inventory_verify_audit(f->dir, NULL, &lines, NULL));
    g_assert_cmpuint(lines, ==, 3);
}

static void test_encrypted(Fixture *f, gconstpointer data)
{
    g_autofree char *bytes = NULL;
    gsize size;
    struct stat st;

    fill(f);
    g_assert_true(g_file_get_contents(f->file, &bytes, &size, NULL));
    g_assert_null(memmem(bytes, size, VM, strlen(VM)));
    g_assert_null(memmem(bytes, size, "sw1", 3));
    g_assert_cmpint(g_stat(f->file, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
    g_assert_cmpint(g_stat(f->key, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
}

static void flip(const char *path, gsize at)
{
    g_autofree char *bytes = NULL;
    gsize size;

    g_assert_true(g_file_get_contents(path, &bytes, &size, NULL));
    g_assert_cmpuint(at, <, size);
    bytes[at] ^= 1;
    g_assert_true(
        g_file_set_contents_full(path, bytes, (gssize)size, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
}

static void test_flipped_bit(Fixture *f, gconstpointer data)
{
    g_autofree char *bytes = NULL;
    gsize size;

    fill(f);
    g_assert_true(g_file_get_contents(f->file, &bytes, &size, NULL));
    for (gsize at = 0; at < size; at += 37) {
        flip(f->file, at);
        open_refused(f);
        flip(f->file, at);
    }
    g_assert_true(truncate(f->file, (off_t)size - 1) == 0);
    open_refused(f);
    g_assert_true(truncate(f->file, 5) == 0);
    open_refused(f);
    g_assert_true(truncate(f->file, 0) == 0);
    open_refused(f);
}

static void test_key(Fixture *f, gconstpointer data)
{
    fill(f);
    g_assert_cmpint(g_chmod(f->key, 0644), ==, 0);
    open_refused(f);
    g_assert_cmpint(g_chmod(f->key, 0600), ==, 0);
    flip(f->key, 3);
    open_refused(f);
    flip(f->key, 3);
    g_assert_cmpint(g_unlink(f->key), ==, 0);
    open_refused(f); /* no fresh key is made over an inventory that it cannot open */
    g_assert_false(g_file_test(f->key, G_FILE_TEST_EXISTS));
}

/* An old copy of the inventory: its log has gone on. */
static void test_rollback(Fixture *f, gconstpointer data)
{
    g_autofree char *old = NULL;
    gsize size;

    fill(f);
    g_assert_true(g_file_get_contents(f->file, &old, &size, NULL));
    {
        g_autoptr(ForeInventory) inv = open_ok(f);
        add(inv, FORE_SUBJECT_NODE, "sw2", "three");
        add(inv, FORE_SUBJECT_NODE, "sw3", "four");
    }
    g_assert_true(g_file_set_contents(f->file, old, (gssize)size, NULL));
    open_refused(f);
    g_assert_cmpint(g_unlink(f->file), ==, 0);
    open_refused(f);
}

/* The crash between the audit line and the inventory: the change did not happen, and that is noted.
 */
static void test_crash_between(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *note = NULL, *again = NULL;
    g_autoptr(ForeInventory) inv = NULL;
    bool torn;

    fill(f);
    {
        g_autoptr(ForeAudit) audit = fore_audit_open(f->log, &torn, NULL);
        g_assert_true(fore_audit_append(audit, "enrolled", "sw9", "peer", "", NULL));
    }
    inv = fore_inventory_open(f->dir, NULL, &note, &error);
    g_assert_no_error(error);
    g_assert_nonnull(note);
    g_assert_null(fore_inventory_find(inv, "sw9"));
    g_clear_pointer(&inv, fore_inventory_close);
    inv = fore_inventory_open(f->dir, NULL, &again, &error);
    g_assert_no_error(error);
    g_assert_null(again);
}

static char *read_log(Fixture *f, gsize *size)
{
    char *text = NULL;

    g_assert_true(g_file_get_contents(f->log, &text, size, NULL));
    return text;
}

static void write_log(Fixture *f, const char *text, gsize size)
{
    g_assert_true(g_file_set_contents(f->log, text, (gssize)size, NULL));
}

static void audit_refused(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    uint64_t lines;

    g_assert_false(fore_inventory_verify_audit(f->dir, NULL, &lines, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED);
    open_refused(f);
}

static void test_audit_edited(Fixture *f, gconstpointer data)
{
    g_autofree char *text = NULL;
    gsize size;

    fill(f);
    text = read_log(f, &size);
    for (gsize at = 0; at + 1 < size; at += 29) {
        char was = text[at];
        text[at] = was == 'x' ? 'y' : 'x';
        write_log(f, text, size);
        audit_refused(f);
        text[at] = was;
    }
    write_log(f, text, size);
    g_clear_pointer(&text, g_free);
    fore_inventory_close(open_ok(f));
}

static void test_audit_lines(Fixture *f, gconstpointer data)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    gsize size;
    g_autofree char *removed = NULL, *swapped = NULL, *cut = NULL;

    fill(f);
    text = read_log(f, &size);
    lines = g_strsplit(text, "\n", -1);
    g_assert_cmpuint(g_strv_length(lines), ==, 4); /* the last is empty */
    removed = g_strjoin("\n", lines[0], lines[2], "", NULL);
    swapped = g_strjoin("\n", lines[1], lines[0], lines[2], "", NULL);
    cut = g_strjoin("\n", lines[0], lines[1], "", NULL);
    write_log(f, removed, strlen(removed));
    audit_refused(f);
    write_log(f, swapped, strlen(swapped));
    audit_refused(f);
    write_log(f, cut, strlen(cut)); /* a whole chain, but a line shorter than the inventory knows */
    audit_refused(f);
    write_log(f, "", 0);
    audit_refused(f);
    g_assert_cmpint(g_unlink(f->log), ==, 0);
    open_refused(f);
}

/* A crash left half a line: it was never promised, and goes. */
static void test_audit_torn(Fixture *f, gconstpointer data)
{
    g_autofree char *text = NULL, *torn = NULL, *note = NULL;
    g_autoptr(ForeInventory) inv = NULL;
    g_autoptr(GError) error = NULL;
    gsize size;

    fill(f);
    text = read_log(f, &size);
    torn = g_strconcat(text, "{\"n\":4,\"at\":\"20", NULL);
    write_log(f, torn, strlen(torn));
    inv = fore_inventory_open(f->dir, NULL, &note, &error);
    g_assert_no_error(error);
    g_assert_nonnull(note);
    add(inv, FORE_SUBJECT_NODE, "sw2", "three");
    g_clear_pointer(&inv, fore_inventory_close);
    fore_inventory_close(open_ok(f));
}

static void test_exists(Fixture *f, gconstpointer data)
{
    g_autoptr(ForeInventory) inv = NULL;
    g_autoptr(GError) error = NULL;
    ForeChange change = {"enrolled", "sw1", "", ""};

    fill(f);
    inv = open_ok(f);
    g_assert_false(
        fore_inventory_add(inv, make_record(FORE_SUBJECT_NODE, "sw1", "other"), &change, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_EXISTS);
    g_assert_cmpuint(g_bytes_get_size(fore_inventory_find(inv, "sw1")->ek_public), ==, 3);
}

/* A full disk, played by a folder that takes no new file: nothing changes, nothing is lost. */
static void test_disk(Fixture *f, gconstpointer data)
{
    g_autoptr(ForeInventory) inv = NULL;
    g_autoptr(GError) error = NULL;
    ForeChange change = {"enrolled", "sw2", "", ""};
    g_autofree char *blocker = g_strconcat(f->file, ".new", NULL);
    g_autofree char *inside = g_build_filename(blocker, "x", NULL);
    uint64_t lines;

    fill(f);
    inv = open_ok(f);
    /* unlink() and open(O_EXCL) both fail on a folder that is not empty, also for root */
    g_assert_cmpint(g_mkdir_with_parents(inside, 0700), ==, 0);
    g_assert_false(
        fore_inventory_add(inv, make_record(FORE_SUBJECT_NODE, "sw2", "three"), &change, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
    g_assert_null(fore_inventory_find(inv, "sw2"));
    g_assert_false(fore_inventory_remove(inv, "sw1", &change, NULL));
    g_assert_nonnull(fore_inventory_find(inv, "sw1"));
    g_assert_false(fore_inventory_set_reference(inv, "d.e.f", &change, NULL));
    g_assert_cmpstr(fore_inventory_reference(inv), ==, "a.b.c");
    g_assert_true(fore_inventory_verify_audit(f->dir, NULL, &lines, NULL));
    g_assert_cmpuint(lines, ==, 3);
    fore_test_remove_tree(blocker);
    add(inv, FORE_SUBJECT_NODE, "sw2", "three");
    g_clear_pointer(&inv, fore_inventory_close);
    fore_inventory_close(open_ok(f));
}

static void test_sealed(Fixture *f, gconstpointer data)
{
    g_autoptr(ForeTestSwtpm) tpm = NULL;
    g_autoptr(ForeTestSwtpm) other = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeInventory) inv = NULL;
    g_autofree char *note = NULL;

    if (fore_test_swtpm_missing() != NULL) {
        g_test_skip("swtpm is missing");
        return;
    }
    tpm = fore_test_swtpm_new();
    inv = fore_inventory_open(f->dir, fore_test_swtpm_tcti(tpm), &note, &error);
    g_assert_no_error(error);
    add(inv, FORE_SUBJECT_NODE, "sw1", "one");
    g_clear_pointer(&inv, fore_inventory_close);
    g_assert_false(g_file_test(f->key, G_FILE_TEST_EXISTS));
    inv = fore_inventory_open(f->dir, fore_test_swtpm_tcti(tpm), &note, &error);
    g_assert_no_error(error);
    g_assert_nonnull(fore_inventory_find(inv, "sw1"));
    g_clear_pointer(&inv, fore_inventory_close);
    other = fore_test_swtpm_new();
    g_assert_null(fore_inventory_open(f->dir, fore_test_swtpm_tcti(other), &note, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED);
}

/* --- configuration --- */

#define PIN_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define PIN_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static void test_config(Fixture *f, gconstpointer data)
{
    static const char text[] =
        "[pam]\nlisten=tcp:127.0.0.1:1\nstate-dir=/x\nagent-pins=" PIN_A ", " PIN_B
        "\nnode-pcrs=0-3,7\nallow-software-tpm=true\nsigning-key=tpm\n";
    g_autoptr(GError) error = NULL;
    g_autoptr(ForePamConfig) config = fore_pam_config_parse(text, strlen(text), &error);

    g_assert_no_error(error);
    g_assert_cmpuint(g_strv_length(config->agent_pins), ==, 2);
    g_assert_cmpuint(g_strv_length(config->operator_pins), ==, 0);
    g_assert_cmphex(config->node_pcr_mask, ==, 0x8f);
    g_assert_cmphex(config->vm_pcr_mask, ==, 0x7bff);
    g_assert_cmpuint(config->grant_lifetime_s, ==, 60);
    g_assert_true(config->allow_software_tpm);
}

static void test_bad_config(Fixture *f, gconstpointer data)
{
    static const char head[] = "[pam]\nlisten=tcp:127.0.0.1:1\nstate-dir=/x\n"
                               "insecure-software-key=true\n";
    static const char *const bad[] = {
        "agents-pins=" PIN_A,     "agent-pins=abcd",
        "grant-lifetime-s=0",     "grant-lifetime-s=1000000",
        "deadline-ms=soon",       "node-pcrs=0-23",
        "node-pcrs=7-3",          "node-pcrs=,",
        "allow-software-tpm=yes", "agent-pins=" PIN_A "\noperator-pins=" PIN_A,
        "[other]\nx=1",           "next-signing-key=file",
    };

    static const char no_key[] = "[pam]\nlisten=tcp:127.0.0.1:1\nstate-dir=/x\n";

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *text = g_strconcat(head, bad[i], "\n", NULL);
        g_autoptr(GError) error = NULL;

        g_assert_null(fore_pam_config_parse(text, strlen(text), &error));
        g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    }
    g_assert_null(fore_pam_config_parse("[pam]\nlisten=x\n", 15, NULL));
    g_assert_null(fore_pam_config_parse("", 0, NULL));
    /* nothing said of the signing key: no silent key in a file */
    g_assert_null(fore_pam_config_parse(no_key, strlen(no_key), NULL));
}

#define ADD(claim, fn) g_test_add("/pam/inventory/" claim, Fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("everything-survives-a-restart", test_round_trip);
    ADD("file-shows-nothing-and-is-private", test_encrypted);
    ADD("any-flipped-bit-is-refused", test_flipped_bit);
    ADD("wrong-readable-or-missing-key-is-refused", test_key);
    ADD("old-or-removed-inventory-is-refused", test_rollback);
    ADD("crash-between-log-and-file-is-noted-once", test_crash_between);
    ADD("edited-audit-line-is-found", test_audit_edited);
    ADD("removed-moved-or-cut-audit-lines-are-found", test_audit_lines);
    ADD("half-written-audit-line-is-cut-off", test_audit_torn);
    ADD("enrolled-name-keeps-its-record", test_exists);
    ADD("failed-write-changes-nothing", test_disk);
    ADD("sealed-key-opens-with-its-tpm-only", test_sealed);
    ADD("configuration-is-read", test_config);
    ADD("bad-configuration-is-refused", test_bad_config);
    return g_test_run();
}
