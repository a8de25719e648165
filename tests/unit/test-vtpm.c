/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vTPMs of a host whose own TPM is a software TPM: what is started, what is refused, what is
 * recorded when something dies. */
#include <errno.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "tests/lib/fore-test-swtpm.h"
#include "vtpm/host/fore-measure.h"
#include "vtpm/host/fore-vtpm.h"
#include "vtpm/tpm/fore-tpm.h"

#define VM_A    "6f1d4c1e-0a52-4a8e-9d57-2f3c8b1a7e40"
#define VM_B    "0b0d4c1e-0a52-4a8e-9d57-2f3c8b1a7e41"
#define WAIT_MS 20000

static ForeTestSwtpm *emulator;

typedef struct {
    char *dir, *vtpms, *run, *ca, *config, *tcti;
    ForeVtpmHost host;
} Box;

static void box_init(Box *b, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    b->dir = g_dir_make_tmp("foresee-vtpm-XXXXXX", &error);
    g_assert_no_error(error);
    b->vtpms = g_build_filename(b->dir, "v", NULL);
    b->run = g_build_filename(b->dir, "r", NULL);
    b->ca = g_build_filename(b->dir, "ca", NULL);
    b->tcti = g_strdup(fore_test_swtpm_tcti(emulator)); /* a restart frees theirs */
    b->host = (ForeVtpmHost){
        .tcti = b->tcti, .dir = b->vtpms, .run_dir = b->run, .ca_dir = b->ca, .pcr_mask = 1u << 7};
    b->config = g_build_filename(b->dir, "vtpm.conf", NULL);
    text = g_strdup_printf("[vtpm]\ntcti = %s\nstate-dir = %s\nrun-dir = %s\nca-dir = %s\n",
                           b->host.tcti, b->vtpms, b->run, b->ca);
    g_assert_true(g_file_set_contents(b->config, text, -1, NULL));
}

static void box_done(Box *b, gconstpointer unused)
{
    fore_test_remove_tree(b->dir);
    g_free(b->dir);
    g_free(b->vtpms);
    g_free(b->run);
    g_free(b->ca);
    g_free(b->config);
    g_free(b->tcti);
}

static void create(const Box *b, const char *uuid)
{
    g_autoptr(GError) error = NULL;

    fore_vtpm_create(&b->host, uuid, &error);
    g_assert_no_error(error);
}

/* --- a supervisor: the program itself; it prints "listening on ..." or "took over ..." --- */

typedef struct {
    pid_t pid;
    int ready;
} Supervisor;

static Supervisor supervise(const Box *b, const char *uuid)
{
    Supervisor s;
    int fds[2];

    g_assert_cmpint(pipe(fds), ==, 0);
    s.pid = fork();
    g_assert_cmpint(s.pid, >=, 0);
    if (s.pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        close(fds[0]);
        close(fds[1]);
        execl(FORE_TEST_VTPM, "foresee-vtpm", "-c", b->config, "run", uuid, NULL);
        _exit(127);
    }
    close(fds[1]);
    s.ready = fds[0];
    return s;
}

static void assert_ready(const Supervisor *s, const char *how)
{
    g_autoptr(GString) line = g_string_new(NULL);
    char c = 0;

    while (c != '\n') {
        struct pollfd p = {s->ready, POLLIN, 0};

        g_assert_cmpint(poll(&p, 1, WAIT_MS), ==, 1);
        g_assert_cmpint(read(s->ready, &c, 1), ==, 1);
        g_string_append_c(line, c);
    }
    g_assert_true(g_str_has_prefix(line->str, how));
}

static int end_of(Supervisor *s)
{
    int status = 0;

    g_assert_cmpint(waitpid(s->pid, &status, 0), ==, s->pid);
    close(s->ready);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static pid_t instance_pid(const Box *b, const char *uuid)
{
    g_autofree char *path = g_strdup_printf("%s/%s.sock.pid", b->run, uuid), *text = NULL;
    gint64 pid = 0;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_true(g_ascii_string_to_signed(g_strstrip(text), 10, 2, G_MAXINT, &pid, NULL));
    return (pid_t)pid;
}

static ForeGeneration generation(const Box *b, const char *uuid)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeTpm) tpm = fore_tpm_open(b->host.tcti, &error);
    g_autoptr(ForeGenerations) g = fore_generations_open(b->vtpms, tpm, &error);
    ForeGeneration ret = {0};

    g_assert_no_error(error);
    g_assert_nonnull(g);
    g_assert_true(fore_generations_get(g, uuid, &ret));
    return ret;
}

static void assert_refused(const Box *b, const char *uuid, const char *words)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(fore_vtpm_run(&b->host, uuid, NULL, NULL, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED);
    g_assert_nonnull(strstr(error->message, words));
}

static char *state_file(const Box *b, const char *uuid)
{
    return g_build_filename(b->vtpms, uuid, "state", "tpm2-00.permall", NULL);
}

static void copy(const char *from, const char *to)
{
    g_autofree char *data = NULL;
    gsize size = 0;

    g_assert_true(g_file_get_contents(from, &data, &size, NULL));
    g_assert_true(g_file_set_contents(to, data, (gssize)size, NULL));
}

/* QEMU's ends of swtpm's two channels. */
typedef struct {
    int control, tpm;
} Qemu;

static void command(int fd, const uint8_t *bytes, size_t size, int pass)
{
    uint8_t answer[4] = {1};
    char room[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec io = {(void *)bytes, size};
    struct msghdr msg = {.msg_iov = &io, .msg_iovlen = 1};

    if (pass >= 0) {
        struct cmsghdr *c;

        msg.msg_control = room;
        msg.msg_controllen = sizeof(room);
        c = CMSG_FIRSTHDR(&msg);
        *c = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(c), &pass, sizeof(int));
    }
    g_assert_cmpint(sendmsg(fd, &msg, 0), ==, (ssize_t)size);
    g_assert_cmpint(read(fd, answer, sizeof(answer)), ==, sizeof(answer));
    g_assert_cmpint(answer[0] | answer[1] | answer[2] | answer[3], ==, 0);
}

/* Connect, hand over the data channel, start the TPM up: that changes its state. */
static Qemu attach_as_qemu(const Box *b, const char *uuid)
{
    static const uint8_t set_datafd[] = {0, 0, 0, 0x10}, init[] = {0, 0, 0, 2, 0, 0, 0, 0};
    static const uint8_t startup[] = {0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0};
    g_autofree char *path = fore_vtpm_socket(&b->host, uuid);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    uint8_t answer[64];
    int pair[2];
    Qemu q = {socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), -1};

    g_strlcpy(at.sun_path, path, sizeof(at.sun_path));
    g_assert_cmpint(connect(q.control, (struct sockaddr *)&at, sizeof(at)), ==, 0);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    command(q.control, set_datafd, sizeof(set_datafd), pair[1]);
    close(pair[1]);
    command(q.control, init, sizeof(init), -1);
    q.tpm = pair[0];
    g_assert_cmpint(write(q.tpm, startup, sizeof(startup)), ==, sizeof(startup));
    g_assert_cmpint(read(q.tpm, answer, sizeof(answer)), ==, 10);
    return q;
}

static void detach_as_qemu(Qemu *q)
{
    close(q->control);
    close(q->tpm);
}

static void test_life(Box *b, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    Supervisor s;
    ForeGeneration before, after;
    Qemu q;

    create(b, VM_A);
    g_assert_false(fore_vtpm_create(&b->host, VM_A, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_EXISTS);
    g_clear_error(&error);
    before = generation(b, VM_A);
    g_assert_false(before.running);
    s = supervise(b, VM_A);
    assert_ready(&s, "listening on ");
    g_assert_true(generation(b, VM_A).running);
    g_assert_true(fore_vtpm_is_running(&b->host, VM_A));
    g_assert_false(fore_vtpm_run(&b->host, VM_A, NULL, NULL, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_EXISTS);
    g_clear_error(&error);
    g_assert_false(fore_vtpm_accept(&b->host, VM_A, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_EXISTS);
    q = attach_as_qemu(b, VM_A);
    detach_as_qemu(&q);
    g_assert_cmpint(end_of(&s), ==, 0);
    after = generation(b, VM_A);
    g_assert_false(after.running);
    g_assert_cmpuint(after.changes, >, before.changes);
    /* and again from there */
    s = supervise(b, VM_A);
    assert_ready(&s, "listening on ");
    g_clear_error(&error);
    fore_vtpm_stop(&b->host, VM_A, &error);
    g_assert_no_error(error);
    g_assert_cmpint(end_of(&s), ==, 0);
}

static void test_rolled_back(Box *b, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *state = NULL, *old = g_build_filename(b->dir, "old", NULL);
    Supervisor s;
    Qemu q;

    create(b, VM_A);
    state = state_file(b, VM_A);
    copy(state, old);
    s = supervise(b, VM_A);
    assert_ready(&s, "listening on ");
    q = attach_as_qemu(b, VM_A);
    detach_as_qemu(&q);
    g_assert_cmpint(end_of(&s), ==, 0);
    copy(old, state);
    assert_refused(b, VM_A, "rolled back");
    fore_vtpm_accept(&b->host, VM_A, &error);
    g_assert_no_error(error);
    s = supervise(b, VM_A);
    assert_ready(&s, "listening on ");
    kill(s.pid, SIGTERM);
    g_assert_cmpint(end_of(&s), ==, 0);
}

static void test_cloned(Box *b, gconstpointer unused)
{
    g_autofree char *a = NULL, *c = NULL;

    create(b, VM_A);
    create(b, VM_B);
    a = state_file(b, VM_A);
    c = state_file(b, VM_B);
    copy(a, c);
    assert_refused(b, VM_B, "not the one that it had last");
}

static void test_bit_flip(Box *b, gconstpointer unused)
{
    g_autofree char *path = NULL, *data = NULL;
    gsize size = 0;

    create(b, VM_A);
    path = state_file(b, VM_A);
    g_assert_true(g_file_get_contents(path, &data, &size, NULL));
    data[size / 2] ^= 1;
    g_assert_true(g_file_set_contents(path, data, (gssize)size, NULL));
    assert_refused(b, VM_A, "damaged");
}

static void test_crash(Box *b, gconstpointer unused)
{
    Supervisor s;

    create(b, VM_A);
    s = supervise(b, VM_A);
    assert_ready(&s, "listening on ");
    kill(instance_pid(b, VM_A), SIGKILL);
    assert_ready(&s, "listening on ");
    kill(s.pid, SIGTERM);
    g_assert_cmpint(end_of(&s), ==, 0);
    g_assert_false(generation(b, VM_A).running);
}

static void test_orphan(Box *b, gconstpointer unused)
{
    Supervisor s;
    pid_t instance;

    create(b, VM_A);
    s = supervise(b, VM_A);
    assert_ready(&s, "listening on ");
    instance = instance_pid(b, VM_A);
    kill(s.pid, SIGKILL);
    g_assert_cmpint(end_of(&s), ==, -SIGKILL);
    g_assert_cmpint(kill(instance, 0), ==, 0);
    s = supervise(b, VM_A);
    assert_ready(&s, "took over ");
    g_assert_cmpint(instance_pid(b, VM_A), ==, instance);
    kill(s.pid, SIGTERM);
    g_assert_cmpint(end_of(&s), ==, 0);
    g_assert_false(generation(b, VM_A).running);
}

static void test_other_boot(Box *b, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    const uint8_t something[32] = {7};
    g_autoptr(ForeTpm) tpm = NULL;

    create(b, VM_A);
    b->host.pcr_mask = 0;
    create(b, VM_B);
    tpm = fore_tpm_open(b->host.tcti, NULL);
    g_assert_true(fore_tpm_pcr_extend(tpm, 7, something, NULL));
    g_clear_pointer(&tpm, fore_tpm_close);
    assert_refused(b, VM_A, "PCRs of mask 0x000080");
    /* sealed to nothing, then to what holds now */
    b->host.pcr_mask = 1u << 7;
    fore_vtpm_reseal(&b->host, VM_B, &error);
    g_assert_no_error(error);
    g_assert_false(fore_vtpm_reseal(&b->host, VM_A, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED);
    fore_test_swtpm_restart(emulator);
}

static void test_removed(Box *b, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) all = NULL;

    create(b, VM_A);
    create(b, VM_B);
    fore_vtpm_remove(&b->host, VM_A, &error);
    g_assert_no_error(error);
    all = fore_vtpm_list(&b->host, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(all->len, ==, 1);
    g_assert_cmpstr(((ForeVtpmInfo *)g_ptr_array_index(all, 0))->uuid, ==, VM_B);
    g_assert_false(fore_vtpm_run(&b->host, VM_A, NULL, NULL, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND);
}

static void test_libvirt(Box *b, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *theirs = g_build_filename(b->dir, "libvirt", VM_B, "tpm2", NULL),
                    *top = g_build_filename(b->dir, "libvirt", NULL),
                    *noise = g_build_filename(b->dir, "libvirt", "not-a-uuid", "tpm2", NULL);
    g_autoptr(GPtrArray) all = NULL;
    const ForeVtpmInfo *info;

    g_mkdir_with_parents(theirs, 0700);
    g_mkdir_with_parents(noise, 0700);
    all = fore_vtpm_list(&b->host, top, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(all->len, ==, 1);
    info = g_ptr_array_index(all, 0);
    g_assert_cmpstr(info->uuid, ==, VM_B);
    g_assert_cmpint(info->state, ==, FORE_VTPM_LIBVIRT);
}

/* --- the ledger itself --- */

static ForeGenerations *open_ledger(const Box *b, ForeTpm **tpm, GError **error)
{
    *tpm = fore_tpm_open(b->host.tcti, NULL);
    g_assert_nonnull(*tpm);
    g_mkdir_with_parents(b->vtpms, 0700);
    return fore_generations_open(b->vtpms, *tpm, error);
}

static void put_one(const Box *b, const char *uuid, uint8_t fill)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeTpm) tpm = NULL;
    g_autoptr(ForeGenerations) g = open_ledger(b, &tpm, &error);
    ForeGeneration v = {.digest = {fill}, .changes = fill};

    g_assert_no_error(error);
    fore_generations_put(g, uuid, &v, &error);
    g_assert_no_error(error);
}

static void assert_ledger_refused(const Box *b, const char *words)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeTpm) tpm = NULL;
    g_autoptr(ForeGenerations) g = open_ledger(b, &tpm, &error);

    g_assert_null(g);
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED);
    g_assert_nonnull(strstr(error->message, words));
}

static void test_ledger_edits(Box *b, gconstpointer unused)
{
    g_autofree char *path = g_build_filename(b->vtpms, "generations.json", NULL), *good = NULL,
                    *bad = NULL;
    gsize size = 0;

    put_one(b, VM_A, 1);
    g_assert_true(g_file_get_contents(path, &good, &size, NULL));
    bad = g_strdup(good);
    strstr(bad, "\"digest\": \"01")[12] = '2';
    g_assert_true(g_file_set_contents(path, bad, -1, NULL));
    assert_ledger_refused(b, "changed by somebody else");
    g_assert_true(g_file_set_contents(path, good, (gssize)size / 2, NULL));
    assert_ledger_refused(b, "changed by somebody else");
    g_assert_true(g_file_set_contents(path, good, -1, NULL));
    put_one(b, VM_A, 2);
    g_assert_true(g_file_set_contents(path, good, -1, NULL));
    assert_ledger_refused(b, "it was put back");
}

static void test_ledger_lost(Box *b, gconstpointer unused)
{
    g_autofree char *path = g_build_filename(b->vtpms, "generations.json", NULL),
                    *key = g_build_filename(b->vtpms, "generations.key.sealed", NULL);

    create(b, VM_A);
    g_unlink(key);
    assert_ledger_refused(b, "lost its key");
    g_unlink(path);
    assert_refused(b, VM_A, "knows no vTPM of VM " VM_A);
}

static void test_ledger_unfinished(Box *b, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeTpm) tpm = NULL;
    g_autoptr(ForeGenerations) g = open_ledger(b, &tpm, &error);
    ForeGeneration v = {.digest = {5}}, got;

    g_assert_no_error(error);
    fore_test_swtpm_stop(emulator); /* the TPM goes between the file and the counter */
    g_assert_false(fore_generations_put(g, VM_A, &v, &error));
    g_assert_nonnull(error);
    g_clear_pointer(&g, fore_generations_close);
    g_clear_pointer(&tpm, fore_tpm_close);
    fore_test_swtpm_restart(emulator);
    got = generation(b, VM_A);
    g_assert_cmpint(got.digest[0], ==, 5);
    put_one(b, VM_B, 6);
}

/* --- measuring --- */

static char *file_with(const Box *b, const char *name, const char *text)
{
    char *path = g_build_filename(b->dir, name, NULL);

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    g_chmod(path, 0755);
    return path;
}

static ForeLaunch measured(char **argv)
{
    g_autoptr(GError) error = NULL;
    const uint8_t ek[32] = {3};
    ForeLaunch l = {0};
    int fd = -1;

    fore_measure_qemu(argv, VM_A, ek, &l, &fd, &error);
    g_assert_no_error(error);
    close(fd);
    return l;
}

static void test_measure(Box *b, gconstpointer unused)
{
    g_autofree char *qemu = file_with(b, "qemu", "q"), *plugin = file_with(b, "p.so", "p"),
                    *code = file_with(b, "CODE.fd", "c"), *vars = file_with(b, "VARS.fd", "v"),
                    *kernel = file_with(b, "vmlinuz", "k"), *initrd = file_with(b, "initrd", "i");
    g_autofree char *p = g_strdup_printf("%s,profile=lean", plugin),
                    *d0 = g_strdup_printf("if=pflash,format=raw,readonly=on,file=%s", code),
                    *d1 = g_strdup_printf("if=pflash,format=raw,file=%s", vars),
                    *blk = g_strdup_printf("driver=file,node-name=fw,filename=%s", code);
    char *argv[] = {qemu, "-plugin", p,      "-drive",  d0,     "-drive",
                    d1,   "-kernel", kernel, "-initrd", initrd, NULL};
    char *by_node[] = {qemu, "-machine", "q35,pflash0=fw", "-blockdev", blk, NULL};
    char *config[] = {qemu, "-readconfig", kernel, NULL};
    g_autoptr(GError) error = NULL;
    const uint8_t ek[32] = {3};
    ForeLaunch l = measured(argv), again, other;
    int fd = -1;

    g_assert_cmpuint(l.have, ==, (1u << FORE_LAUNCH_PARTS) - 1);
    again = measured(argv);
    g_assert_cmpmem(l.digest, sizeof(l.digest), again.digest, sizeof(again.digest));
    g_assert_true(g_file_set_contents(vars, "v2", -1, NULL)); /* variables are no code */
    again = measured(argv);
    g_assert_cmpmem(l.digest, sizeof(l.digest), again.digest, sizeof(again.digest));
    g_assert_true(g_file_set_contents(plugin, "p2", -1, NULL));
    again = measured(argv);
    for (unsigned i = 0; i < FORE_LAUNCH_PARTS; i++) {
        g_assert_cmpint(memcmp(l.digest[i], again.digest[i], 32) == 0, ==, i != FORE_LAUNCH_PLUGIN);
    }
    other = measured(by_node);
    g_assert_cmpmem(other.digest[FORE_LAUNCH_FIRMWARE], 32, l.digest[FORE_LAUNCH_FIRMWARE], 32);
    g_assert_false(fore_measure_qemu(config, VM_A, ek, &l, &fd, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
}

static void test_launch_log(Box *b, gconstpointer unused)
{
    g_autofree char *path = g_build_filename(b->dir, "launch.log", NULL), *text = NULL,
                    *behind = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeTpm) tpm = fore_tpm_open(b->host.tcti, &error);
    g_autoptr(GBytes) log = NULL;
    ForeLaunch l = {.vm = VM_A, .have = 1u << FORE_LAUNCH_QEMU | 1u << FORE_LAUNCH_CMDLINE}, got;
    uint8_t head[32];
    gsize size = 0;

    g_assert_no_error(error);
    fore_measure_record(tpm, path, &l, &error);
    g_assert_no_error(error);
    l.digest[FORE_LAUNCH_QEMU][0] = 1;
    fore_measure_record(tpm, path, &l, &error);
    g_assert_no_error(error);
    g_assert_true(fore_tpm_log_head(tpm, FORE_TPM_LAUNCH_INDEX, FORE_TPM_LOG_BOOT, head, NULL));
    g_assert_true(g_file_get_contents(path, &text, &size, NULL));
    log = g_bytes_new(text, size);
    g_assert_cmpint(fore_launch_find(log, head, VM_A, &got), ==, FORE_LAUNCH_OK);
    g_assert_cmpint(got.digest[FORE_LAUNCH_QEMU][0], ==, 1);
    /* an unfinished step (a line behind the head) is cut off; an edit is refused */
    behind = g_strconcat(text, "launch 1 x\n", NULL);
    g_assert_true(g_file_set_contents(path, behind, -1, NULL));
    fore_measure_record(tpm, path, &l, &error);
    g_assert_no_error(error);
    text[10] ^= 1;
    g_assert_true(g_file_set_contents(path, text, (gssize)size, NULL));
    g_assert_false(fore_measure_record(tpm, path, &l, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED);
    /* the host boots: both start anew */
    g_clear_pointer(&tpm, fore_tpm_close);
    g_clear_error(&error);
    fore_test_swtpm_restart(emulator);
    tpm = fore_tpm_open(b->host.tcti, NULL);
    fore_measure_record(tpm, path, &l, &error);
    g_assert_no_error(error);
}

static void test_skip(void)
{
    g_autofree char *why = g_strdup_printf("%s is missing", fore_test_swtpm_missing());

    g_test_skip(why);
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    if (fore_test_swtpm_missing() != NULL) {
        g_test_add_func("/host/vtpm/needs-swtpm", test_skip);
        return g_test_run();
    }
    emulator = fore_test_swtpm_new();
#define ADD(path, fn) g_test_add(path, Box, NULL, box_init, fn, box_done)
    ADD("/host/vtpm/lives-ends-with-qemu-and-is-recorded", test_life);
    ADD("/host/vtpm/crashed-instance-is-started-again", test_crash);
    ADD("/host/vtpm/outlives-its-supervisor", test_orphan);
    ADD("/host/vtpm/key-is-had-only-with-the-same-pcrs", test_other_boot);
    ADD("/host/vtpm/removed-is-gone", test_removed);
    ADD("/host/vtpm/libvirts-are-found-not-touched", test_libvirt);
    ADD("/attest/attack/88-state-rolled-back", test_rolled_back);
    ADD("/attest/attack/87-state-of-another-vm", test_cloned);
    ADD("/attest/attack/90-state-with-a-flipped-bit", test_bit_flip);
    ADD("/host/generation/edit-cut-and-older-copy-are-refused", test_ledger_edits);
    ADD("/host/generation/losing-the-ledger-starts-nothing", test_ledger_lost);
    ADD("/host/generation/unfinished-step-is-finished", test_ledger_unfinished);
    ADD("/host/measure/every-part-and-nothing-else", test_measure);
    ADD("/host/measure/log-follows-the-tpm", test_launch_log);
    rc = g_test_run();
    fore_test_swtpm_free(emulator);
    return rc;
}
