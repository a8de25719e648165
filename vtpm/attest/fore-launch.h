/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * What was launched on a host since it booted: one line for each start of a VM, with the digests of
 * everything that decides how the VM runs.  The digest of each line is an entry of a log whose head
 * the host TPM keeps (fore_tpm_log_extend(), FORE_TPM_LAUNCH_INDEX), so lines cannot be edited,
 * dropped or reordered without the head disagreeing.  Pure.
 *
 *   launch 1 UUID qemu=HEX plugin=HEX firmware=HEX kernel=HEX initrd=HEX cmdline=HEX vtpm=HEX
 *
 * Parts come in this order; what a VM does not have is left out.  Digests are SHA-256 of the file;
 * of the arguments, each followed by a zero byte; and of the TPM2B_PUBLIC of the vTPM's EK.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/fore-flow.h"

typedef enum {
    FORE_LAUNCH_QEMU,
    FORE_LAUNCH_PLUGIN,
    FORE_LAUNCH_FIRMWARE,
    FORE_LAUNCH_KERNEL,
    FORE_LAUNCH_INITRD,
    FORE_LAUNCH_CMDLINE,
    FORE_LAUNCH_VTPM,
    FORE_LAUNCH_PARTS
} ForeLaunchPart;
/** fore_launch_part_name: "qemu", ... */
const char *fore_launch_part_name(ForeLaunchPart part);
/** fore_launch_part_by_name: -1 when unknown */
int fore_launch_part_by_name(const char *name);

#define FORE_LAUNCH_LINE_MAX 640               /* bytes of a line without its newline */
#define FORE_LAUNCH_LOG_MAX  (4 * 1024 * 1024) /* bytes of a log that are looked at */

typedef struct {
    char vm[FORE_UUID_LEN + 1];
    uint32_t have; /* bit n: part n is there */
    uint8_t digest[FORE_LAUNCH_PARTS][32];
} ForeLaunch;

/** fore_launch_line: (transfer full) the line, without a newline; QEMU and CMDLINE must be there */
char *fore_launch_line(const ForeLaunch *launch);
/** fore_launch_entry: SHA-256 of the line's text: what the TPM's log is extended with */
void fore_launch_entry(const char *line, size_t size, uint8_t ret[32]);

typedef enum {
    FORE_LAUNCH_OK,
    FORE_LAUNCH_MALFORMED,  /* log too long, or a line that this code would not have written */
    FORE_LAUNCH_HEAD,       /* no beginning of the log leads to the head that the TPM certified */
    FORE_LAUNCH_ABSENT,     /* the VM was not launched under measurement since the host booted */
    FORE_LAUNCH_OTHER_VTPM, /* launched with another vTPM than the one that was enrolled */
    FORE_LAUNCH_POLICY,     /* nothing is allowed: an empty reference accepts nothing */
    FORE_LAUNCH_UNLISTED,   /* a part is not among the allowed ones, or missing */
    FORE_LAUNCH_N
} ForeLaunchReason;
const char *fore_launch_reason_name(ForeLaunchReason reason); /* "launch-unlisted", ... */

/**
 * fore_launch_find: replay the log into the certified head and find the newest launch of a VM
 * @log: text from the host, any content; lines behind the head (a launch since) are not looked at
 * @head: [32], proved by fore_nvcert_verify()
 * @ret: written on FORE_LAUNCH_OK only
 */
ForeLaunchReason fore_launch_find(GBytes *log, const uint8_t head[32], const char *vm,
                                  ForeLaunch *ret);

typedef struct {
    ForeLaunchPart part;
    uint8_t digest[32];
} ForeLaunchAllowed;

/**
 * fore_launch_judge: a part for which anything is allowed must be there and be one of them; a part
 * that is there must be allowed, except VTPM, which is compared with @vtpm
 * @vtpm: [32] SHA-256 of the enrolled EK's TPM2B_PUBLIC
 * @ret_part: written with FORE_LAUNCH_UNLISTED; may be NULL
 */
ForeLaunchReason fore_launch_judge(const ForeLaunch *launch, const uint8_t vtpm[32],
                                   const ForeLaunchAllowed *allowed, size_t n_allowed,
                                   ForeLaunchPart *ret_part);
