/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  A peer's key, proved by TLS, is looked up among the pinned ones and decides what
 * it may do; there is no other credential.  Every command is one row of a table.  Commands that
 * wait for attesters keep their call and the peer's pin, never the peer itself, which may be gone
 * by then.
 */
#include "vtpm/pam/fore-pam.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <openssl/rand.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fore-bytes.h"
#include "vtpm/pam/fore-pam-internal.h"

#define MAX_PEERS     256
#define MAX_PEERS_NEW 64 /* of these, still without a proved key */

typedef enum { AGENT = 1, OPERATOR = 2, BOTH = 3 } Who;

static const struct {
    const char *name;
    Who who;
    ForePamHandler handler;
} commands[] = {
    {"query-nodes", BOTH, fore_pam_query_nodes},
    {"enroll-node", OPERATOR, fore_pam_enroll_node},
    {"enroll-vm", BOTH, fore_pam_enroll_vm},
    {"activate-vm", BOTH, fore_pam_activate_vm},
    {"begin", AGENT, fore_pam_begin},
    {"finish", AGENT, fore_pam_finish},
    {"learn", OPERATOR, fore_pam_learn},
    {"set-reference", OPERATOR, fore_pam_set_reference},
    {"release", OPERATOR, fore_pam_release},
    {"forget", OPERATOR, fore_pam_forget},
};

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

bool fore_pam_pin_is_valid(const char *text)
{
    return strlen(text) == FORE_PIN_HEX && strspn(text, "0123456789abcdef") == FORE_PIN_HEX;
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

    return policy | fore_reference_mask(pam->reference, subject, id);
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

/* --- peers --- */

static void peer_free(gpointer data)
{
    ForePamPeer *peer = data;

    fore_wire_free(peer->wire);
    g_free(peer);
}

static void on_peer_ready(ForeWire *wire, gpointer data)
{
    ForePamPeer *peer = data;
    const char *pin = fore_channel_peer_pin(fore_wire_channel(wire));

    g_assert(pin != NULL);
    g_strlcpy(peer->pin, pin, sizeof(peer->pin));
    peer->is_operator = g_strv_contains((const char *const *)peer->pam->config->operator_pins, pin);
}

static void on_peer_command(ForeWire *wire, ForeCall *call, gpointer data)
{
    ForePamPeer *peer = data;
    Who who = peer->is_operator ? OPERATOR : AGENT;

    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, fore_call_command(call)) != 0) {
            continue;
        }
        if ((commands[i].who & who) == 0) {
            fore_pam_fail(call, FORE_ERROR_UNTRUSTED, "'%s' is for %s; this key is an %s's",
                          commands[i].name, who == AGENT ? "operators" : "agents",
                          who == AGENT ? "agent" : "operator");
            return;
        }
        commands[i].handler(peer->pam, peer, call);
        return;
    }
    fore_pam_fail(call, FORE_ERROR_NOT_FOUND, "no command '%.64s'; see foresee-pam(8)",
                  fore_call_command(call));
}

static void on_peer_closed(ForeWire *wire, const GError *why, gpointer data)
{
    ForePamPeer *peer = data;

    if (why != NULL && !g_error_matches(why, FORE_ERROR, FORE_ERROR_CLOSED)) {
        g_message("peer %.16s dropped: %s", peer->pin[0] != '\0' ? peer->pin : "(unknown)",
                  why->message);
    }
    g_ptr_array_remove_fast(peer->pam->peers, peer);
}

static const ForeWireOps wire_ops = {
    .on_ready = on_peer_ready,
    .on_command = on_peer_command,
    .on_closed = on_peer_closed,
};

/* Strangers who only hold connections open must not keep pinned peers out. */
static bool has_room(const ForePam *pam)
{
    unsigned strangers = 0;

    for (guint i = 0; i < pam->peers->len; i++) {
        const ForePamPeer *peer = pam->peers->pdata[i];
        strangers += peer->pin[0] == '\0';
    }
    return pam->peers->len < MAX_PEERS && strangers < MAX_PEERS_NEW;
}

static gboolean on_accept(gint fd, GIOCondition condition, gpointer data)
{
    ForePam *pam = data;
    ForeChannelConfig channel = {
        .mode = FORE_CHANNEL_TLS_SERVER,
        .identity = pam->keys->channel,
        .pins = pam->all_pins,
    };
    ForeWireConfig wire = {.json = fore_json_limits_peer,
                           .max_per_second = pam->config->max_per_second};
    int peer_fd = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    ForePamPeer *peer;

    if (peer_fd < 0) {
        return G_SOURCE_CONTINUE;
    }
    if (!has_room(pam)) {
        close(peer_fd);
        return G_SOURCE_CONTINUE;
    }
    peer = g_new0(ForePamPeer, 1);
    peer->pam = pam;
    g_ptr_array_add(pam->peers, peer);
    peer->wire =
        fore_wire_new(pam->context, peer_fd, &channel, FORE_WIRE_SERVER, &wire, &wire_ops, peer);
    return G_SOURCE_CONTINUE;
}

/* --- start and stop --- */

void fore_pam_keys_done(ForePamKeys *keys)
{
    g_clear_pointer(&keys->channel, fore_identity_free);
    g_clear_pointer(&keys->signing, fore_identity_free);
}

bool fore_pam_prepare(const ForePamConfig *config, ForePamKeys *ret, GError **error)
{
    g_autofree char *channel = g_build_filename(config->state_dir, "channel-key.pem", NULL);
    g_autofree char *signing = g_build_filename(config->state_dir, "signing-key.pem", NULL);
    ForePamKeys keys = {NULL, NULL};

    if (g_mkdir_with_parents(config->state_dir, 0700) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot make '%s': %s",
                    config->state_dir, g_strerror(errno));
        return false;
    }
    keys.channel = fore_identity_load_or_create(channel, config->name, error);
    keys.signing =
        keys.channel != NULL ? fore_identity_load_or_create(signing, config->name, error) : NULL;
    if (keys.signing == NULL) {
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
        return true;
    }
    pam->reference = fore_reference_verify(jws, pam->policy_key, error);
    if (pam->reference == NULL) {
        g_prefix_error(
            error, "stored reference values do not fit policy-key '%s': ", pam->config->policy_key);
        return false;
    }
    return true;
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
    return pam->anchors != NULL && load_reference(pam, error);
}

static const char **join_pins(const ForePamConfig *config)
{
    GPtrArray *pins = g_ptr_array_new();

    for (unsigned i = 0; config->agent_pins[i] != NULL; i++) {
        g_ptr_array_add(pins, config->agent_pins[i]);
    }
    for (unsigned i = 0; config->operator_pins[i] != NULL; i++) {
        g_ptr_array_add(pins, config->operator_pins[i]);
    }
    g_ptr_array_add(pins, NULL);
    return (const char **)g_ptr_array_free(pins, FALSE);
}

ForePam *fore_pam_new(GMainContext *context, const ForePamConfig *config, const ForePamKeys *keys,
                      GError **error)
{
    g_autoptr(ForePam) pam = g_new0(ForePam, 1);

    pam->context = g_main_context_ref(context);
    pam->config = config;
    pam->keys = keys;
    pam->lock_fd = -1;
    pam->fd = -1;
    pam->peers = g_ptr_array_new_with_free_func(peer_free);
    pam->all_pins = join_pins(config);
    pam->epoch = (uint64_t)g_get_real_time();
    fore_pam_run_init(pam);
    fore_pam_enroll_init(pam);
    fore_pam_admin_init(pam);
    if (!open_state(pam, error)) {
        return NULL;
    }
    pam->fd = fore_listen(config->listen, error);
    if (pam->fd < 0) {
        return NULL;
    }
    pam->accept = g_unix_fd_source_new(pam->fd, G_IO_IN);
    g_source_set_callback(pam->accept, G_SOURCE_FUNC(on_accept), pam, NULL);
    g_source_attach(pam->accept, context);
    return g_steal_pointer(&pam);
}

void fore_pam_free(ForePam *pam)
{
    if (pam == NULL) {
        return;
    }
    if (pam->accept != NULL) {
        g_source_destroy(pam->accept);
        g_source_unref(pam->accept);
    }
    if (pam->fd >= 0) {
        close(pam->fd);
    }
    g_ptr_array_unref(pam->peers);
    fore_pam_run_done(pam);
    fore_pam_enroll_done(pam);
    fore_pam_admin_done(pam);
    fore_pam_anchors_free(pam->anchors);
    fore_reference_free(pam->reference);
    EVP_PKEY_free(pam->policy_key);
    fore_inventory_close(pam->inventory);
    if (pam->lock_fd >= 0) {
        close(pam->lock_fd);
    }
    g_free(pam->all_pins);
    g_main_context_unref(pam->context);
    g_free(pam);
}
