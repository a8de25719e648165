/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PCRs may be extended between the quote and the read.  Then the values do not hash to the signed
 * digest, so they are read before and after the quote, and a change in between makes one more try.
 * No progress is an error, never a guess.
 */
#include "vtpm/attester/fore-attester-tpm.h"

#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "common/fore-json.h"
#include "vtpm/tpm/fore-tpm.h"

#define BLOB_MAX    1024 /* credential blob, encrypted secret */
#define AK_NAME_MAX 66   /* bytes: a TPM2B_NAME */
#define QUOTE_TRIES 3
#define PCR_MASK    0xffffu /* 16..23 can be reset: they are never quoted */

json_t *fore_attester_info(const ForeAttesterConfig *config, GError **error)
{
    g_autoptr(ForeTpm) tpm = fore_tpm_open(config->tcti, error);
    g_autoptr(GBytes) ek = NULL;
    g_autoptr(GBytes) cert = NULL;
    g_autoptr(GBytes) ak = NULL;
    g_autoptr(GBytes) name = NULL;
    g_autofree char *name_hex = NULL;

    if (tpm == NULL || !fore_tpm_ek(tpm, &ek, &cert, error) ||
        !fore_tpm_ak(tpm, &ak, &name, error)) {
        return NULL;
    }
    name_hex = fore_hex_encode(g_bytes_get_data(name, NULL), g_bytes_get_size(name));
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:s, s:b}", "id", config->id, "role",
                     fore_role_names[config->role], "ek-public", fore_json_bytes(ek),
                     "ek-certificate", cert != NULL ? fore_json_bytes(cert) : json_null(),
                     "ak-public", fore_json_bytes(ak), "ak-name", name_hex, "software-tpm",
                     fore_tpm_is_software(tpm));
}

json_t *fore_attester_activate(const ForeAttesterConfig *config, const json_t *arguments,
                               GError **error)
{
    g_autoptr(GBytes) blob = NULL;
    g_autoptr(GBytes) encrypted = NULL;
    g_autoptr(GBytes) secret = NULL;
    g_autoptr(ForeTpm) tpm = NULL;

    if (!fore_json_get_bytes(arguments, "credential-blob", BLOB_MAX, &blob, error) ||
        !fore_json_get_bytes(arguments, "encrypted-secret", BLOB_MAX, &encrypted, error)) {
        return NULL;
    }
    tpm = fore_tpm_open(config->tcti, error);
    if (tpm == NULL || !fore_tpm_activate(tpm, blob, encrypted, &secret, error)) {
        return NULL;
    }
    return json_pack("{s:o}", "secret", fore_json_bytes(secret));
}

static bool is_ak_name(const char *hex)
{
    size_t n = strlen(hex);

    return n > 0 && n <= 2 * AK_NAME_MAX && n % 2 == 0 && strspn(hex, "0123456789abcdef") == n;
}

bool fore_attester_question(const ForeAttesterConfig *config, const json_t *arguments,
                            ForeAttesterQuestion *ret, GError **error)
{
    g_autoptr(GBytes) nonce = NULL;
    g_autoptr(GBytes) extra = NULL;
    const char *vm, *vm_ak_name;
    int64_t mask;

    if (!fore_json_get_bytes(arguments, "nonce", FORE_NONCE_SIZE, &nonce, error) ||
        !fore_json_get_int(arguments, "pcr-mask", 1, PCR_MASK, &mask, error) ||
        !fore_json_get_string(arguments, "vm", &vm, error) ||
        !fore_json_get_string(arguments, "vm-ak-name", &vm_ak_name, error)) {
        return false;
    }
    if (g_bytes_get_size(nonce) != FORE_NONCE_SIZE || !fore_uuid_is_valid(vm) ||
        !is_ak_name(vm_ak_name)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "want a nonce of 32 bytes, a VM UUID and an AK name in hex");
        return false;
    }
    extra = fore_pathway_node_extra(g_bytes_get_data(nonce, NULL), config->id, config->role, vm,
                                    vm_ak_name);
    memcpy(ret->extra, g_bytes_get_data(extra, NULL), sizeof(ret->extra));
    ret->mask = (uint32_t)mask;
    return true;
}

/* @pcrs fit the quote when nothing moved around it. */
static bool quote_steadily(ForeTpm *tpm, GBytes *extra, uint32_t mask, GBytes **ret_attest,
                           GBytes **ret_signature, uint8_t pcrs[FORE_TPM_PCRS][32], GError **error)
{
    uint8_t before[FORE_TPM_PCRS][32] = {{0}};

    for (unsigned i = 0; i < QUOTE_TRIES; i++) {
        g_autoptr(GBytes) attest = NULL;
        g_autoptr(GBytes) signature = NULL;

        memset(pcrs, 0, sizeof(before));
        if (!fore_tpm_pcr_read(tpm, mask, before, error) ||
            !fore_tpm_quote(tpm, extra, mask, &attest, &signature, error) ||
            !fore_tpm_pcr_read(tpm, mask, pcrs, error)) {
            return false;
        }
        if (memcmp(before, pcrs, sizeof(before)) == 0) {
            *ret_attest = g_steal_pointer(&attest);
            *ret_signature = g_steal_pointer(&signature);
            return true;
        }
    }
    g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                "PCRs changed during each of %d quotes; ask again", QUOTE_TRIES);
    return false;
}

static json_t *pcrs_to_json(uint32_t mask, const uint8_t (*pcrs)[32])
{
    json_t *values = json_object();

    for (unsigned pcr = 0; pcr < FORE_TPM_PCRS; pcr++) {
        if ((mask >> pcr & 1u) != 0) {
            g_autofree char *key = g_strdup_printf("%u", pcr);
            g_autofree char *hex = fore_hex_encode(pcrs[pcr], 32);

            json_object_set_new(values, key, json_string(hex));
        }
    }
    return values;
}

/* One question signs its own extra data; several sign the list of theirs. */
static GBytes *extra_of(const ForeAttesterQuestion *questions, size_t n, json_t **ret_batch)
{
    uint8_t extras[FORE_BATCH_MAX][32];

    g_assert(n > 0 && n <= FORE_BATCH_MAX);
    *ret_batch = NULL;
    if (n == 1) {
        return g_bytes_new(questions[0].extra, sizeof(questions[0].extra));
    }
    *ret_batch = json_array();
    for (size_t i = 0; i < n; i++) {
        g_autofree char *text = fore_b64_encode(questions[i].extra, sizeof(questions[i].extra));

        memcpy(extras[i], questions[i].extra, sizeof(extras[i]));
        json_array_append_new(*ret_batch, json_string(text));
    }
    return fore_pathway_batch_extra((const uint8_t(*)[32])extras, n);
}

/* The head of the launch log, over what the quote is over; NULL and no error: nothing was launched
 * under measurement here. */
static bool certify_launches(ForeTpm *tpm, GBytes *extra, json_t **ret, GError **error)
{
    g_autoptr(GBytes) attest = NULL;
    g_autoptr(GBytes) signature = NULL;
    g_autoptr(GError) why = NULL;

    *ret = NULL;
    if (fore_tpm_log_certify(tpm, FORE_TPM_LAUNCH_INDEX, FORE_TPM_LOG_BOOT, extra, &attest,
                             &signature, &why)) {
        *ret = json_pack("{s:o, s:o}", "attest", fore_json_bytes(attest), "signature",
                         fore_json_bytes(signature));
        return true;
    }
    if (g_error_matches(why, FORE_ERROR, FORE_ERROR_NOT_FOUND)) {
        return true;
    }
    g_propagate_prefixed_error(error, g_steal_pointer(&why), "launch log: ");
    return false;
}

json_t *fore_attester_quote(const ForeAttesterConfig *config, ForeAttesterLogs *logs,
                            const ForeAttesterQuestion *questions, size_t n, GError **error)
{
    const uint32_t mask = questions[0].mask;
    uint8_t pcrs[FORE_TPM_PCRS][32];
    g_autoptr(json_t) batch = NULL;
    g_autoptr(json_t) sizes = NULL;
    g_autoptr(json_t) launches = NULL;
    g_autoptr(GBytes) extra = extra_of(questions, n, &batch);
    g_autoptr(ForeTpm) tpm = fore_tpm_open(config->tcti, error);
    g_autoptr(GBytes) attest = NULL;
    g_autoptr(GBytes) signature = NULL;

    if (tpm == NULL || !quote_steadily(tpm, extra, mask, &attest, &signature, pcrs, error)) {
        return NULL;
    }
    if (config->role == FORE_ROLE_HYPERVISOR && !certify_launches(tpm, extra, &launches, error)) {
        return NULL;
    }
    sizes = fore_attester_logs_sizes(logs, error); /* after it: never behind the head */
    if (sizes == NULL) {
        return NULL;
    }
    return json_pack("{s:o, s:o, s:o, s:b, s:O, s:O*, s:O*}", "attest", fore_json_bytes(attest),
                     "signature", fore_json_bytes(signature), "pcrs",
                     pcrs_to_json(mask, (const uint8_t(*)[32])pcrs), "software-tpm",
                     fore_tpm_is_software(tpm), "log-sizes", sizes, "batch", batch, "launch",
                     launches);
}
