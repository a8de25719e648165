/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * foresee doctor against programs in QEMU's place: what it must notice is what they print, so a
 * script that prints it is the real interface.  The stock QEMU is asked too.
 */
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <string.h>

typedef struct {
    char *dir, *qemu;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("fore-doctor-XXXXXX", NULL);
    f->qemu = g_build_filename(f->dir, "qemu", NULL);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    g_unlink(f->qemu);
    g_rmdir(f->dir);
    g_free(f->qemu);
    g_free(f->dir);
}

static void write_qemu(const Fixture *f, const char *version, const char *help)
{
    g_autofree char *text = g_strdup_printf("#!/bin/sh\n"
                                            "case $1 in\n"
                                            "--version) echo 'QEMU emulator version %s' ;;\n"
                                            "-help) printf '%s' ;;\n"
                                            "esac\n",
                                            version, help);

    g_assert_true(g_file_set_contents(f->qemu, text, -1, NULL));
    g_assert_cmpint(g_chmod(f->qemu, 0755), ==, 0);
}

/* Runs the doctor; its exit status, and what it printed. */
static int doctor(const char *qemu, char **ret_out)
{
    const char *foresee = g_getenv("FORESEE");
    g_autoptr(GSubprocessLauncher) launcher =
        g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE);
    g_autoptr(GSubprocess) p = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_nonnull(foresee);
    if (qemu != NULL) {
        g_subprocess_launcher_setenv(launcher, "FORESEE_QEMU", qemu, TRUE);
    }
    p = g_subprocess_launcher_spawn(launcher, &error, foresee, "--socket", "unix:/nonexistent/sock",
                                    "doctor", NULL);
    g_assert_no_error(error);
    g_assert_true(g_subprocess_communicate_utf8(p, NULL, NULL, ret_out, NULL, &error));
    g_assert_true(g_subprocess_get_if_exited(p));
    return g_subprocess_get_exit_status(p);
}

static void without_plugins(Fixture *f, gconstpointer data)
{
    g_autofree char *out = NULL;

    write_qemu(f, "10.0.2", "-name string\\n-smp n\\n");
    g_assert_cmpint(doctor(f->qemu, &out), ==, 4);
    g_assert_nonnull(strstr(out, "built without TCG plugins"));
    g_assert_nonnull(strstr(out, "--enable-plugins"));
}

static void too_old(Fixture *f, gconstpointer data)
{
    g_autofree char *out = NULL;

    write_qemu(f, "7.2.0", "-name string\\n-plugin [file=]<file>\\n");
    g_assert_cmpint(doctor(f->qemu, &out), ==, 4);
    g_assert_nonnull(strstr(out, "QEMU 10.0 or later"));
}

static void missing(Fixture *f, gconstpointer data)
{
    g_autofree char *out = NULL;

    g_assert_cmpint(doctor(f->qemu, &out), ==, 4);
    g_assert_nonnull(strstr(out, "apt-get install qemu-system-x86"));
}

static void stock(Fixture *f, gconstpointer data)
{
    g_autofree char *out = NULL;

    g_assert_cmpint(doctor(NULL, &out), ==, 0);
    g_assert_nonnull(strstr(out, "-plugin is supported"));
    g_assert_nonnull(strstr(out, "foreseed --config"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, fn) g_test_add(path, Fixture, NULL, set_up, fn, tear_down)
    ADD("/qmp-agent/doctor/a-qemu-without-plugins-is-named", without_plugins);
    ADD("/qmp-agent/doctor/an-old-qemu-is-named", too_old);
    ADD("/qmp-agent/doctor/a-missing-qemu-comes-with-its-remedy", missing);
    ADD("/qmp-agent/doctor/the-stock-qemu-passes", stock);
    return g_test_run();
}
