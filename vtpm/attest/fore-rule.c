/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Each kind of rule is one row of a table: its words, and a function that puts it
 * into a builder.  Checking a rule is putting it into a builder that is thrown away, so that what
 * passes the check also compiles.  A profile is a list of rules that several subjects share; it is
 * put into the builder of each of them.
 */
#include "vtpm/attest/fore-rule.h"

#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "common/fore-flow.h"

#define PCR_MAX     15
#define KEY_MAX     8192 /* bytes of a certificate or public key */
#define AGE_MAX_S   86400
#define VENDOR_MAX  64
#define MEASURE_MAX 256

const char *const fore_on_failure_names[] = {"", "hold", "relieve-memory"};

typedef struct {
    ForeSubjectRules rules;      /* what is handed out */
    GArray *pcr_values, *events; /* ForePcrDigest */
    GArray *vendor_types;        /* uint32_t */
    GArray *measurements;        /* uint8_t[48] */
    GArray *launches;            /* ForeLaunchAllowed */
    ForeDbx *dbx;
    ForeImaPolicy *ima;
    ForeSnpPolicy snp;
    uint8_t chip_id[64], host_data[32];
    bool tolerate_violations;
    unsigned excludes;
} Builder;

struct ForeRules {
    GHashTable *of; /* "node:hv1" -> Builder */
};

static const ForeSubjectRules no_rules;

static Builder *builder_new(void)
{
    Builder *b = g_new0(Builder, 1);

    b->pcr_values = g_array_new(FALSE, FALSE, sizeof(ForePcrDigest));
    b->events = g_array_new(FALSE, FALSE, sizeof(ForePcrDigest));
    b->vendor_types = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    b->measurements = g_array_new(FALSE, FALSE, 48);
    b->launches = g_array_new(FALSE, FALSE, sizeof(ForeLaunchAllowed));
    return b;
}

static void builder_free(gpointer data)
{
    Builder *b = data;

    g_array_unref(b->pcr_values);
    g_array_unref(b->events);
    g_array_unref(b->vendor_types);
    g_array_unref(b->measurements);
    g_array_unref(b->launches);
    fore_dbx_free(b->dbx);
    fore_ima_policy_free(b->ima);
    g_strfreev(b->rules.pathway);
    g_free(b);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Builder, builder_free)

/* --- words --- */

static bool refuse(GError **error, const char *word, const char *want)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "'%.100s': want %s",
                word != NULL ? word : "(nothing)", want);
    return false;
}

static bool parse_number(const char *text, uint64_t max, uint64_t *ret)
{
    return text != NULL && g_ascii_isdigit(text[0]) && !(text[0] == '0' && text[1] != '\0') &&
           g_ascii_string_to_unsigned(text, 10, 0, max, ret, NULL);
}

/* Exactly @size bytes of lower-case or upper-case hex. */
static bool parse_hex(const char *text, uint8_t *ret, size_t size)
{
    g_autoptr(GBytes) bytes = text != NULL ? fore_hex_decode(text, size) : NULL;

    if (bytes == NULL || g_bytes_get_size(bytes) != size) {
        return false;
    }
    memcpy(ret, g_bytes_get_data(bytes, NULL), size);
    return true;
}

/* "sha256:4" */
static bool parse_pcr(const char *text, unsigned *ret, GError **error)
{
    uint64_t pcr;

    if (text == NULL || !g_str_has_prefix(text, "sha256:") ||
        !parse_number(text + strlen("sha256:"), PCR_MAX, &pcr)) {
        return refuse(error, text, "a PCR, sha256:0 to sha256:15");
    }
    *ret = (unsigned)pcr;
    return true;
}

/* "sha256:HEX", "sha384:HEX" or "sha512:HEX" */
static bool parse_digest(const char *text, uint8_t ret[64], size_t *ret_size, GError **error)
{
    static const struct {
        const char *prefix;
        size_t size;
    } kinds[] = {{"sha256:", 32}, {"sha384:", 48}, {"sha512:", 64}};

    for (unsigned i = 0; text != NULL && i < G_N_ELEMENTS(kinds); i++) {
        if (g_str_has_prefix(text, kinds[i].prefix) &&
            parse_hex(text + strlen(kinds[i].prefix), ret, kinds[i].size)) {
            *ret_size = kinds[i].size;
            return true;
        }
    }
    return refuse(error, text, "sha256:HEX, sha384:HEX or sha512:HEX");
}

/* A path is one word: blanks and what is not ASCII are written %20. */
static char *parse_path(const char *text, GError **error)
{
    char *path = text != NULL ? g_uri_unescape_string(text, NULL) : NULL;

    if (path == NULL || path[0] != '/' || strlen(path) > FORE_IMA_MAX_PATH) {
        refuse(error, text, "an absolute path, with %20 for a blank");
        g_clear_pointer(&path, g_free);
    }
    return path;
}

/* --- event log --- */

static bool apply_event(Builder *b, char *const *args, GError **error)
{
    ForePcrDigest event;
    unsigned pcr;

    if (!parse_pcr(args[0], &pcr, error)) {
        return false;
    }
    if (!parse_hex(args[1], event.digest, sizeof(event.digest))) {
        return refuse(error, args[1], "a SHA-256 value of 64 hex digits");
    }
    event.pcr = (uint8_t)pcr;
    g_array_append_val(b->events, event);
    b->rules.evidence.log.pcr_mask |= 1u << pcr;
    return true;
}

static bool apply_log_allow(Builder *b, const char *what, GError **error)
{
    ForeEventlogPolicy *log = &b->rules.evidence.log;
    const struct {
        const char *name;
        bool *flag;
    } known[] = {{"missing-separator", &log->allow_missing_separator},
                 {"duplicate-separator", &log->allow_duplicate_separator},
                 {"early-application", &log->allow_early_application},
                 {"separator-ff", &log->allow_separator_ff},
                 {"debug", &log->allow_debug}};

    for (unsigned i = 0; i < G_N_ELEMENTS(known); i++) {
        if (g_strcmp0(what, known[i].name) == 0) {
            *known[i].flag = true;
            return true;
        }
    }
    return refuse(error, what,
                  "missing-separator, duplicate-separator, early-application, separator-ff, debug");
}

static bool apply_vendor_type(Builder *b, const char *text, GError **error)
{
    guint64 type;
    uint32_t value;

    if (text == NULL || !g_str_has_prefix(text, "0x") || b->vendor_types->len >= VENDOR_MAX ||
        !g_ascii_string_to_unsigned(text + 2, 16, 1, UINT32_MAX, &type, NULL)) {
        return refuse(error, text, "an event type such as 0x80000123, at most 64 of them");
    }
    value = (uint32_t)type;
    g_array_append_val(b->vendor_types, value);
    return true;
}

static bool apply_forbid(Builder *b, const char *hex, GError **error)
{
    uint8_t digest[32];

    if (!parse_hex(hex, digest, sizeof(digest))) {
        return refuse(error, hex, "a SHA-256 value of 64 hex digits");
    }
    if (b->dbx == NULL) {
        b->dbx = fore_dbx_new();
    }
    return fore_dbx_add_digest(b->dbx, digest, error);
}

static bool apply_log_pcr(Builder *b, const char *word, GError **error)
{
    unsigned pcr;

    if (!parse_pcr(word, &pcr, error)) {
        return false;
    }
    b->rules.evidence.log.pcr_mask |= 1u << pcr;
    return true;
}

static bool apply_log(Builder *b, char *const *args, GError **error)
{
    ForeEventlogPolicy *log = &b->rules.evidence.log;

    if (strcmp(args[0], "secure-boot") == 0 && args[1] == NULL) {
        log->require_secure_boot = true;
        log->pcr_mask |= 1u << 7;
        return true;
    }
    if (strcmp(args[0], "exit-boot-services") == 0 && args[1] == NULL) {
        log->require_exit_boot_services = true;
        log->pcr_mask |= 1u << 5;
        return true;
    }
    if (strcmp(args[0], "pcr") == 0) {
        return apply_log_pcr(b, args[1], error);
    }
    if (strcmp(args[0], "allow") == 0) {
        return apply_log_allow(b, args[1], error);
    }
    if (strcmp(args[0], "vendor-type") == 0) {
        return apply_vendor_type(b, args[1], error);
    }
    if (strcmp(args[0], "forbid") == 0) {
        return apply_forbid(b, args[1], error);
    }
    return refuse(error, args[0],
                  "secure-boot, exit-boot-services, pcr sha256:N, allow WHAT, vendor-type 0xN, "
                  "forbid HEX");
}

/* --- IMA --- */

static bool apply_ima_file(Builder *b, char *const *args, GError **error)
{
    uint8_t digest[64];
    size_t size = 0;
    g_autofree char *path = NULL;
    bool any = args[2] != NULL && strcmp(args[2], "*") == 0;

    if (!parse_digest(args[1], digest, &size, error)) {
        return false;
    }
    path = any ? NULL : parse_path(args[2], error);
    return (any || path != NULL) && fore_ima_policy_allow(b->ima, path, digest, size, error);
}

static bool apply_ima_reject(Builder *b, char *const *args, GError **error)
{
    uint8_t digest[64];
    size_t size = 0;

    return parse_digest(args[1], digest, &size, error) &&
           fore_ima_policy_reject(b->ima, digest, size, error);
}

static bool apply_ima_key(Builder *b, char *const *args, GError **error)
{
    g_autoptr(GBytes) key = args[1] != NULL ? fore_b64_decode(args[1], KEY_MAX) : NULL;

    if (key == NULL) {
        return refuse(error, args[1], "a certificate or public key in base64, one word");
    }
    return fore_ima_policy_add_key(b->ima, g_bytes_get_data(key, NULL), g_bytes_get_size(key),
                                   error);
}

static bool apply_ima_buffer(Builder *b, char *const *args, GError **error)
{
    uint8_t digest[64];
    size_t size = 0;

    if (args[1] == NULL || args[2] == NULL) {
        return refuse(error, args[1], "ima buffer NAME sha256:HEX");
    }
    return parse_digest(args[2], digest, &size, error) &&
           fore_ima_policy_allow_buffer(b->ima, args[1], digest, size, error);
}

static bool apply_ima_exclude(Builder *b, char *const *args, GError **error)
{
    g_autofree char *pattern = parse_path(args[1], error);

    if (pattern == NULL) {
        return false;
    }
    if (++b->excludes > FORE_RULE_EXCLUDES) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "more than %d exclusions of one subject: list what may run instead",
                    FORE_RULE_EXCLUDES);
        return false;
    }
    return fore_ima_policy_exclude(b->ima, pattern, error);
}

static bool apply_ima(Builder *b, char *const *args, GError **error)
{
    static const struct {
        const char *verb;
        bool (*apply)(Builder *, char *const *, GError **);
        unsigned n; /* words */
    } verbs[] = {{"file", apply_ima_file, 3},
                 {"reject", apply_ima_reject, 2},
                 {"key", apply_ima_key, 2},
                 {"buffer", apply_ima_buffer, 3},
                 {"exclude", apply_ima_exclude, 2}};
    guint n = g_strv_length((char **)args);

    if (b->ima == NULL) {
        b->ima = fore_ima_policy_new();
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(verbs); i++) {
        if (strcmp(args[0], verbs[i].verb) == 0 && n == verbs[i].n) {
            return verbs[i].apply(b, args, error);
        }
    }
    if (strcmp(args[0], "tolerate-violations") == 0 && n == 1) {
        b->tolerate_violations = true;
        return true;
    }
    return refuse(error, args[0],
                  "file sha256:HEX PATH, reject sha256:HEX, key BASE64, buffer NAME sha256:HEX, "
                  "exclude PATTERN, tolerate-violations");
}

/* --- confidential guests --- */

/* "boot-loader=3" */
static bool apply_tcb(ForeSnpTcb *tcb, const char *word)
{
    const struct {
        const char *name;
        uint8_t *value;
    } parts[] = {{"fmc=", &tcb->fmc},
                 {"boot-loader=", &tcb->boot_loader},
                 {"tee=", &tcb->tee},
                 {"snp=", &tcb->snp},
                 {"microcode=", &tcb->microcode}};

    for (unsigned i = 0; i < G_N_ELEMENTS(parts); i++) {
        uint64_t value;

        if (g_str_has_prefix(word, parts[i].name) &&
            parse_number(word + strlen(parts[i].name), 255, &value)) {
            *parts[i].value = (uint8_t)value;
            return true;
        }
    }
    return false;
}

static bool apply_snp_minimum(Builder *b, char *const *args, GError **error)
{
    for (unsigned i = 1; args[i] != NULL; i++) {
        if (!apply_tcb(&b->snp.minimum, args[i])) {
            return refuse(error, args[i], "fmc=, boot-loader=, tee=, snp= or microcode= 0..255");
        }
    }
    return args[1] != NULL || refuse(error, NULL, "snp minimum boot-loader=N tee=N ...");
}

static bool apply_snp_allow(Builder *b, const char *what, GError **error)
{
    const struct {
        const char *name;
        bool *flag;
    } known[] = {{"debug", &b->snp.allow_debug},
                 {"migration", &b->snp.allow_migration},
                 {"smt", &b->snp.allow_smt},
                 {"provisional", &b->snp.allow_provisional}};

    for (unsigned i = 0; i < G_N_ELEMENTS(known); i++) {
        if (g_strcmp0(what, known[i].name) == 0) {
            *known[i].flag = true;
            return true;
        }
    }
    return refuse(error, what, "debug, migration, smt or provisional");
}

static bool apply_snp_value(Builder *b, char *const *args, GError **error)
{
    uint8_t measurement[48];
    uint64_t number;

    if (strcmp(args[0], "measurement") == 0) {
        if (!parse_hex(args[1], measurement, sizeof(measurement)) ||
            b->measurements->len >= MEASURE_MAX) {
            return refuse(error, args[1], "a launch digest of 96 hex digits, at most 256");
        }
        g_array_append_val(b->measurements, measurement);
        return true;
    }
    if (strcmp(args[0], "chip") == 0 && parse_hex(args[1], b->chip_id, sizeof(b->chip_id))) {
        b->snp.chip_id = b->chip_id;
        return true;
    }
    if (strcmp(args[0], "host-data") == 0 &&
        parse_hex(args[1], b->host_data, sizeof(b->host_data))) {
        b->snp.host_data = b->host_data;
        return true;
    }
    if (strcmp(args[0], "vmpl") == 0 && parse_number(args[1], 3, &number)) {
        b->snp.vmpl = (uint32_t)number;
        return true;
    }
    return refuse(
        error, args[0],
        "key vcek|vlek, minimum ..., measurement HEX, chip HEX, host-data HEX, vmpl 0..3, "
        "allow WHAT");
}

static bool apply_snp(Builder *b, char *const *args, GError **error)
{
    b->rules.wants_snp = true;
    if (strcmp(args[0], "minimum") == 0) {
        return apply_snp_minimum(b, args, error);
    }
    if (strcmp(args[0], "allow") == 0) {
        return apply_snp_allow(b, args[1], error);
    }
    if (strcmp(args[0], "key") == 0 && args[1] != NULL) {
        bool vlek = strcmp(args[1], "vlek") == 0;

        b->snp.signing_key = vlek ? FORE_SNP_VLEK : FORE_SNP_VCEK;
        return vlek || strcmp(args[1], "vcek") == 0 || refuse(error, args[1], "vcek or vlek");
    }
    return apply_snp_value(b, args, error);
}

/* --- what a VM's host launched --- */

/* "kernel sha256:HEX" */
static bool apply_launch(Builder *b, char *const *args, GError **error)
{
    int part = fore_launch_part_by_name(args[0]);
    ForeLaunchAllowed allowed = {.part = (ForeLaunchPart)part};

    if (part < 0 || part == FORE_LAUNCH_VTPM) {
        return refuse(error, args[0], "qemu, plugin, firmware, kernel, initrd or cmdline");
    }
    if (!g_str_has_prefix(args[1], "sha256:") ||
        !parse_hex(args[1] + strlen("sha256:"), allowed.digest, sizeof(allowed.digest))) {
        return refuse(error, args[1], "sha256:HEX, as foresee-vtpm measure prints it");
    }
    if (b->launches->len >= MEASURE_MAX) {
        return refuse(error, args[0], "at most 256 launch rules");
    }
    g_array_append_val(b->launches, allowed);
    return true;
}

/* --- what follows from a verdict --- */

static bool apply_firmware(Builder *b, char *const *args, GError **error)
{
    uint64_t value;

    if (!parse_number(args[0], INT64_MAX, &value)) {
        return refuse(error, args[0], "the lowest firmware version of the TPM, a number");
    }
    b->rules.evidence.min_firmware = value;
    return true;
}

static bool apply_age(Builder *b, char *const *args, GError **error)
{
    uint64_t seconds;

    if (!parse_number(args[0], AGE_MAX_S, &seconds) || seconds == 0) {
        return refuse(error, args[0], "seconds, 1..86400");
    }
    b->rules.max_age_s = (unsigned)seconds;
    return true;
}

static bool apply_failure(Builder *b, char *const *args, GError **error)
{
    for (ForeOnFailure f = FORE_ON_FAILURE_HOLD; f <= FORE_ON_FAILURE_RELIEVE; f++) {
        if (strcmp(args[0], fore_on_failure_names[f]) == 0) {
            b->rules.on_failure = f;
            return true;
        }
    }
    return refuse(error, args[0], "hold or relieve-memory");
}

static bool apply_pathway(Builder *b, char *const *args, GError **error)
{
    guint n = g_strv_length((char **)args);

    for (guint i = 0; i < n; i++) {
        if (n > FORE_PATHWAY_MAX || !fore_name_is_valid(args[i])) {
            return refuse(error, args[i], "1..8 node ids");
        }
    }
    if (b->rules.pathway != NULL) {
        return refuse(error, args[0], "one pathway rule");
    }
    b->rules.pathway = g_strdupv((char **)args);
    return true;
}

static bool apply_profile(Builder *b, char *const *args, GError **error)
{
    return fore_name_is_valid(args[0]) || refuse(error, args[0], "the name of a profile");
}

/* --- all --- */

enum { IN_NODE = 1, IN_VM = 2, IN_PROFILE = 4, IN_ALL = 7 };

static const struct {
    const char *word;
    unsigned scopes, min, max; /* where it may stand; words that follow it */
    bool (*apply)(Builder *b, char *const *args, GError **error);
} kinds[] = {
    {"event", IN_ALL, 2, 2, apply_event},
    {"log", IN_ALL, 1, 2, apply_log},
    {"ima", IN_ALL, 1, 3, apply_ima},
    {"snp", IN_ALL, 2, 6, apply_snp},
    {"launch", IN_VM | IN_PROFILE, 2, 2, apply_launch},
    {"min-firmware", IN_ALL, 1, 1, apply_firmware},
    {"max-age", IN_NODE | IN_VM, 1, 1, apply_age},
    {"on-attest-failure", IN_VM, 1, 1, apply_failure},
    {"pathway", IN_VM, 1, FORE_PATHWAY_MAX, apply_pathway},
    {"profile", IN_NODE | IN_VM, 1, 1, apply_profile},
};

static bool apply(Builder *b, ForeReferenceScope scope, char *const *words, GError **error)
{
    guint n = g_strv_length((char **)words);

    for (unsigned i = 0; n > 0 && i < G_N_ELEMENTS(kinds); i++) {
        if (strcmp(words[0], kinds[i].word) != 0) {
            continue;
        }
        if ((kinds[i].scopes >> scope & 1u) == 0) {
            return refuse(error, words[0], "a rule that may stand here; see foresee-policy(5)");
        }
        if (n - 1 < kinds[i].min || n - 1 > kinds[i].max) {
            return refuse(error, words[0], "other words after it; see foresee-policy(5)");
        }
        return kinds[i].apply(b, words + 1, error);
    }
    return refuse(error, n > 0 ? words[0] : NULL, "a rule; see foresee-policy(5)");
}

bool fore_rule_check(ForeReferenceScope scope, char *const *words, GError **error)
{
    g_autoptr(Builder) scratch = builder_new();

    return apply(scratch, scope, words, error);
}

/* --- compiling --- */

static char *key_of(ForeReferenceScope scope, const char *id)
{
    return g_strdup_printf("%s:%s", fore_reference_scope_names[scope], id);
}

static Builder *builder_of(ForeRules *rules, ForeReferenceScope scope, const char *id)
{
    g_autofree char *key = key_of(scope, id);
    Builder *b = g_hash_table_lookup(rules->of, key);

    if (b == NULL) {
        b = builder_new();
        g_hash_table_insert(rules->of, g_steal_pointer(&key), b);
    }
    return b;
}

typedef struct {
    const ForeReference *ref;
    ForeRules *rules;
    GError **error;
    Builder *into;       /* a profile is being put into this one */
    const char *profile; /* its name */
    unsigned taken;
} Compile;

static bool take_rule(ForeReferenceScope scope, const char *id, char *const *words, gpointer data);

static bool take_profile(ForeReferenceScope scope, const char *id, char *const *words,
                         gpointer data)
{
    Compile *c = data;

    if (scope != FORE_SCOPE_PROFILE || strcmp(id, c->profile) != 0) {
        return true;
    }
    c->taken++;
    return apply(c->into, scope, words, c->error);
}

static bool take_rule(ForeReferenceScope scope, const char *id, char *const *words, gpointer data)
{
    Compile *c = data;
    Builder *b;

    if (scope == FORE_SCOPE_PROFILE) {
        return true;
    }
    b = builder_of(c->rules, scope, id);
    if (strcmp(words[0], "profile") == 0) {
        Compile inner = {c->ref, c->rules, c->error, b, words[1], 0};

        if (!fore_reference_each_rule(c->ref, take_profile, &inner)) {
            return false;
        }
        return inner.taken > 0 || refuse(c->error, words[1], "a profile that has rules");
    }
    return apply(b, scope, words, c->error);
}

static void take_value(ForeSubject subject, const char *id, unsigned pcr, const uint8_t digest[32],
                       gpointer data)
{
    ForeRules *rules = data;
    Builder *b = builder_of(rules, (ForeReferenceScope)subject, id);
    ForePcrDigest value = {.pcr = (uint8_t)pcr};

    memcpy(value.digest, digest, sizeof(value.digest));
    g_array_append_val(b->pcr_values, value);
}

static uint32_t values_mask(const GArray *values)
{
    uint32_t mask = 0;

    for (guint i = 0; i < values->len; i++) {
        mask |= 1u << g_array_index(values, ForePcrDigest, i).pcr;
    }
    return mask;
}

/* Pointers and masks, once nothing is added any more. */
static void settle(Builder *b)
{
    ForeSubjectRules *r = &b->rules;
    ForeEvidencePolicy *e = &r->evidence;

    g_array_sort(b->events, fore_pcr_digest_compare);
    g_array_sort(b->pcr_values, fore_pcr_digest_compare);
    e->pcr_values = (const ForePcrDigest *)(void *)b->pcr_values->data;
    e->n_pcr_values = b->pcr_values->len;
    e->use_log = e->log.pcr_mask != 0;
    e->log.events = (const ForePcrDigest *)(void *)b->events->data;
    e->log.n_events = b->events->len;
    e->log.vendor_types = (const uint32_t *)(void *)b->vendor_types->data;
    e->log.n_vendor_types = b->vendor_types->len;
    e->log.dbx = b->dbx;
    if (b->ima != NULL) {
        fore_ima_policy_set(b->ima, b->tolerate_violations, 0);
        e->ima = b->ima;
    }
    b->snp.measurements = (const uint8_t(*)[48])(void *)b->measurements->data;
    b->snp.n_measurements = b->measurements->len;
    e->snp = r->wants_snp ? &b->snp : NULL;
    r->launches = (const ForeLaunchAllowed *)(void *)b->launches->data;
    r->n_launches = b->launches->len;
    r->wants_firmware = e->use_log;
    r->wants_ima = b->ima != NULL;
    r->judged = r->wants_firmware || r->wants_ima || r->wants_snp || r->evidence.min_firmware != 0;
    /* the IMA list begins with an aggregate of PCRs 0 to 9 */
    r->mask = values_mask(b->pcr_values) | e->log.pcr_mask | (r->wants_ima ? 0x7ffu : 0);
}

ForeRules *fore_rules_compile(const ForeReference *ref, GError **error)
{
    g_autoptr(ForeRules) rules = g_new0(ForeRules, 1);
    Compile c = {.ref = ref, .rules = rules, .error = error};
    GHashTableIter iter;
    gpointer value;

    rules->of = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, builder_free);
    if (ref == NULL) {
        return g_steal_pointer(&rules);
    }
    fore_reference_each_value(ref, take_value, rules);
    if (!fore_reference_each_rule(ref, take_rule, &c)) {
        return NULL;
    }
    g_hash_table_iter_init(&iter, rules->of);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        settle(value);
    }
    return g_steal_pointer(&rules);
}

void fore_rules_free(ForeRules *rules)
{
    if (rules != NULL) {
        g_hash_table_unref(rules->of);
        g_free(rules);
    }
}

const ForeSubjectRules *fore_rules_of(const ForeRules *rules, ForeSubject subject, const char *id)
{
    g_autofree char *key = key_of((ForeReferenceScope)subject, id);
    const Builder *b = rules != NULL ? g_hash_table_lookup(rules->of, key) : NULL;

    return b != NULL ? &b->rules : &no_rules;
}
