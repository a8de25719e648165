/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * One VM's QEMU over QMP: what it has (the truth), and the two things we ask of it: more vCPUs and
 * another virtio-mem size.  Device ids are deterministic and every change is re-queried, so a
 * command whose answer was lost is neither repeated nor forgotten.
 */
#include "qmp-agent/fore-link.h"

typedef struct ForeQmp ForeQmp;

typedef struct {
    bool running;            /* the guest's CPUs run (query-status) */
    unsigned vcpus_plugged;  /* vCPUs that QEMU has */
    unsigned vcpus_max;      /* slots in all */
    uint64_t base_bytes;     /* boot memory */
    bool has_vmem;           /* the virtio-mem device is there */
    uint64_t vmem_bytes;     /* plugged through it */
    uint64_t vmem_requested; /* asked of it */
    uint64_t vmem_max;
    uint64_t vmem_block; /* granularity */
} ForeQmpTruth;

typedef struct {
    void (*on_up)(ForeQmp *qmp, gpointer data); /* connected and the truth is read */
    void (*on_down)(ForeQmp *qmp, const GError *why, gpointer data);
    void (*on_event)(ForeQmp *qmp, const char *event, const json_t *ev_data, gpointer data);
} ForeQmpOps;

/** ForeQmpDone: @error NULL on success; the truth has been read anew in both cases (if connected)
 */
typedef void (*ForeQmpDone)(ForeQmp *qmp, const GError *error, gpointer data);

/**
 * fore_qmp_new
 * @address: "unix:PATH" of a QMP monitor that nobody else uses
 * @vmem_device: id of the VM's virtio-mem device
 */
ForeQmp *fore_qmp_new(GMainContext *context, const char *address, const char *vmem_device,
                      const ForeQmpOps *ops, gpointer data);
void fore_qmp_free(ForeQmp *qmp);
bool fore_qmp_is_up(const ForeQmp *qmp);
const char *fore_qmp_reason(const ForeQmp *qmp);
const ForeQmpTruth *fore_qmp_truth(const ForeQmp *qmp);
/** fore_qmp_link: for queries that change nothing (borrowed) */
ForeLink *fore_qmp_link(ForeQmp *qmp);

/** fore_qmp_refresh: read the truth anew */
void fore_qmp_refresh(ForeQmp *qmp, ForeQmpDone done, gpointer data);
/**
 * fore_qmp_check: read the truth anew unless that is under way; for a call each second.  It finds
 * what others plugged, and a QEMU that is connected but silent: two checks without an answer, and
 * the connection is made anew
 */
void fore_qmp_check(ForeQmp *qmp);
/**
 * fore_qmp_plug_vcpus: device_add until QEMU has @total vCPUs, lowest free slot first
 * Errors: FORE_ERROR_LIMIT (fewer slots than @total), FORE_ERROR_UNAVAILABLE, or QEMU's own
 */
void fore_qmp_plug_vcpus(ForeQmp *qmp, unsigned total, ForeQmpDone done, gpointer data);
/**
 * fore_qmp_set_vmem: virtio-mem's requested-size, then wait until `size` gets there
 * @bytes: multiple of the block size, at most max
 * @timeout_ms: for the guest; FORE_ERROR_TIMEOUT leaves the request standing, see the truth for how
 * far
 */
void fore_qmp_set_vmem(ForeQmp *qmp, uint64_t bytes, unsigned timeout_ms, ForeQmpDone done,
                       gpointer data);
