/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A node that is held to more than PCR values: its event log, its IMA list, its SNP report. Bridges
 * what came as JSON and in chunks to fore_evidence_judge().  Pure.
 */
#include "vtpm/attest/fore-evidence.h"
#include "vtpm/attest/fore-launch.h"
#include "vtpm/attest/fore-nvcert.h"
#include "vtpm/attest/fore-pathway.h"
#include "vtpm/attest/fore-rule.h"

typedef struct {
    const ForeSubjectRules *rules;
    const ForeSnpRoots *snp_roots; /* NULL: no report is accepted */
    int64_t now_s;                 /* UTC seconds, for certificates of a report */
    GBytes *firmware;              /* whole event log; NULL: none came */
    ForeImaSlice ima;              /* from where the state is, or earlier */
    ForeImaState *ima_state;
    const ForeTpmClock *newest; /* of the node's newest quote that held; NULL: none yet */
} ForeNodeLogs;

/**
 * fore_node_judge: ForeNodeExpect.judge
 * @data: ForeNodeLogs
 * Evidence that a newer run has overtaken is "none": its IMA state is behind what was judged.
 */
void fore_node_judge(const ForeNodeExpect *expect, const ForeNodeEvidence *evidence,
                     const json_t *json, ForeNodeResult *ret, gpointer data);

/* A hypervisor that must have launched a VM as its policy says. */
typedef struct {
    const char *vm;   /* UUID */
    uint8_t vtpm[32]; /* SHA-256 of the TPM2B_PUBLIC of the EK that was enrolled for it */
    GBytes *log;      /* launch log; NULL: none came */
    const ForeLaunchAllowed *allowed;
    size_t n_allowed;
} ForeNodeLaunch;
/** fore_node_judge_launch: ForeNodeExpect.also; @data: ForeNodeLaunch.  What is missing is "none",
 *  what is disproved "contraindicated" */
void fore_node_judge_launch(const ForeNodeExpect *expect, const ForeNodeEvidence *evidence,
                            const json_t *json, ForeNodeResult *ret, gpointer data);

/** fore_node_snp_report_data: what report_data of a guest's SNP report must be: @extra (32 bytes)
 *  and SHA-256 of the enrolled TPM2B_PUBLIC of its AK */
void fore_node_snp_report_data(GBytes *extra, GBytes *ak_public, uint8_t ret[64]);
