/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Rules of a reference manifest beside plain PCR values: which events firmware may measure, which
 * files may run, which confidential guest may answer, and what follows from a verdict
 * (foresee-policy(5)).  A rule is words; they are checked when the manifest is read, and compiled
 * once into what the judges take.  Pure.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vtpm/attest/fore-evidence.h"
#include "vtpm/attest/fore-launch.h"
#include "vtpm/attest/fore-reference.h"

#define FORE_RULE_EXCLUDES 64 /* patterns of one subject: each is a blind spot */

typedef enum { FORE_ON_FAILURE_UNSET, FORE_ON_FAILURE_HOLD, FORE_ON_FAILURE_RELIEVE } ForeOnFailure;
extern const char *const fore_on_failure_names[]; /* "", "hold", "relieve-memory" */

/* What the rules of one subject come to.  Pointers live as long as the ForeRules. */
typedef struct {
    bool judged; /* evidence beyond PCR values is asked for: @evidence is in force */
    ForeEvidencePolicy evidence; /* its snp->roots and now_s are the caller's to fill */
    uint32_t mask;               /* PCRs that the rules need in the quote */
    bool wants_firmware, wants_ima, wants_snp;
    unsigned max_age_s;                /* of a verdict; 0: nothing said */
    ForeOnFailure on_failure;          /* VM only */
    char **pathway;                    /* VM only; NULL: any */
    const ForeLaunchAllowed *launches; /* VM only: what its host may have launched it with */
    size_t n_launches;                 /* 0: not asked for */
} ForeSubjectRules;

typedef struct ForeRules ForeRules;

/**
 * fore_rule_check: is this a rule?
 * @words: NULL-terminated, without subject and id: {"ima", "file", "sha256:HEX", "/bin/sh"}
 * @scope: rules of a profile name no pathway, age, failure or other profile
 * Errors: FORE_ERROR_INVALID
 */
bool fore_rule_check(ForeReferenceScope scope, char *const *words, GError **error);

/**
 * fore_rules_compile: @ref: NULL gives no rule for anybody
 * Errors: FORE_ERROR_INVALID (a profile that does not exist, a rule that contradicts another)
 */
ForeRules *fore_rules_compile(const ForeReference *ref, GError **error);
void fore_rules_free(ForeRules *rules); /* NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeRules, fore_rules_free)
/** fore_rules_of: never NULL; all zero when nothing was said */
const ForeSubjectRules *fore_rules_of(const ForeRules *rules, ForeSubject subject, const char *id);
