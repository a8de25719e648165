/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest-agent/fore-sea-evidence.h"

#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "common/fore-json.h"
#include "vtpm/attest/fore-pathway.h"

struct ForeSeaEvidence {
    char *tcti, *vm_uuid, *channel_pin, *boot_id_path;
    ForeTpm *tpm; /* NULL: not open */
    ForeSeaLogs *logs;
    ForeSeaKeys *keys;
};

ForeSeaEvidence *fore_sea_evidence_new(const char *tcti, const char *vm_uuid,
                                       const char *channel_pin, const char *sysfs_root,
                                       const char *procfs_root, ForeSeaKeys *keys)
{
    ForeSeaEvidence *evidence = g_new0(ForeSeaEvidence, 1);

    evidence->tcti = g_strdup(tcti);
    evidence->vm_uuid = g_strdup(vm_uuid);
    evidence->channel_pin = g_strdup(channel_pin);
    evidence->boot_id_path = g_build_filename(procfs_root, "sys/kernel/random/boot_id", NULL);
    evidence->logs = fore_sea_logs_new(sysfs_root);
    evidence->keys = keys;
    return evidence;
}

void fore_sea_evidence_free(ForeSeaEvidence *evidence)
{
    if (!evidence) {
        return;
    }
    fore_tpm_close(evidence->tpm);
    fore_sea_logs_free(evidence->logs);
    fore_sea_keys_free(evidence->keys);
    g_free(evidence->tcti);
    g_free(evidence->vm_uuid);
    g_free(evidence->channel_pin);
    g_free(evidence->boot_id_path);
    g_free(evidence);
}

static ForeTpm *need_tpm(ForeSeaEvidence *evidence, GError **error)
{
    if (!evidence->tpm) {
        evidence->tpm = fore_tpm_open(evidence->tcti, error);
    }
    return evidence->tpm;
}

/* After a failure of the TPM itself the next command starts on a fresh connection. */
static void judge_tpm(ForeSeaEvidence *evidence, const GError *err)
{
    if (err && !g_error_matches(err, FORE_ERROR, FORE_ERROR_UNTRUSTED) &&
        !g_error_matches(err, FORE_ERROR, FORE_ERROR_INVALID)) {
        g_clear_pointer(&evidence->tpm, fore_tpm_close);
    }
}

static json_t *hex_string(GBytes *bytes)
{
    g_autofree char *hex = fore_hex_encode(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));

    return json_string(hex);
}

static char *read_boot_id(const ForeSeaEvidence *evidence)
{
    g_autofree char *text = NULL;
    gsize size = 0;

    if (!g_file_get_contents(evidence->boot_id_path, &text, &size, NULL) || size > 64) {
        return NULL;
    }
    return g_strdup(g_strstrip(text));
}

static json_t *info(ForeSeaEvidence *evidence, GError **error)
{
    g_autoptr(GBytes) ek = NULL, cert = NULL, ak = NULL, ak_name = NULL;
    g_autofree char *boot_id = read_boot_id(evidence);
    ForeTpm *tpm = need_tpm(evidence, error);
    uint64_t seq;
    json_t *ret;

    if (!tpm || !fore_tpm_ek(tpm, &ek, &cert, error) || !fore_tpm_ak(tpm, &ak, &ak_name, error) ||
        !fore_tpm_counter(tpm, FORE_TPM_SEQ_INDEX, &seq, error)) {
        return NULL;
    }
    ret = json_object();
    json_object_set_new(ret, "version", json_string(FORE_VERSION));
    json_object_set_new(ret, "vm-uuid", json_string(evidence->vm_uuid));
    json_object_set_new(ret, "boot-id", boot_id ? json_string(boot_id) : json_null());
    json_object_set_new(ret, "ek-public", fore_json_bytes(ek));
    json_object_set_new(ret, "ek-certificate", cert ? fore_json_bytes(cert) : json_null());
    json_object_set_new(ret, "ak-public", fore_json_bytes(ak));
    json_object_set_new(ret, "ak-name", hex_string(ak_name));
    json_object_set_new(ret, "channel-pin", json_string(evidence->channel_pin));
    json_object_set_new(ret, "seq", json_integer((json_int_t)seq));
    return ret;
}

json_t *fore_sea_evidence_info(ForeSeaEvidence *evidence, GError **error)
{
    GError *err = NULL;
    json_t *ret = info(evidence, &err);

    judge_tpm(evidence, err);
    if (err) {
        g_propagate_error(error, err);
    }
    return ret;
}

json_t *fore_sea_evidence_activate(ForeSeaEvidence *evidence, GBytes *blob, GBytes *secret,
                                   GError **error)
{
    g_autoptr(GBytes) plain = NULL;
    ForeTpm *tpm = need_tpm(evidence, error);
    GError *err = NULL;
    json_t *ret;

    if (!tpm) {
        return NULL;
    }
    if (!fore_tpm_activate(tpm, blob, secret, &plain, &err)) {
        judge_tpm(evidence, err);
        g_propagate_error(error, err);
        return NULL;
    }
    ret = json_object();
    json_object_set_new(ret, "secret", fore_json_bytes(plain));
    return ret;
}

typedef struct {
    GBytes *attest, *signature;
    uint8_t pcrs[FORE_TPM_PCRS][32];
    uint32_t mask;
} Quote;

static void quote_clear(Quote *quote)
{
    g_clear_pointer(&quote->attest, g_bytes_unref);
    g_clear_pointer(&quote->signature, g_bytes_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Quote, quote_clear)

/* A quote and the values it was made over: a PCR only moves forwards, so equal before and after
 * means equal in between.  An extend that falls in between is given one more chance. */
static bool take_quote(ForeTpm *tpm, GBytes *extra, Quote *quote, GError **error)
{
    uint8_t before[FORE_TPM_PCRS][32] = {0};

    memset(quote->pcrs, 0, sizeof quote->pcrs);
    if (!fore_tpm_pcr_read(tpm, quote->mask, quote->pcrs, error)) {
        return false;
    }
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        memcpy(before, quote->pcrs, sizeof before);
        quote_clear(quote);
        if (!fore_tpm_quote(tpm, extra, quote->mask, &quote->attest, &quote->signature, error) ||
            !fore_tpm_pcr_read(tpm, quote->mask, quote->pcrs, error)) {
            return false;
        }
        if (memcmp(before, quote->pcrs, sizeof before) == 0) {
            return true;
        }
    }
    g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                "PCRs of mask 0x%x moved during the quote twice; ask again", quote->mask);
    return false;
}

static json_t *pcrs_json(const Quote *quote)
{
    json_t *pcrs = json_object();

    for (unsigned i = 0; i < FORE_TPM_PCRS; i++) {
        if (quote->mask >> i & 1u) {
            g_autofree char *hex = fore_hex_encode(quote->pcrs[i], 32);
            char key[8];
            g_snprintf(key, sizeof key, "%u", i);
            json_object_set_new(pcrs, key, json_string(hex));
        }
    }
    return pcrs;
}

static json_t *attest(ForeSeaEvidence *evidence, GBytes *nonce, uint32_t pcr_mask, GError **error)
{
    ForeGuestSays says = {
        .vm_uuid = evidence->vm_uuid,
        .channel_pin = evidence->channel_pin,
        .pam_key = fore_sea_keys_id(evidence->keys),
    };
    g_autoptr(GBytes) extra = NULL;
    g_auto(Quote) quote = {.mask = pcr_mask};
    ForeTpm *tpm = need_tpm(evidence, error);
    json_t *ret, *sizes;

    if (!tpm || !fore_tpm_counter(tpm, FORE_TPM_SEQ_INDEX, &says.seq, error)) {
        return NULL;
    }
    extra = fore_pathway_guest_extra(g_bytes_get_data(nonce, NULL), &says);
    if (!take_quote(tpm, extra, &quote, error)) {
        return NULL;
    }
    /* After the quote: a log may be ahead of it, never behind. */
    sizes = json_object();
    for (unsigned i = 0; i < FORE_SEA_LOG_N; i++) {
        json_object_set_new(sizes, fore_sea_log_names[i],
                            json_integer((json_int_t)fore_sea_logs_size(evidence->logs, i)));
    }
    ret = json_object();
    json_object_set_new(ret, "attest", fore_json_bytes(quote.attest));
    json_object_set_new(ret, "signature", fore_json_bytes(quote.signature));
    json_object_set_new(ret, "pcrs", pcrs_json(&quote));
    json_object_set_new(ret, "software-tpm", json_boolean(fore_tpm_is_software(tpm)));
    json_object_set_new(ret, "channel-pin", json_string(evidence->channel_pin));
    json_object_set_new(ret, "pam-key", json_string(says.pam_key));
    json_object_set_new(ret, "seq", json_integer((json_int_t)says.seq));
    json_object_set_new(ret, "log-sizes", sizes);
    return ret;
}

json_t *fore_sea_evidence_attest(ForeSeaEvidence *evidence, GBytes *nonce, uint32_t pcr_mask,
                                 GError **error)
{
    GError *err = NULL;
    json_t *ret = attest(evidence, nonce, pcr_mask, &err);

    judge_tpm(evidence, err);
    if (err) {
        g_propagate_error(error, err);
    }
    return ret;
}

json_t *fore_sea_evidence_log(ForeSeaEvidence *evidence, ForeSeaLogKind kind, size_t offset,
                              size_t length, GError **error)
{
    g_autoptr(GBytes) data = NULL;
    size_t size;
    json_t *ret;

    if (!fore_sea_logs_read(evidence->logs, kind, offset, length, &data, &size, error)) {
        return NULL;
    }
    ret = json_object();
    json_object_set_new(ret, "data", fore_json_bytes(data));
    json_object_set_new(ret, "offset", json_integer((json_int_t)offset));
    json_object_set_new(ret, "size", json_integer((json_int_t)size));
    return ret;
}

bool fore_sea_evidence_changes(ForeSeaEvidence *evidence, uint32_t *ret, GError **error)
{
    ForeTpm *tpm = need_tpm(evidence, error);
    GError *err = NULL;

    if (!tpm) {
        return false;
    }
    if (!fore_tpm_pcr_updates(tpm, ret, &err)) {
        judge_tpm(evidence, err);
        g_propagate_error(error, err);
        return false;
    }
    return true;
}

bool fore_sea_evidence_grant(ForeSeaEvidence *evidence, const ForeSeaGrantExpect *expect,
                             const char *jws, ForeGrant *ret, GError **error)
{
    ForeTpm *tpm = need_tpm(evidence, error);
    GError *err = NULL;

    if (!tpm) {
        return false;
    }
    if (!fore_sea_grant_accept(tpm, evidence->keys, expect, jws, ret, &err)) {
        judge_tpm(evidence, err);
        g_propagate_error(error, err);
        return false;
    }
    return true;
}
