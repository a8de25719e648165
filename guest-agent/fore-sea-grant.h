/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * What this guest may bring online.  At start that is what is online; only a grant of the pinned
 * PAM raises it, a release or the end of the grant lowers it.  Totals, never deltas.
 *
 *   vcpus      CPUs
 *   mem_bytes  bytes in memory blocks, hot-plugged ones and those that the guest booted with: the
 *              sum of the online blocks of /sys/devices/system/memory, which for a machine whose
 * base memory is a whole number of blocks (128 MiB) is exactly QEMU's base plus plugged size.
 * MemTotal is less: the kernel keeps some for itself.
 */
#include <glib.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>

#include "guest-agent/fore-sea-hotplug.h"
#include "guest-agent/fore-sea-keys.h"
#include "vtpm/attest/fore-grant.h"
#include "vtpm/tpm/fore-tpm.h"

typedef struct {
    unsigned vcpus;     /* total that may be online */
    uint64_t mem_bytes; /* total that may be online */
    uint64_t seq;       /* of the newest accepted grant, 0: none since start */
    bool open;          /* that grant has not ended: growth up to the totals may still come */
    /* private */
    unsigned base_vcpus;
    uint64_t base_mem_bytes;
    int64_t deadline_us, expires_s;
} ForeSeaAllowed;

/** fore_sea_allowed_init: at start: @online is what is there without any grant */
void fore_sea_allowed_init(ForeSeaAllowed *allowed, const ForeSeaCapacity *online);

/**
 * fore_sea_allowed_grant: take over an accepted grant's totals until it ends
 * @now_us: CLOCK_MONOTONIC   @now_s: UTC seconds; the grant ends when either clock says so
 */
void fore_sea_allowed_grant(ForeSeaAllowed *allowed, const ForeGrant *grant, int64_t now_us,
                            int64_t now_s);

/** fore_sea_allowed_release: lower the totals; a larger value than allowed changes nothing
 *  @vcpus: at least 1 is kept */
void fore_sea_allowed_release(ForeSeaAllowed *allowed, unsigned vcpus, uint64_t mem_bytes);

/**
 * fore_sea_allowed_expire: once the grant has ended, what is online stays allowed and the rest does
 * not.  Returns: true when that happened in this call
 */
bool fore_sea_allowed_expire(ForeSeaAllowed *allowed, const ForeSeaCapacity *online, int64_t now_us,
                             int64_t now_s);

/** fore_sea_allowed_held: present but offline for want of a grant */
void fore_sea_allowed_held(const ForeSeaAllowed *allowed, const ForeSeaCapacity *capacity,
                           unsigned *ret_vcpus, unsigned *ret_blocks);

typedef struct {
    const char *vm_uuid;     /* ours */
    unsigned vcpus_possible; /* CPUs that this machine can ever have */
    int64_t now_s;           /* UTC seconds */
} ForeSeaGrantExpect;

/**
 * fore_sea_grant_accept: judge a grant and burn its sequence number in the vTPM; blocking
 * @keys: whose grants count; learns what the grant says of the next key
 * @ret: written on success only: the counter is then at the grant's seq, and this grant can never
 * be accepted again Errors: FORE_ERROR_UNTRUSTED: "grant refused: REASON: ..." with
 * fore_grant_reason_name(); else what the TPM says
 */
bool fore_sea_grant_accept(ForeTpm *tpm, ForeSeaKeys *keys, const ForeSeaGrantExpect *expect,
                           const char *jws, ForeGrant *ret, GError **error);
