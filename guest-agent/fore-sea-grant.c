/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works: the order is read the counter, judge, raise the counter, and only then allow. Power
 * lost in between costs the grant (the host asks for another), never a second use of it.  The
 * guest's clock comes from the host, which could turn it back to use an old grant that it held
 * back; it cannot use one twice, nor after a newer one: that is the counter's work.
 */
#include "guest-agent/fore-sea-grant.h"

#include "common/fore-bytes.h"
#include "common/fore-error.h"

void fore_sea_allowed_init(ForeSeaAllowed *allowed, const ForeSeaCapacity *online)
{
    *allowed = (ForeSeaAllowed){
        .vcpus = online->vcpus_online,
        .mem_bytes = fore_sea_capacity_online_bytes(online),
        .base_vcpus = online->vcpus_online,
        .base_mem_bytes = fore_sea_capacity_online_bytes(online),
    };
}

void fore_sea_allowed_grant(ForeSeaAllowed *allowed, const ForeGrant *grant, int64_t now_us,
                            int64_t now_s)
{
    int64_t left_s = MAX(grant->expires_s + FORE_GRANT_SKEW_S - now_s, 0);

    allowed->vcpus = grant->vcpus;
    allowed->mem_bytes = grant->mem_bytes;
    allowed->seq = grant->seq;
    allowed->open = true;
    allowed->expires_s = grant->expires_s + FORE_GRANT_SKEW_S;
    allowed->deadline_us = now_us + left_s * G_USEC_PER_SEC;
}

void fore_sea_allowed_release(ForeSeaAllowed *allowed, unsigned vcpus, uint64_t mem_bytes)
{
    vcpus = MAX(vcpus, 1);
    allowed->vcpus = MIN(allowed->vcpus, vcpus);
    allowed->mem_bytes = MIN(allowed->mem_bytes, mem_bytes);
    allowed->base_vcpus = MIN(allowed->base_vcpus, vcpus);
    allowed->base_mem_bytes = MIN(allowed->base_mem_bytes, mem_bytes);
}

bool fore_sea_allowed_expire(ForeSeaAllowed *allowed, const ForeSeaCapacity *online, int64_t now_us,
                             int64_t now_s)
{
    unsigned vcpus = MAX(online->vcpus_online, allowed->base_vcpus);
    uint64_t mem_bytes = MAX(fore_sea_capacity_online_bytes(online), allowed->base_mem_bytes);

    if (!allowed->open || (now_us < allowed->deadline_us && now_s < allowed->expires_s)) {
        return false;
    }
    allowed->open = false;
    allowed->vcpus = MIN(allowed->vcpus, vcpus);
    allowed->mem_bytes = MIN(allowed->mem_bytes, mem_bytes);
    return true;
}

void fore_sea_allowed_held(const ForeSeaAllowed *allowed, const ForeSeaCapacity *capacity,
                           unsigned *ret_vcpus, unsigned *ret_blocks)
{
    unsigned vcpus = MAX(allowed->vcpus, capacity->vcpus_online);
    uint64_t blocks = capacity->block_bytes > 0 ? allowed->mem_bytes / capacity->block_bytes : 0;

    blocks = MAX(blocks, capacity->blocks_online);
    *ret_vcpus = capacity->vcpus_present > vcpus ? capacity->vcpus_present - vcpus : 0;
    *ret_blocks =
        capacity->blocks_present > blocks ? (unsigned)(capacity->blocks_present - blocks) : 0;
}

static const char *remedy(ForeGrantReason reason)
{
    switch (reason) {
    case FORE_GRANT_SIGNATURE:
        return "it must be signed by the key in pam-key, or by one that the former key named";
    case FORE_GRANT_VM:
    case FORE_GRANT_AK:
        return "it was made for another VM or vTPM; enrol this VM again if its vTPM is new";
    case FORE_GRANT_EXPIRED:
    case FORE_GRANT_NOT_YET:
        return "ask for a new one, and compare the clocks of guest and PAM";
    case FORE_GRANT_SEQUENCE:
        return "it, or a newer one, was used already; attest again";
    default:
        return "ask the PAM for a new one";
    }
}

static bool refuse(ForeGrantReason reason, GError **error)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED, "grant refused: %s: %s",
                fore_grant_reason_name(reason), remedy(reason));
    return false;
}

bool fore_sea_grant_accept(ForeTpm *tpm, ForeSeaKeys *keys, const ForeSeaGrantExpect *expect,
                           const char *jws, ForeGrant *ret, GError **error)
{
    g_autoptr(GBytes) ak_public = NULL, ak_name = NULL;
    g_autofree char *ak_hex = NULL;
    ForeGrantExpect grant_expect = {
        .vm_uuid = expect->vm_uuid,
        .now_s = expect->now_s,
    };
    ForeGrantReason reason;
    ForeGrant grant;
    EVP_PKEY *signer = NULL;

    if (!fore_tpm_ak(tpm, &ak_public, &ak_name, error) ||
        !fore_tpm_counter(tpm, FORE_TPM_SEQ_INDEX, &grant_expect.last_seq, error)) {
        return false;
    }
    ak_hex = fore_hex_encode(g_bytes_get_data(ak_name, NULL), g_bytes_get_size(ak_name));
    grant_expect.ak_name = ak_hex;
    reason = fore_sea_keys_verify(keys, jws, &grant_expect, &grant, &signer);
    if (reason == FORE_GRANT_OK && grant.vcpus > expect->vcpus_possible) {
        reason = FORE_GRANT_AMOUNT;
    }
    if (reason != FORE_GRANT_OK) {
        return refuse(reason, error);
    }
    if (!fore_tpm_counter_raise(tpm, FORE_TPM_SEQ_INDEX, grant.seq, error)) {
        g_prefix_error(error, "grant %s not used: ", grant.id);
        return false;
    }
    fore_sea_keys_accepted(keys, &grant, signer);
    *ret = grant;
    return true;
}
