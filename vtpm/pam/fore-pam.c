/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The life of the manager: its state folder, its keys, its start and its end. */
#include "vtpm/pam/fore-pam.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <openssl/rand.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/fore-bytes.h"
#include "vtpm/pam/fore-pam-internal.h"

/* --- shared --- */

void fore_pam_fail(ForeCall *call, ForeErrorCode code, const char *format, ...)
{
    g_autoptr(GError) error = NULL;
    va_list args;

    va_start(args, format);
    error = g_error_new_valist(FORE_ERROR, code, format, args);
    va_end(args);
    fore_call_fail(call, error);
}

void fore_pam_fail_with(ForeCall *call, GError *error)
{
    fore_call_fail(call, error);
    g_error_free(error);
}

bool fore_pam_random(void *ret, size_t size, GError **error)
{
    if (RAND_bytes(ret, (int)size) != 1) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "the random generator gives nothing; no nonce, no attestation");
        return false;
    }
    return true;
}

bool fore_pam_session_id(char ret[FORE_SESSION_ID_LEN + 1], GError **error)
{
    uint8_t bytes[FORE_SESSION_ID_LEN / 2];
    g_autofree char *hex = NULL;

    if (!fore_pam_random(bytes, sizeof(bytes), error)) {
        return false;
    }
    hex = fore_hex_encode(bytes, sizeof(bytes));
    g_strlcpy(ret, hex, FORE_SESSION_ID_LEN + 1);
    return true;
}

bool fore_pam_owns(const ForePamPeer *peer, const ForeRecord *vm, GError **error)
{
    if (peer->is_operator || strcmp(vm->owner, peer->pin) == 0) {
        return true;
    }
    g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                "VM '%s' belongs to host agent %.16s, not to %.16s; after a move an operator runs "
                "'foresee pam assign'",
                vm->name, vm->owner[0] != '\0' ? vm->owner : "(nobody)", peer->pin);
    return false;
}

ForeAsk *fore_pam_ask(ForePam *pam, const char *address, const char *pin, const char *command,
                      json_t *arguments, ForeAskReply reply, gpointer data)
{
    ForeAskTarget target = {
        .context = pam->context,
        .identity = pam->keys->channel,
        .address = address,
        .pin = pin,
        .timeout_ms = pam->config->deadline_ms,
    };

    return fore_ask_new(&target, command, arguments, reply, data);
}

uint32_t fore_pam_mask(const ForePam *pam, ForeSubject subject, const char *id)
{
    uint32_t policy =
        subject == FORE_SUBJECT_VM ? pam->config->vm_pcr_mask : pam->config->node_pcr_mask;

    return policy | fore_rules_of(pam->rules, subject, id)->mask;
}

ForeNodeReason fore_pam_absence(const GError *error)
{
    if (g_error_matches(error, FORE_ERROR, FORE_ERROR_TIMEOUT)) {
        return FORE_NODE_SILENT;
    }
    if (g_error_matches(error, FORE_ERROR, FORE_ERROR_CLOSED) ||
        g_error_matches(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE)) {
        return FORE_NODE_UNREACHABLE;
    }
    return FORE_NODE_ATTESTER;
}

static bool clock_is_later(const ForeTpmClock *a, const ForeTpmClock *b)
{
    if (a->reset_count != b->reset_count) {
        return a->reset_count > b->reset_count;
    }
    if (a->restart_count != b->restart_count) {
        return a->restart_count > b->restart_count;
    }
    return a->clock_ms > b->clock_ms;
}

bool fore_pam_note(ForeRecord *record, const ForeNodeResult *result, uint32_t mask)
{
    bool failed = result->verdict == FORE_VERDICT_CONTRAINDICATED && record->sticky[0] == '\0';

    record->verdict = result->verdict;
    g_strlcpy(record->reason, result->n_reasons > 0 ? result->reasons[0] : "",
              sizeof(record->reason));
    if (result->quoted) {
        /* runs overlap: the clock of one that began earlier must not take a later one's back */
        if (!record->has_clock || clock_is_later(&result->info.clock, &record->clock)) {
            record->clock = result->info.clock;
            record->clock.clock_ms = MIN(record->clock.clock_ms, (uint64_t)INT64_MAX);
            record->has_clock = true;
        }
        record->proved = true;
        record->proved_us = g_get_monotonic_time();
        record->pcr_mask = mask;
        memcpy(record->pcrs, result->pcrs, sizeof(record->pcrs));
    }
    if (failed) {
        g_strlcpy(record->sticky, result->reasons[0], sizeof(record->sticky));
        g_warning("%s '%s' failed attestation: %s; it stays refused until an operator releases it",
                  fore_role_names[record->role], record->name, record->sticky);
    }
    return failed;
}

/* --- alarms --- */

void fore_pam_alarm(ForePam *pam, const char *what, const char *why)
{
    ForeChange change = {.what = "alarm", .id = what, .peer = "", .detail = why};
    g_autoptr(GError) error = NULL;

    if (!g_hash_table_add(pam->alarms, g_strdup(what))) {
        return;
    }
    g_critical("ALARM %s: %s", what, why);
    for (guint i = 0; i < pam->peers->len; i++) {
        const ForePamPeer *peer = pam->peers->pdata[i];

        if (peer->pin[0] != '\0') {
            fore_wire_event(peer->wire, "ALARM", json_pack("{s:s, s:s}", "what", what, "why", why));
        }
    }
    if (!fore_inventory_save(pam->inventory, &change, &error)) {
        g_warning("cannot record the alarm: %s", error->message);
    }
}

void fore_pam_calm(ForePam *pam, const char *what)
{
    ForeChange change = {.what = "alarm-over", .id = what, .peer = "", .detail = ""};

    if (g_hash_table_remove(pam->alarms, what)) {
        g_message("alarm %s is over", what);
        fore_inventory_save(pam->inventory, &change, NULL);
    }
}

/* --- start and stop --- */

void fore_pam_keys_done(ForePamKeys *keys)
{
    g_clear_pointer(&keys->channel, fore_identity_free);
    g_clear_pointer(&keys->signing, fore_key_free);
    g_clear_pointer(&keys->next, fore_key_free);
}

static ForeKey *open_key(const ForePamConfig *config, const char *where, GError **error)
{
    ForeKeyConfig key = {
        .where = where,
        .state_dir = config->state_dir,
        .pkcs11_module = config->pkcs11_module,
        .tcti = config->tcti,
        .allow_file = config->insecure_software_key,
    };

    return fore_key_open(&key, error);
}

bool fore_pam_prepare(const ForePamConfig *config, ForePamKeys *ret, GError **error)
{
    g_autofree char *channel = g_build_filename(config->state_dir, "channel-key.pem", NULL);
    ForePamKeys keys = {NULL, NULL, NULL};

    if (g_mkdir_with_parents(config->state_dir, 0700) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot make '%s': %s",
                    config->state_dir, g_strerror(errno));
        return false;
    }
    keys.channel = fore_identity_load_or_create(channel, config->name, error);
    keys.signing = keys.channel != NULL ? open_key(config, config->signing_key, error) : NULL;
    if (keys.signing != NULL && config->next_signing_key != NULL) {
        keys.next = open_key(config, config->next_signing_key, error);
    }
    if (keys.signing == NULL || (config->next_signing_key != NULL && keys.next == NULL)) {
        fore_pam_keys_done(&keys);
        return false;
    }
    *ret = keys;
    return true;
}

static bool take_lock(ForePam *pam, GError **error)
{
    g_autofree char *path = g_build_filename(pam->config->state_dir, "lock", NULL);

    pam->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (pam->lock_fd < 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot open '%s': %s", path,
                    g_strerror(errno));
        return false;
    }
    if (flock(pam->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_EXISTS,
                    "foresee-pam is already running with the state folder '%s'",
                    pam->config->state_dir);
        return false;
    }
    return true;
}

/* The stored manifest is verified again: the disk is not a reason to trust it. */
static bool load_reference(ForePam *pam, GError **error)
{
    const char *jws = fore_inventory_reference(pam->inventory);

    if (pam->config->policy_key != NULL) {
        pam->policy_key = fore_key_load_public(pam->config->policy_key, error);
        if (pam->policy_key == NULL) {
            return false;
        }
    }
    if (jws == NULL || pam->policy_key == NULL) {
        pam->rules = fore_rules_compile(NULL, error);
        return true;
    }
    pam->reference = fore_reference_verify(jws, pam->policy_key, error);
    pam->rules = pam->reference != NULL ? fore_rules_compile(pam->reference, error) : NULL;
    if (pam->rules == NULL) {
        g_prefix_error(
            error, "stored reference values do not fit policy-key '%s': ", pam->config->policy_key);
        return false;
    }
    return true;
}

static bool load_snp_roots(ForePam *pam, GError **error)
{
    g_autofree char *pem = NULL;
    g_autoptr(GError) why = NULL;
    gsize size;

    if (pam->config->snp_ca == NULL) {
        return true;
    }
    if (!g_file_get_contents(pam->config->snp_ca, &pem, &size, &why)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "%s", why->message);
        return false;
    }
    pam->snp_roots = fore_snp_roots_new(pem, size, error);
    if (pam->snp_roots == NULL) {
        g_prefix_error(error, "%s: ", pam->config->snp_ca);
    }
    return pam->snp_roots != NULL;
}

static bool open_state(ForePam *pam, GError **error)
{
    g_autofree char *note = NULL;

    if (!take_lock(pam, error)) {
        return false;
    }
    pam->inventory = fore_inventory_open(pam->config->state_dir, pam->config->tcti, &note, error);
    if (pam->inventory == NULL) {
        return false;
    }
    if (note != NULL) {
        g_warning("after a crash: %s", note);
    }
    pam->anchors = fore_pam_anchors_load(pam->config, error);
    return pam->anchors != NULL && load_snp_roots(pam, error) && load_reference(pam, error) &&
           fore_pam_anchor_start(pam, error);
}

ForePam *fore_pam_new(GMainContext *context, const ForePamConfig *config, const ForePamKeys *keys,
                      GError **error)
{
    g_autoptr(ForePam) pam = g_new0(ForePam, 1);

    pam->context = g_main_context_ref(context);
    pam->config = config;
    pam->keys = keys;
    pam->lock_fd = -1;
    pam->alarms = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    pam->signer = fore_signer_new(context);
    fore_pam_peers_init(pam);
    pam->epoch = (uint64_t)g_get_real_time();
    fore_pam_run_init(pam);
    fore_pam_enroll_init(pam);
    fore_pam_admin_init(pam);
    if (!open_state(pam, error)) {
        return NULL;
    }
    return fore_pam_listen(pam, error) ? g_steal_pointer(&pam) : NULL;
}

void fore_pam_free(ForePam *pam)
{
    if (pam == NULL) {
        return;
    }
    fore_pam_peers_done(pam);
    fore_pam_run_done(pam);
    fore_pam_enroll_done(pam);
    fore_pam_admin_done(pam);
    fore_pam_anchors_free(pam->anchors);
    fore_signer_free(pam->signer);
    fore_pam_anchor_stop(pam);
    fore_rules_free(pam->rules);
    fore_snp_roots_free(pam->snp_roots);
    fore_reference_free(pam->reference);
    g_hash_table_unref(pam->alarms);
    EVP_PKEY_free(pam->policy_key);
    fore_inventory_close(pam->inventory);
    if (pam->lock_fd >= 0) {
        close(pam->lock_fd);
    }
    g_main_context_unref(pam->context);
    g_free(pam);
}
