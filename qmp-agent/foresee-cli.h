/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the commands of foresee(1) share: options, the connection, printing, exit codes. */
#include "common/fore-wire.h"

/* Exit codes, as foresee(1) lists them. */
enum {
    CLI_OK = 0,
    CLI_FAILED = 1,      /* the answer was an error */
    CLI_USAGE = 2,       /* the command line is wrong */
    CLI_UNREACHABLE = 3, /* foreseed or the PAM does not answer */
    CLI_NOT_AFFIRMED = 4 /* attest: the verdict is not affirming; doctor: something is missing */
};

typedef struct {
    char *socket;                   /* foreseed's control address */
    char *pam, *pam_pin, *identity; /* for `foresee pam` */
    gboolean json;
} ForeCli;

/** ForeCliCommand: argv[0] is the command's own name. Returns: exit code */
typedef int (*ForeCliCommand)(ForeCli *cli, int argc, char **argv);

int fore_cli_vm(ForeCli *cli, int argc, char **argv);
int fore_cli_forecast(ForeCli *cli, int argc, char **argv);
int fore_cli_attest(ForeCli *cli, int argc, char **argv);
int fore_cli_ledger(ForeCli *cli, int argc, char **argv);
int fore_cli_events(ForeCli *cli, int argc, char **argv);
int fore_cli_explain(ForeCli *cli, int argc, char **argv);
int fore_cli_status(ForeCli *cli, int argc, char **argv);
int fore_cli_train(ForeCli *cli, int argc, char **argv);
/** fore_cli_train_series: train --data DIR --out FILE: from recorded traces, without a daemon */
int fore_cli_train_series(ForeCli *cli, int argc, char **argv);
int fore_cli_backtest(ForeCli *cli, int argc, char **argv);
int fore_cli_plot(ForeCli *cli, int argc, char **argv);
int fore_cli_doctor(ForeCli *cli, int argc, char **argv);
int fore_cli_store(ForeCli *cli, int argc, char **argv);
int fore_cli_pam(ForeCli *cli, int argc, char **argv);
int fore_cli_policy(ForeCli *cli, int argc, char **argv);
int fore_cli_audit(ForeCli *cli, int argc, char **argv);
int fore_cli_anomaly_list(ForeCli *cli, int argc, char **argv); /* of the one below */
int fore_cli_anomaly(ForeCli *cli, int argc, char **argv);
int fore_cli_page(ForeCli *cli, int argc, char **argv);

/** fore_cli_usage: prints "foresee: TEXT; see 'foresee --help'". Returns: CLI_USAGE */
int fore_cli_usage(const char *format, ...) G_GNUC_PRINTF(1, 2);
/** fore_cli_call: one command to foreseed. Returns: the answer (transfer full), or NULL with the
 * exit code in *ret_code and the error printed */
json_t *fore_cli_call(ForeCli *cli, const char *command, json_t *arguments, unsigned timeout_ms,
                      int *ret_code);
/** fore_cli_connect: NULL (error printed) when foreseed does not answer */
ForeClient *fore_cli_connect(ForeCli *cli);
/** fore_cli_print_json: indented, with a newline; takes no reference */
void fore_cli_print_json(const json_t *value);
/** fore_cli_run: call and print the answer as JSON when asked, else nothing. Returns: exit code */
int fore_cli_run(ForeCli *cli, const char *command, json_t *arguments);
/** fore_cli_settings: ["k=v", ...] to {k: v}; NULL (usage printed) when one has no '=' */
json_t *fore_cli_settings(char **texts);
/** fore_cli_size: bytes as "512 MiB" (transfer full) */
char *fore_cli_size(double bytes);

static inline const char *fore_cli_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "-";
}
static inline double fore_cli_number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}
