/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foresee pam: what an operator does at the attestation manager, over its own pinned TLS
 * connection. */
#include <stdio.h>
#include <string.h>

#include "common/fore-error.h"
#include "qmp-agent/foresee-cli.h"

#define PAM_MS 60000 /* enrolment and learning wait for TPMs */

static ForeClient *connect_pam(ForeCli *cli, ForeIdentity **ret_identity, int *ret_code)
{
    g_autoptr(GError) error = NULL;
    const char *pins[] = {cli->pam_pin, NULL};
    ForeChannelConfig channel = {.mode = FORE_CHANNEL_TLS_CLIENT, .pins = pins};
    ForeClient *client;

    if (cli->pam == NULL || cli->pam_pin == NULL || cli->identity == NULL) {
        *ret_code = fore_cli_usage("pam needs --pam ADDRESS, --pam-pin HEX (foresee-pam "
                                   "--print-pin) and --identity FILE, before 'pam'");
        return NULL;
    }
    *ret_identity = fore_identity_load_or_create(cli->identity, "operator", &error);
    if (*ret_identity == NULL) {
        fprintf(stderr, "foresee: %s\n", error->message);
        *ret_code = CLI_FAILED;
        return NULL;
    }
    channel.identity = *ret_identity;
    client = fore_client_new(cli->pam, &channel, 5000, &error);
    if (client == NULL) {
        fprintf(stderr, "foresee: the PAM does not answer: %s\n", error->message);
        fprintf(stderr, "foresee: is this operator's pin in its operator-pins? it is %s\n",
                fore_identity_pin(*ret_identity));
        *ret_code = CLI_UNREACHABLE;
    }
    return client;
}

static json_t *call_pam(ForeCli *cli, const char *command, json_t *arguments, int *ret_code)
{
    g_autoptr(ForeIdentity) identity = NULL;
    g_autoptr(ForeClient) client = connect_pam(cli, &identity, ret_code);
    g_autoptr(GError) error = NULL;
    json_t *ret;

    if (client == NULL) {
        json_decref(arguments);
        return NULL;
    }
    ret = fore_client_call(client, command, arguments, PAM_MS, &error);
    *ret_code = ret != NULL ? CLI_OK : CLI_FAILED;
    if (ret == NULL) {
        fprintf(stderr, "foresee: %s\n", error->message);
    } else if (cli->json) {
        fore_cli_print_json(ret);
    }
    return ret;
}

static int nodes(ForeCli *cli)
{
    int code;
    g_autoptr(json_t) ret = call_pam(cli, "query-nodes", NULL, &code);
    json_t *node;
    size_t i;

    if (ret == NULL || cli->json) {
        return code;
    }
    printf("%-38s %-12s %-16s %s\n", "ID", "ROLE", "STATE", "REASON");
    json_array_foreach (json_object_get(ret, "nodes"), i, node) {
        printf("%-38s %-12s %-16s %s\n", fore_cli_text(node, "id"), fore_cli_text(node, "role"),
               fore_cli_text(node, "state"), fore_cli_text(node, "reason"));
    }
    return CLI_OK;
}

static int enroll_node(ForeCli *cli, int argc, char **argv)
{
    g_autofree char *role = NULL, *address = NULL, *pin = NULL, *agent = NULL;
    json_t *arguments;
    const GOptionEntry entries[] = {
        {"role", 0, 0, G_OPTION_ARG_STRING, &role, "hypervisor, switch or storage", "ROLE"},
        {"address", 0, 0, G_OPTION_ARG_STRING, &address, "Address of its attester", "ADDRESS"},
        {"pin", 0, 0, G_OPTION_ARG_STRING, &pin, "Pin of its attester's key", "HEX"},
        {"agent", 0, 0, G_OPTION_ARG_STRING, &agent,
         "Pin of the host agent that alone enrols VMs on it", "HEX"},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("enroll-node ID");
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) ret = NULL;
    int code;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        return fore_cli_usage("%s", error->message);
    }
    if (argc != 2 || role == NULL || address == NULL || pin == NULL) {
        return fore_cli_usage("pam enroll-node needs ID, --role, --address and --pin");
    }
    arguments = json_pack("{s:s,s:s,s:s,s:s,s:s*}", "id", argv[1], "role", role, "address", address,
                          "pin", pin, "agent", agent);
    ret = call_pam(cli, "enroll-node", arguments, &code);
    if (ret != NULL && !cli->json) {
        printf("%s is enrolled; key name %s\n", argv[1], fore_cli_text(ret, "ak-name"));
    }
    return code;
}

static int learn(ForeCli *cli, const char *kind, const char *id)
{
    g_autoptr(json_t) ret = NULL;
    int code;

    if (strcmp(kind, "vm") != 0 && strcmp(kind, "node") != 0) {
        return fore_cli_usage("pam learn reads: pam learn vm UUID, or pam learn node ID");
    }
    ret = call_pam(cli, "learn", json_pack("{s:s}", kind, id), &code);
    if (ret != NULL && !cli->json) {
        fprintf(stderr,
                "foresee: this is what %s %s measures NOW; sign it only if you trust its present "
                "state\n",
                kind, id);
        fputs(fore_cli_text(ret, "reference"), stdout);
    }
    return code;
}

static int set_reference(ForeCli *cli, const char *path)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) ret = NULL;
    int code;

    if (!g_file_get_contents(path, &text, NULL, &error)) {
        fprintf(stderr, "foresee: %s\n", error->message);
        return CLI_FAILED;
    }
    ret = call_pam(cli, "set-reference", json_pack("{s:s}", "document", g_strstrip(text)), &code);
    if (ret != NULL && !cli->json) {
        printf("reference values of version %.0f are in force\n", fore_cli_number(ret, "version"));
    }
    return code;
}

static int print_own_pin(ForeCli *cli)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeIdentity) identity = NULL;

    if (cli->identity == NULL) {
        return fore_cli_usage("pam pin needs --identity FILE, before 'pam'");
    }
    identity = fore_identity_load_or_create(cli->identity, "operator", &error);
    if (identity == NULL) {
        fprintf(stderr, "foresee: %s\n", error->message);
        return CLI_FAILED;
    }
    printf("%s\n", fore_identity_pin(identity));
    return CLI_OK;
}

/* release: a failure is forgiven; forget: the enrolment itself goes, so that other keys may be
 * enrolled. */
static int by_id(ForeCli *cli, const char *command, const char *id)
{
    int code;
    g_autoptr(json_t) ret = call_pam(cli, command, json_pack("{s:s}", "id", id), &code);

    return ret != NULL ? CLI_OK : code;
}

/* A VM's new host agent, after a move. */
static int assign(ForeCli *cli, const char *id, const char *agent)
{
    int code;
    g_autoptr(json_t) ret =
        call_pam(cli, "assign", json_pack("{s:s,s:s}", "id", id, "agent", agent), &code);

    return ret != NULL ? CLI_OK : code;
}

int fore_cli_pam(ForeCli *cli, int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";

    if (strcmp(verb, "pin") == 0 && argc == 2) {
        return print_own_pin(cli);
    }
    if (strcmp(verb, "nodes") == 0 && argc == 2) {
        return nodes(cli);
    }
    if (strcmp(verb, "enroll-node") == 0) {
        return enroll_node(cli, argc - 1, argv + 1);
    }
    if (strcmp(verb, "learn") == 0 && argc == 4) {
        return learn(cli, argv[2], argv[3]);
    }
    if (strcmp(verb, "set-reference") == 0 && argc == 3) {
        return set_reference(cli, argv[2]);
    }
    if (strcmp(verb, "assign") == 0 && argc == 4) {
        return assign(cli, argv[2], argv[3]);
    }
    if (strcmp(verb, "revoke") == 0 && argc == 3) {
        return by_id(cli, verb, argv[2]);
    }
    if ((strcmp(verb, "release") == 0 || strcmp(verb, "forget") == 0) && argc == 3) {
        return by_id(cli, verb, argv[2]);
    }
    return fore_cli_usage(
        "'pam %s' is not known or has other arguments: pin, nodes, enroll-node ID ..., learn "
        "vm|node ID, set-reference FILE, release ID, forget ID, assign UUID AGENT-PIN, revoke ID",
        verb);
}
