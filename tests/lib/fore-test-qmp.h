/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A scripted QEMU behind a real QMP socket: slots and virtio-mem with a state of their own, one
 * client at a time as QEMU has it (a second one is accepted and hears nothing), and faults on
 * order. It runs on the caller's GMainContext; nothing here sleeps.
 */
#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_TEST_QMP_BASE  (G_GUINT64_CONSTANT(512) << 20) /* boot memory, bytes */
#define FORE_TEST_QMP_VMEM  (G_GUINT64_CONSTANT(2) << 30)   /* virtio-mem max-size */
#define FORE_TEST_QMP_BLOCK (G_GUINT64_CONSTANT(2) << 20)   /* its granularity */

typedef struct ForeTestQmp ForeTestQmp;

/** ForeTestQmpSeen: a command arrived and was carried out (or refused); before it is answered */
typedef void (*ForeTestQmpSeen)(ForeTestQmp *qmp, const char *command, const json_t *arguments,
                                gpointer data);

/**
 * fore_test_qmp_new: listens at once
 * @path: of the socket    @slots: vCPU slots; slot 0 is plugged from boot, without an id
 */
ForeTestQmp *fore_test_qmp_new(GMainContext *context, const char *path, unsigned slots,
                               ForeTestQmpSeen seen, gpointer data);
void fore_test_qmp_free(ForeTestQmp *qmp); /* NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeTestQmp, fore_test_qmp_free)

/* --- the machine --- */
unsigned fore_test_qmp_vcpus(const ForeTestQmp *qmp); /* plugged */
/** fore_test_qmp_id: of the device in @slot; "" for the boot vCPU, NULL when the slot is free */
const char *fore_test_qmp_id(const ForeTestQmp *qmp, unsigned slot);
uint64_t fore_test_qmp_vmem(const ForeTestQmp *qmp);      /* bytes plugged through virtio-mem */
uint64_t fore_test_qmp_requested(const ForeTestQmp *qmp); /* bytes asked of it */
/** fore_test_qmp_limit: the guest follows requests only up to @bytes */
void fore_test_qmp_limit(ForeTestQmp *qmp, uint64_t bytes);
void fore_test_qmp_plug(ForeTestQmp *qmp, unsigned slot, const char *id); /* by someone else */
void fore_test_qmp_run(ForeTestQmp *qmp, bool running);                   /* query-status */
/** fore_test_qmp_event: to the client, if there is one. @ev_data: (transfer full) or NULL */
void fore_test_qmp_event(ForeTestQmp *qmp, const char *event, json_t *ev_data);

/* --- what was seen --- */
unsigned fore_test_qmp_count(const ForeTestQmp *qmp, const char *command); /* commands received */
unsigned fore_test_qmp_added(const ForeTestQmp *qmp); /* device_add that made a device */
unsigned fore_test_qmp_connections(const ForeTestQmp *qmp);
bool fore_test_qmp_has_client(const ForeTestQmp *qmp);

/* --- faults --- */
/** fore_test_qmp_listen: false ends the connection and removes the socket; true is as at start */
void fore_test_qmp_listen(ForeTestQmp *qmp, bool on);
/** fore_test_qmp_drop: end the connection */
void fore_test_qmp_drop(ForeTestQmp *qmp);
/** fore_test_qmp_greet: @text instead of the greeting, from now on; "" is silence, NULL as usual */
void fore_test_qmp_greet(ForeTestQmp *qmp, const char *text);

/* The next @command meets this fault, once.  Only one fault waits at a time. */
/** fore_test_qmp_cut: it is carried out; of its answer come @bytes, then the connection ends */
void fore_test_qmp_cut(ForeTestQmp *qmp, const char *command, size_t bytes);
/** fore_test_qmp_swallow: it is carried out and never answered */
void fore_test_qmp_swallow(ForeTestQmp *qmp, const char *command);
/** fore_test_qmp_refuse: it is not carried out; GenericError with @desc */
void fore_test_qmp_refuse(ForeTestQmp *qmp, const char *command, const char *desc);
/** fore_test_qmp_pretend: it is not carried out, yet answered with success */
void fore_test_qmp_pretend(ForeTestQmp *qmp, const char *command);
/** fore_test_qmp_answer: @text instead of its answer, as it is. (transfer full) */
void fore_test_qmp_answer(ForeTestQmp *qmp, const char *command, GString *text);
/** fore_test_qmp_return: @value as its answer. (transfer full) */
void fore_test_qmp_return(ForeTestQmp *qmp, const char *command, json_t *value);
/** fore_test_qmp_fault_is_spent: no fault waits any more */
bool fore_test_qmp_fault_is_spent(const ForeTestQmp *qmp);
