/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What `foresee page` shows of two readings of a profile page, and in which form. */
#include <stdio.h>

#include "common/fore-page-rates.h"
#include "common/fore-page.h"
#include "qmp-agent/foresee-cli.h"

/* One moment of one VM. */
typedef struct {
    const char *name; /* of the VM, or the page's path */
    const ForePageSnapshot *prev, *cur;
    bool has_rates;
    ForePageRates all;  /* summed over vCPUs */
    uint32_t phase;     /* 0: none is known (fore-phase.h) */
    unsigned phases;    /* known so far */
    double phase_age_s; /* since it began */
} ForeCliPage;

/** fore_cli_page_text: a screen of at most @rows lines of @columns; 0: no limit */
void fore_cli_page_text(const ForeCliPage *page, FILE *out, unsigned rows, unsigned columns);
/** fore_cli_page_csv: a line for each plugged vCPU and one for all; @head: the names first */
void fore_cli_page_csv(const ForeCliPage *page, FILE *out, bool head);
/** fore_cli_page_json: the same and more as an object (transfer full) */
json_t *fore_cli_page_json(const ForeCliPage *page);
