/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  A peer's key, proved by TLS, is looked up among the pinned ones and decides what
 * it may do; there is no other credential.  Every command is one row of a table.  Before a command
 * is looked at it is counted against its key, whatever number of connections that key has.
 * Commands that wait for attesters keep their call and the peer's pin, never the peer itself, which
 * may be gone by then.
 */
#include <glib-unix.h>
#include <string.h>
#include <unistd.h>

#include "vtpm/pam/fore-pam-internal.h"

#define MAX_PEERS     256
#define MAX_PEERS_NEW 64 /* of these, still without a proved key */
#define MAX_PEERS_PIN 16 /* connections of one key */
#define KEY_SHARE                                                                                  \
    4 /* a connection is slowed at max-per-second; a key is refused past this many                 \
         connections' worth */

typedef enum { AGENT = 1, OPERATOR = 2, BOTH = 3 } Who;

static const struct {
    const char *name;
    Who who;
    ForePamHandler handler;
    ForePamCost cost;
} commands[] = {
    {"query-nodes", BOTH, fore_pam_query_nodes, FORE_PAM_COMMAND},
    {"enroll-node", OPERATOR, fore_pam_enroll_node, FORE_PAM_ENROLMENT},
    {"enroll-vm", BOTH, fore_pam_enroll_vm, FORE_PAM_ENROLMENT},
    {"activate-vm", BOTH, fore_pam_activate_vm, FORE_PAM_COMMAND},
    {"begin", AGENT, fore_pam_begin, FORE_PAM_COMMAND},
    {"evidence-log", AGENT, fore_pam_evidence_log, FORE_PAM_COMMAND},
    {"finish", AGENT, fore_pam_finish, FORE_PAM_COMMAND},
    {"learn", OPERATOR, fore_pam_learn, FORE_PAM_COMMAND},
    {"set-reference", OPERATOR, fore_pam_set_reference, FORE_PAM_COMMAND},
    {"release", OPERATOR, fore_pam_release, FORE_PAM_COMMAND},
    {"forget", OPERATOR, fore_pam_forget, FORE_PAM_COMMAND},
    {"revoke", OPERATOR, fore_pam_revoke, FORE_PAM_COMMAND},
    {"assign", OPERATOR, fore_pam_assign, FORE_PAM_COMMAND},
};

static void peer_free(gpointer data)
{
    ForePamPeer *peer = data;

    fore_wire_free(peer->wire);
    g_free(peer);
}

static unsigned connections_of(const ForePam *pam, const char *pin)
{
    unsigned n = 0;

    for (guint i = 0; i < pam->peers->len; i++) {
        n += strcmp(((const ForePamPeer *)pam->peers->pdata[i])->pin, pin) == 0;
    }
    return n;
}

static void on_peer_ready(ForeWire *wire, gpointer data)
{
    ForePamPeer *peer = data;
    const char *pin = fore_channel_peer_pin(fore_wire_channel(wire));

    g_assert(pin != NULL);
    g_strlcpy(peer->pin, pin, sizeof(peer->pin));
    peer->is_operator = g_strv_contains((const char *const *)peer->pam->config->operator_pins, pin);
    if (connections_of(peer->pam, pin) > MAX_PEERS_PIN) {
        g_autoptr(GError) why = g_error_new(FORE_ERROR, FORE_ERROR_LIMIT,
                                            "more than %d connections of one key", MAX_PEERS_PIN);
        fore_wire_drop(wire, why); /* @peer is gone */
    }
}

static bool may_spend(ForePamPeer *peer, ForePamCost cost, ForeCall *call)
{
    const ForePamConfig *config = peer->pam->config;

    if (!fore_pam_limit_take(peer->pam->limit, peer->pin, cost, g_get_monotonic_time())) {
        fore_pam_fail(call, FORE_ERROR_LIMIT,
                      cost == FORE_PAM_ENROLMENT
                          ? "this key asks for more than %u enrolments a minute; wait"
                          : "this key sends more than %u commands a second; wait",
                      cost == FORE_PAM_ENROLMENT ? config->max_enrolments
                                                 : KEY_SHARE * config->max_per_second);
        return false;
    }
    return true;
}

static void on_peer_command(ForeWire *wire, ForeCall *call, gpointer data)
{
    ForePamPeer *peer = data;
    Who who = peer->is_operator ? OPERATOR : AGENT;

    if (!may_spend(peer, FORE_PAM_COMMAND, call)) {
        return;
    }
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
        if (commands[i].cost == FORE_PAM_COMMAND || may_spend(peer, commands[i].cost, call)) {
            commands[i].handler(peer->pam, peer, call);
        }
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
    return pam->peers->len < MAX_PEERS && connections_of(pam, "") < MAX_PEERS_NEW;
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
    int peer_fd = fore_accept(&pam->acceptor, fd);
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

void fore_pam_peers_init(ForePam *pam)
{
    pam->fd = -1;
    pam->peers = g_ptr_array_new_with_free_func(peer_free);
    pam->all_pins = join_pins(pam->config);
    pam->limit =
        fore_pam_limit_new(KEY_SHARE * pam->config->max_per_second, pam->config->max_enrolments);
    fore_accept_init(&pam->acceptor);
}

bool fore_pam_listen(ForePam *pam, GError **error)
{
    pam->fd = fore_listen(pam->config->listen, error);
    if (pam->fd < 0) {
        return false;
    }
    pam->accept = g_unix_fd_source_new(pam->fd, G_IO_IN);
    g_source_set_callback(pam->accept, G_SOURCE_FUNC(on_accept), pam, NULL);
    g_source_attach(pam->accept, pam->context);
    return true;
}

void fore_pam_peers_done(ForePam *pam)
{
    if (pam->accept != NULL) {
        g_source_destroy(pam->accept);
        g_source_unref(pam->accept);
    }
    if (pam->fd >= 0) {
        close(pam->fd);
    }
    g_ptr_array_unref(pam->peers);
    fore_pam_limit_free(pam->limit);
    fore_accept_done(&pam->acceptor);
    g_free(pam->all_pins);
}
