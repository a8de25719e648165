/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foresee(1): picks the command; each command is a file of its own. */
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/fore-error.h"
#include "qmp-agent/foresee-cli.h"

/* @has_options: the command parses options, --help among them, itself. */
static const struct {
    const char *name;
    ForeCliCommand run;
    bool has_options;
    const char *help;
} commands[] = {
    {"vm", fore_cli_vm, false,
     "  vm list                          VMs, their mode, state and capacity\n"
     "  vm show NAME                     everything known about one\n"
     "  vm args NAME --uuid UUID         QEMU arguments that attach a VM (profiler, SEA port, "
     "QMP)\n"
     "  vm add NAME --uuid U [--dir DIR | --qmp P --page P --sea P] [KEY=VALUE...]\n"
     "  vm set NAME KEY=VALUE...         policy: mode=observe|recommend|enforce, max-vcpus=8, ...\n"
     "  vm enroll NAME NODE...           enrol the VM's vTPM and the nodes of its pathway\n"
     "  vm remove NAME                   forget it; the guest keeps what it has\n"},
    {"forecast", fore_cli_forecast, false,
     "  forecast NAME                    demand to come, as quantiles\n"},
    {"attest", fore_cli_attest, false,
     "  attest NAME [--last]             attest the pathway now, or show the newest verdict\n"},
    {"ledger", fore_cli_ledger, false,
     "  ledger [NAME]                    promises and how far they got\n"},
    {"events", fore_cli_events, true,
     "  events [-f] [--after ID]         what happened; -f follows what happens\n"},
    {"page", fore_cli_page, true,
     "  page [NAME | --file PATH]        what it executes, live; --once, --csv, --json\n"},
    {"anomaly", fore_cli_anomaly, false,
     "  anomaly score --in FILE --out FILE   score timestamp,value lines as a stream; --dir, "
     "--explain\n"
     "  anomaly list [VM] [--since TIME | --last-night]   what was recorded; --min-score, "
     "--until\n"},
    {"explain", fore_cli_explain, false,
     "  explain NAME                     the terms of the newest decision\n"},
    {"train", fore_cli_train, true,
     "  train [NAME] [--epochs N] [--seed N]   train on the recorded history\n"
     "  train --resume                   go on with a training that was cut short\n"
     "  train --data DIR --out FILE      learn from recorded traces; no daemon needed\n"},
    {"backtest", fore_cli_backtest, true,
     "  backtest --split DIR --out FC.csv      forecast recorded traces; no daemon needed\n"},
    {"plot", fore_cli_plot, true,
     "  plot VM|FILE [-o SVG] [--ahead N] [--last S]   picture: actual, median, P5-P95, "
     "anomalies\n"},
    {"store", fore_cli_store, true,
     "  store stats | verify | vacuum | rekey | export | import [--db FILE]   the history\n"},
    {"status", fore_cli_status, false,
     "  status                           the daemon, its store, model and PAM\n"},
    {"doctor", fore_cli_doctor, false,
     "  doctor                           look at this machine and say what is missing\n"},
    {"pam", fore_cli_pam, false,
     "  pam pin | nodes | enroll-node | learn | set-reference | release | forget | assign | "
     "revoke\n"
     "                                   operate the PAM\n"},
    {"policy", fore_cli_policy, true,
     "  policy check|sign|show FILE, policy learn vm|node ID   reference manifests\n"},
    {"audit", fore_cli_audit, true,
     "  audit verify [--dir DIR]         is the PAM's audit log whole?\n"},
};

static char *describe(void)
{
    GString *text = g_string_new("Commands:\n");

    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        g_string_append(text, commands[i].help);
    }
    g_string_append(text, "\n'foresee COMMAND --help' says more. See foresee(1).\n");
    return g_string_free(text, FALSE);
}

static int run_command(ForeCli *cli, int argc, char **argv)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(argv[0], commands[i].name) != 0) {
            continue;
        }
        if (!commands[i].has_options && argc == 2 &&
            (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
            printf("Usage: foresee [OPTION...] COMMAND\n\n%s\nSee foresee(1).\n", commands[i].help);
            return CLI_OK;
        }
        g_autofree char *name = g_strdup_printf("foresee %s", commands[i].name);
        g_set_prgname(name); /* what --help of a command begins with */
        return commands[i].run(cli, argc, argv);
    }
    return fore_cli_usage("unknown command '%s'", argv[0]);
}

int fore_cli_usage(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("foresee: ", stderr);
    vfprintf(stderr, format, args);
    fputs("; see 'foresee --help'\n", stderr);
    va_end(args);
    return CLI_USAGE;
}

ForeClient *fore_cli_connect(ForeCli *cli)
{
    g_autoptr(GError) error = NULL;
    ForeClient *client = fore_client_new(cli->socket, NULL, 3000, &error);

    if (client == NULL) {
        fprintf(stderr, "foresee: foreseed does not answer: %s\n", error->message);
        fprintf(stderr, "foresee: is it running? start it with: foreseed --config FILE\n");
    }
    return client;
}

json_t *fore_cli_call(ForeCli *cli, const char *command, json_t *arguments, unsigned timeout_ms,
                      int *ret_code)
{
    g_autoptr(ForeClient) client = fore_cli_connect(cli);
    g_autoptr(GError) error = NULL;
    json_t *ret;

    if (client == NULL) {
        json_decref(arguments);
        *ret_code = CLI_UNREACHABLE;
        return NULL;
    }
    ret = fore_client_call(client, command, arguments, timeout_ms, &error);
    *ret_code = ret != NULL ? CLI_OK : CLI_FAILED;
    if (ret == NULL) {
        fprintf(stderr, "foresee: %s\n", error->message);
    }
    return ret;
}

void fore_cli_print_json(const json_t *value)
{
    json_dumpf(value, stdout, JSON_INDENT(2));
    putchar('\n');
}

int fore_cli_run(ForeCli *cli, const char *command, json_t *arguments)
{
    int code;
    g_autoptr(json_t) ret = fore_cli_call(cli, command, arguments, 30000, &code);

    if (ret != NULL && cli->json) {
        fore_cli_print_json(ret);
    }
    return code;
}

json_t *fore_cli_settings(char **texts)
{
    json_t *settings = json_object();

    for (; texts != NULL && *texts != NULL; texts++) {
        char *eq = strchr(*texts, '=');
        g_autofree char *key = eq != NULL ? g_strndup(*texts, (gsize)(eq - *texts)) : NULL;
        if (key == NULL) {
            fore_cli_usage("'%s' must read KEY=VALUE", *texts);
            json_decref(settings);
            return NULL;
        }
        json_object_set_new(settings, key, json_string(eq + 1));
    }
    return settings;
}

char *fore_cli_size(double bytes)
{
    double mib = bytes / (1 << 20);

    return mib < 10240 ? g_strdup_printf("%.0f MiB", mib) : g_strdup_printf("%.1f GiB", mib / 1024);
}

int main(int argc, char **argv)
{
    ForeCli cli = {0};
    gboolean version = FALSE;
    const GOptionEntry entries[] = {
        {"socket", 's', 0, G_OPTION_ARG_STRING, &cli.socket, "Address of foreseed's control socket",
         "ADDRESS"},
        {"json", 'j', 0, G_OPTION_ARG_NONE, &cli.json, "Print JSON", NULL},
        {"pam", 0, 0, G_OPTION_ARG_STRING, &cli.pam, "Address of the PAM, for 'pam'", "ADDRESS"},
        {"pam-pin", 0, 0, G_OPTION_ARG_STRING, &cli.pam_pin, "Pin of the PAM's key, for 'pam'",
         "HEX"},
        {"identity", 0, 0, G_OPTION_ARG_FILENAME, &cli.identity, "Your operator key, for 'pam'",
         "FILE"},
        {"version", 0, 0, G_OPTION_ARG_NONE, &version, "Print the version and exit", NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) options = g_option_context_new("COMMAND [ARGUMENT...]");
    g_autoptr(GError) error = NULL;
    g_autofree char *description = describe();
    int code;

    setlocale(LC_CTYPE,
              ""); /* GLib's help has a character beyond ASCII; numbers stay as they are */
    signal(SIGPIPE, SIG_DFL);
    g_option_context_add_main_entries(options, entries, NULL);
    g_option_context_set_description(options, description);
    g_option_context_set_strict_posix(options, TRUE);
    if (!g_option_context_parse(options, &argc, &argv, &error)) {
        return fore_cli_usage("%s", error->message);
    }
    if (version) {
        printf("foresee %s\n", FORE_VERSION);
        return CLI_OK;
    }
    if (argc < 2) {
        return fore_cli_usage("no command given");
    }
    if (cli.socket == NULL) {
        const char *from_env = g_getenv("FORESEE_SOCKET");
        cli.socket = g_strdup(from_env != NULL ? from_env : "unix:/run/foresee/foreseed.sock");
    }
    code = run_command(&cli, argc - 1, argv + 1);
    g_free(cli.socket);
    g_free(cli.pam);
    g_free(cli.pam_pin);
    g_free(cli.identity);
    return code;
}
