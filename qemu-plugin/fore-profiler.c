/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib.h>
#include <qemu-plugin.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "qemu-plugin/fore-profiler-args.h"
#include "qemu-plugin/fore-profiler-kvm.h"
#include "qemu-plugin/fore-profiler-page.h"
#include "qemu-plugin/fore-profiler-publish.h"
#include "qemu-plugin/fore-profiler-score.h"
#include "qemu-plugin/fore-profiler-translate.h"

/*
 * What QEMU calls.
 *
 * Under TCG translated code counts (fore-profiler-translate.c) on a scoreboard of ours
 * (fore-profiler-score.c), and a thread of ours publishes (fore-profiler-publish.c).  Under KVM
 * nothing is translated and no vCPU is reported: another thread samples (fore-profiler-kvm.c).
 *
 * Limits: idle time includes the time that the VM is stopped.  With -accel tcg,thread=single QEMU
 * reports no idle: the bit stays clear.
 */

#define PREFIX "foresee-profiler: "

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

static struct {
    ForePageHeader *page;
    unsigned max_vcpus;
    uint64_t valid; /* of a TCG guest */
} profiler;

static uint64_t monotonic_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * FORE_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void on_vcpu_init(qemu_plugin_id_t id, unsigned index)
{
    if (index < profiler.max_vcpus) {
        uint64_t more = fore_translate_vcpu_init(index);
        fore_publish_vcpu_init(index);
        __atomic_store_n(&profiler.page->mode, FORE_PAGE_MODE_TCG, __ATOMIC_RELAXED);
        fore_publish_add_valid(profiler.valid | more);
    }
}

static void on_vcpu_idle(qemu_plugin_id_t id, unsigned index)
{
    if (index < profiler.max_vcpus) {
        fore_publish_vcpu_idle(index);
    }
}

static void on_vcpu_resume(qemu_plugin_id_t id, unsigned index)
{
    if (index < profiler.max_vcpus) {
        fore_publish_vcpu_resume(index);
    }
}

static void on_vcpu_exit(qemu_plugin_id_t id, unsigned index)
{
    if (index < profiler.max_vcpus) {
        fore_publish_vcpu_exit(index);
    }
}

/* vCPU threads may still run: their words stay theirs, and the mapping stays. */
static void on_exit_qemu(qemu_plugin_id_t id, void *data)
{
    fore_profiler_kvm_stop();
    fore_publish_stop();
    __atomic_store_n(&profiler.page->writer, FORE_PAGE_WRITER_EXITED, __ATOMIC_RELEASE);
}

static bool check_machine(const qemu_info_t *info, GError **error)
{
    if (!info->system_emulation) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "user-mode emulation of %s: only whole machines (qemu-system-*) are profiled",
                    info->target_name);
        return false;
    }
    if (info->system.max_vcpus < 1 || info->system.max_vcpus > FORE_PAGE_MAX_VCPUS) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "the machine may have %d vCPUs, at most %d are recorded: lower -smp maxcpus",
                    info->system.max_vcpus, FORE_PAGE_MAX_VCPUS);
        return false;
    }
    return true;
}

static bool start_tcg(const char *target, const ForeProfilerArgs *args, uint64_t interval_ns,
                      GError **error)
{
    ForePublishSetup setup = {
        .page = profiler.page,
        .interval_ns = interval_ns,
        .max_vcpus = profiler.max_vcpus,
    };
    struct qemu_plugin_scoreboard *board =
        fore_profiler_score_new(profiler.max_vcpus, &setup.scores, error);

    if (board == NULL) {
        return false;
    }
    profiler.valid = fore_translate_start(target, args->level, board, setup.scores);
    return fore_publish_start(&setup, error);
}

static bool start_page(const qemu_info_t *info, const ForeProfilerArgs *args, bool is_kvm,
                       GError **error)
{
    ForeProfilerPageInfo page = {
        .uuid = args->uuid,
        .target = info->target_name,
        .now_ns = monotonic_ns(),
        .interval_ns = args->interval_ms * (FORE_NS_PER_S / 1000),
        .max_vcpus = (unsigned)info->system.max_vcpus,
        .level = args->level,
    };

    profiler.max_vcpus = page.max_vcpus;
    profiler.page = fore_profiler_page_create(args->page, &page, error);
    if (profiler.page == NULL) {
        return false;
    }
    return is_kvm ? fore_profiler_kvm_start(profiler.page, page.interval_ns, page.max_vcpus, error)
                  : start_tcg(info->target_name, args, page.interval_ns, error);
}

static bool start(const qemu_info_t *info, int argc, char **argv, bool is_kvm, GError **error)
{
    ForeProfilerArgs args;
    bool ok = fore_profiler_args_parse(argc, argv, &args, error) && check_machine(info, error) &&
              start_page(info, &args, is_kvm, error);

    fore_profiler_args_done(&args);
    return ok;
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                                           char **argv)
{
    g_autoptr(GError) error = NULL;
    bool is_kvm = fore_profiler_kvm_is_on();

    if (!start(info, argc, argv, is_kvm, &error)) {
        fprintf(stderr, PREFIX "%s\n", error->message);
        return 1;
    }
    qemu_plugin_register_atexit_cb(id, on_exit_qemu, NULL);
    if (is_kvm) { /* none of the calls below would ever come */
        return 0;
    }
    qemu_plugin_register_vcpu_init_cb(id, on_vcpu_init);
    qemu_plugin_register_vcpu_exit_cb(id, on_vcpu_exit);
    qemu_plugin_register_vcpu_idle_cb(id, on_vcpu_idle);
    qemu_plugin_register_vcpu_resume_cb(id, on_vcpu_resume);
    qemu_plugin_register_vcpu_tb_trans_cb(id, fore_translate_block);
    return 0;
}
