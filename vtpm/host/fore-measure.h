/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * What a QEMU command line would run, as digests (vtpm/attest/fore-launch.h): the binary, plugins,
 * firmware, kernel, initrd, the arguments themselves.  Then the launch goes into this host's launch
 * log, whose head the host TPM keeps, before QEMU starts.
 */
#include "vtpm/attest/fore-launch.h"
#include "vtpm/tpm/fore-tpm.h"

/**
 * fore_measure_qemu: hash what @argv names; parts that several files make up (pflash units,
 * plugins) are SHA-256 over their digests in order
 * @argv: NULL-terminated; [0] is looked up in PATH
 * @ret_binary: open on the very file that was hashed, for fexecve(); close it
 * Errors: FORE_ERROR_NOT_FOUND (a file), FORE_ERROR_INVALID (an option that cannot be followed: a
 * blockdev that is not a plain file as firmware, a configuration file)
 */
bool fore_measure_qemu(char **argv, const char *vm, const uint8_t vtpm[32], ForeLaunch *ret,
                       int *ret_binary, GError **error);

/**
 * fore_measure_record: append to the log @path and extend FORE_TPM_LAUNCH_INDEX.  A log of an
 * earlier boot, or one that the TPM's head does not follow from, is moved away to "@path.old" when
 * the head is still empty, and refused otherwise. Errors: FORE_ERROR_UNTRUSTED (log and TPM
 * disagree), FORE_ERROR_UNAVAILABLE (disk, TPM)
 */
bool fore_measure_record(ForeTpm *tpm, const char *path, const ForeLaunch *launch, GError **error);
