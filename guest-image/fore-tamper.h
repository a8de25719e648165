/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an intruder would leave behind, on command: a program that no reference value names, and a
 * PCR that no event log explains.  For demonstration and tests; nothing else in the guest uses it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/**
 * fore_tamper_ima: runs a copy of busybox with one byte more, so that IMA measures it
 * @ret_text: (out caller-allocates): what was done, or why not
 * @size: of @ret_text in bytes, 1 or more
 */
bool fore_tamper_ima(char *ret_text, size_t size);

/** fore_tamper_pcr: extends PCR 8 of the vTPM with a TPM2_PCR_Extend of its own; as above */
bool fore_tamper_pcr(char *ret_text, size_t size);
