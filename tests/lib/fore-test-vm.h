/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A stock QEMU under a test: started with a QMP and a qtest socket, driven by blocking calls, and
 * gone with the test (also when that crashes).  Helpers assert: a failure here fails the test.
 *
 * The sockets are bound and listened on by the test and handed to QEMU, so connecting needs no
 * wait. Environment: FORE_QEMU (program, default qemu-system-x86_64), FORE_PLUGIN
 * (libforesee-profiler.so).
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/fore-page.h"

typedef struct ForeTestVm ForeTestVm;

/** fore_test_vm_available: QEMU and the plugin are there; else skips the running g_test by name */
bool fore_test_vm_available(void);

/** fore_test_vm_new: a temporary directory; nothing runs yet */
ForeTestVm *fore_test_vm_new(void);
/** fore_test_vm_free: kills QEMU and removes the directory with all in it */
void fore_test_vm_free(ForeTestVm *vm);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeTestVm, fore_test_vm_free)

/** fore_test_vm_path: @name inside the VM's directory (transfer full) */
char *fore_test_vm_path(const ForeTestVm *vm, const char *name);

/**
 * fore_test_vm_start: run QEMU and connect to it
 * @args: more arguments in one string, split as a shell would; %p stands for the page's path, %P
 * for
 *   "-plugin" with page=%p and no other argument
 * Always given: -display none -nodefaults and the two sockets.  May be called again after
 * fore_test_vm_kill() or _quit().
 */
void fore_test_vm_start(ForeTestVm *vm, const char *args);
/**
 * fore_test_vm_refuses: run QEMU with @args (as above) and wait for its end
 * Returns: (transfer full) what it wrote to stderr; fails the test when it exits with 0
 */
char *fore_test_vm_refuses(ForeTestVm *vm, const char *args);
void fore_test_vm_kill(ForeTestVm *vm); /* SIGKILL, and reaped */
void fore_test_vm_quit(ForeTestVm *vm); /* QMP "quit", waits, exit status must be 0 */

/** fore_test_vm_qmp: one command that must succeed. @arguments: JSON text or NULL. (transfer full)
 */
json_t *fore_test_vm_qmp(ForeTestVm *vm, const char *command, const char *arguments);
/** fore_test_vm_do: the same, the answer does not matter */
void fore_test_vm_do(ForeTestVm *vm, const char *command, const char *arguments);
/** fore_test_vm_qmp_fails: one command that must fail; returns "CLASS: DESC" (transfer full) */
char *fore_test_vm_qmp_fails(ForeTestVm *vm, const char *command, const char *arguments);
/** fore_test_vm_wait_event: read events until one is named @event; (transfer full) its data or {}
 */
json_t *fore_test_vm_wait_event(ForeTestVm *vm, const char *event);

/* I/O ports of the machine, over qtest: the guest's half, played by the test. */
uint8_t fore_test_vm_inb(ForeTestVm *vm, uint16_t port);
uint32_t fore_test_vm_inl(ForeTestVm *vm, uint16_t port);
void fore_test_vm_outb(ForeTestVm *vm, uint16_t port, uint8_t value);
void fore_test_vm_outl(ForeTestVm *vm, uint16_t port, uint32_t value);

/** fore_test_vm_open_page: open the VM's page; @uuid as for fore_page_open().  Must succeed. */
ForePage *fore_test_vm_open_page(const ForeTestVm *vm, const char *uuid);

/**
 * fore_test_vm_read_until: read the page until @done says so, at most 60 s
 * @ret: the snapshot that @done accepted.  The VM runs on its own thread and nothing reports to us,
 * so this polls; it never waits longer than the condition takes.
 */
void fore_test_vm_read_until(ForePage *page, bool (*done)(const ForePageSnapshot *, gpointer),
                             gpointer data, ForePageSnapshot *ret);
