/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the files of `foresee store` share. */
#include "qmp-agent/foresee-cli.h"

typedef struct {
    ForeCli *cli;
    ForeClient *client; /* foreseed, or foresee-store for a file */
    /* options */
    char *db, *config, *key_file, *vm, *vm_label, *source, *metric, *tier, *from, *to, *out,
        *format;
    gboolean full, expire, create;
} ForeStoreCli;

/** fore_store_cli_call: the answer (transfer full), or NULL with the error printed */
json_t *fore_store_cli_call(ForeStoreCli *store, const char *command, json_t *arguments);
/** fore_store_cli_bar: progress on stderr when that is a terminal; @done: the line is over */
void fore_store_cli_bar(const char *what, double progress, bool done);

int fore_store_cli_export(ForeStoreCli *store);
int fore_store_cli_import(ForeStoreCli *store, char **files);
