/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TPMS_NV_CERTIFY_INFO is Part 2, 10.12.8: name of the index, offset, contents.  The name is
 * nameAlg and the digest of TPMS_NV_PUBLIC (13.5), so number, kind, life and size of the index all
 * follow from comparing it; the index must have been written, because only then has it a value.
 */
#include "vtpm/attest/fore-nvcert.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>

#include "vtpm/attest/fore-attest-blob.h"
#include "vtpm/attest/fore-public.h"

#define ST_ATTEST_NV 0x8014
#define HEAD_BYTES   32

/* TPMA_NV, Part 2, 13.4 */
#define NV_OWNERWRITE    (1u << 1)
#define NV_AUTHWRITE     (1u << 2)
#define NV_EXTEND        (4u << 4)
#define NV_OWNERREAD     (1u << 17)
#define NV_AUTHREAD      (1u << 18)
#define NV_NO_DA         (1u << 25)
#define NV_ORDERLY       (1u << 26)
#define NV_CLEAR_STCLEAR (1u << 27)
#define NV_WRITTEN       (1u << 29)

static const char *const names[] = {
    [FORE_NVCERT_OK] = "ok",
    [FORE_NVCERT_STATEMENT] = "nv-statement",
    [FORE_NVCERT_INDEX] = "nv-index",
    [FORE_NVCERT_CONTENT] = "nv-content",
};
G_STATIC_ASSERT(G_N_ELEMENTS(names) == FORE_NVCERT_N);

const char *fore_nvcert_reason_name(ForeNvcertReason reason)
{
    g_assert(reason < FORE_NVCERT_N);
    return names[reason];
}

static uint8_t *put(uint8_t *at, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        at[i] = (uint8_t)(value >> (8 * (size - 1 - i)));
    }
    return at + size;
}

static void index_name(const ForeNvcertExpect *expect, uint8_t ret[2 + SHA256_DIGEST_LENGTH])
{
    const uint32_t attributes = NV_OWNERWRITE | NV_AUTHWRITE | NV_EXTEND | NV_OWNERREAD |
                                NV_AUTHREAD | NV_NO_DA | NV_WRITTEN |
                                (expect->by_boot ? NV_ORDERLY | NV_CLEAR_STCLEAR : 0);
    uint8_t public[14], *at = public;

    at = put(at, expect->index, 4);
    at = put(at, FORE_ALG_SHA256, 2);
    at = put(at, attributes, 4);
    at = put(at, 0, 2); /* no policy */
    put(at, HEAD_BYTES, 2);
    put(ret, FORE_ALG_SHA256, 2);
    SHA256(public, sizeof(public), ret + 2);
}

ForeNvcertReason fore_nvcert_verify(const ForeNvcertExpect *expect, GBytes *attest,
                                    GBytes *signature, uint8_t ret_head[32],
                                    ForeTpmClock *ret_clock, ForeQuoteReason *ret_why)
{
    uint8_t want[2 + SHA256_DIGEST_LENGTH];
    ForeAttestHead head;
    ForeCursor cur;
    const uint8_t *name, *content;
    size_t name_size = 0, content_size = 0;
    uint16_t offset;
    g_auto(ForePublic) key = {0};
    ForeQuoteReason why = fore_attest_head(attest, ST_ATTEST_NV, &head, &cur);

    if (why == FORE_QUOTE_OK) {
        why = fore_attest_signature(expect->ak_public, attest, signature, &key);
    }
    if (why == FORE_QUOTE_OK) {
        why = fore_attest_judge_head(&head, &key, expect->extra, expect->signer);
    }
    if (why == FORE_QUOTE_OK) {
        name = fore_cursor_sized16(&cur, &name_size);
        offset = fore_cursor_be16(&cur);
        content = fore_cursor_sized16(&cur, &content_size);
        why = fore_cursor_finished(&cur) ? FORE_QUOTE_OK : FORE_QUOTE_ATTEST_MALFORMED;
    }
    if (why != FORE_QUOTE_OK) {
        if (ret_why != NULL) {
            *ret_why = why;
        }
        return FORE_NVCERT_STATEMENT;
    }
    index_name(expect, want);
    if (name_size != sizeof(want) || CRYPTO_memcmp(name, want, sizeof(want)) != 0) {
        return FORE_NVCERT_INDEX;
    }
    if (offset != 0 || content_size != HEAD_BYTES) {
        return FORE_NVCERT_CONTENT;
    }
    memcpy(ret_head, content, HEAD_BYTES);
    if (ret_clock != NULL) {
        *ret_clock = head.clock;
    }
    return FORE_NVCERT_OK;
}
