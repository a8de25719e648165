/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Measurement logs as firmware and kernel would write them, and as nobody should.  Lay out first,
 * break one thing after.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* --- event logs --- */

/** fore_test_eventlog_new: the Spec ID event alone.  @sha1_too: SHA-1 beside SHA-256 */
GByteArray *fore_test_eventlog_new(bool sha1_too);
/** fore_test_eventlog_add: one event.  @digest: [32], NULL: the SHA-256 of @data */
void fore_test_eventlog_add(GByteArray *log, uint32_t pcr, uint32_t type, const void *data,
                            size_t size, const uint8_t *digest);
/** fore_test_eventlog_text: an event whose data is a string without its NUL */
void fore_test_eventlog_text(GByteArray *log, uint32_t pcr, uint32_t type, const char *text);
/** fore_test_eventlog_variable: UEFI_VARIABLE_DATA in PCR 7.  @name: ASCII; "db..." gets the image
 *  security GUID, others the global one */
void fore_test_eventlog_variable(GByteArray *log, uint32_t type, const char *name, const void *data,
                                 size_t size);
void fore_test_eventlog_separator(GByteArray *log, uint32_t pcr);
/** fore_test_eventlog_config: SecureBoot, PK, KEK, db, dbx.  @on: value of SecureBoot */
void fore_test_eventlog_config(GByteArray *log, uint8_t on);
/** fore_test_eventlog_boot: a whole boot over PCR 0-9 (one bank), Secure Boot on */
GByteArray *fore_test_eventlog_boot(void);
/** fore_test_eventlog_proved: PCR values of the log (SHA-256), as a quote would prove them */
void fore_test_eventlog_proved(const GByteArray *log, uint8_t ret[24][32]);
GBytes *fore_test_bytes(const GByteArray *bytes); /* a copy */

/* --- IMA lists --- */

typedef struct {
    const char *template;  /* "ima-ng", "ima-sig", "ima-buf" */
    const char *alg;       /* "sha256" */
    const uint8_t *digest; /* [@digest_size] */
    size_t digest_size;
    const char *path;
    const void *extra; /* signature or buffer */
    size_t extra_size;
    bool violation;
} ForeTestIma;

/** fore_test_ima_entry: SHA-256 ima-ng entry of @path whose content is @content */
void fore_test_ima_file(GByteArray *list, const char *path, const char *content);
/** fore_test_ima_binary: as binary_runtime_measurements has it */
void fore_test_ima_binary(GByteArray *list, const ForeTestIma *entry);
/** fore_test_ima_text: as ascii_runtime_measurements has it */
void fore_test_ima_text(GByteArray *list, const ForeTestIma *entry);
/** fore_test_ima_start: boot_aggregate of @pcrs.  @text: which form */
void fore_test_ima_start(GByteArray *list, const uint8_t (*pcrs)[32], bool text);
/** fore_test_ima_proved: replay of @list into @pcrs[10] */
void fore_test_ima_proved(const GByteArray *list, uint8_t pcrs[24][32]);
/** fore_test_sha256: of a string */
void fore_test_sha256(const char *text, uint8_t ret[32]);
