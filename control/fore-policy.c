/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  One const table holds every key with its kind, its place in ForePolicy and its
 * range; set, get and the list of keys read that table, so that none of them can know a key the
 * others do not. Text is parsed without the locale.  A value that is refused leaves the policy as
 * it was.
 */
#include "control/fore-policy.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/fore-error.h"

const char *const fore_mode_names[] = {"observe", "recommend", "enforce"};
G_STATIC_ASSERT(G_N_ELEMENTS(fore_mode_names) == FORE_MODE_ENFORCE + 1);
static const char *const forecaster_names[] = {"lstm", "reactive", NULL};
static const char *const quantile_names[] = {"p05", "p50", "p75", "p90", "p95", NULL};
static const char *const mode_choices[] = {"observe", "recommend", "enforce", NULL};
static const char *const failure_names[] = {"hold", "relieve-memory", NULL};

#define MIB (1024.0 * 1024)
#define GIB (1024.0 * MIB)
#define SEC ((double)FORE_NS_PER_S)

typedef enum {
    KIND_CHOICE,
    KIND_BOOL_CHOICE,
    KIND_COUNT,
    KIND_BYTES,
    KIND_TIME,
    KIND_REAL,
    KIND_GAINS
} Kind;

typedef struct {
    const char *key;
    Kind kind;
    size_t offset;
    double min, max;            /* in the field's unit; a choice: first index that is allowed, - */
    const char *const *choices; /* choices only */
} Setting;

#define AT(field) offsetof(ForePolicy, field)
static const Setting settings[] = {
    {"mode", KIND_CHOICE, AT(mode), 0, 0, mode_choices},
    {"forecaster", KIND_CHOICE, AT(forecaster), 0, 0, forecaster_names},
    {"min-vcpus", KIND_COUNT, AT(min_vcpus), 1, 4096, NULL},
    {"max-vcpus", KIND_COUNT, AT(max_vcpus), 1, 4096, NULL},
    {"min-memory", KIND_BYTES, AT(min_mem_bytes), 0, 65536 * GIB, NULL},
    {"max-memory", KIND_BYTES, AT(max_mem_bytes), 0, 65536 * GIB, NULL},
    {"base-memory", KIND_BYTES, AT(base_mem_bytes), 0, 65536 * GIB, NULL},
    {"quantile", KIND_CHOICE, AT(quantile), FORE_Q50, 0, quantile_names},
    {"utilisation-vcpu", KIND_REAL, AT(utilisation[FORE_RES_VCPU]), 0.3, 1, NULL},
    {"utilisation-memory", KIND_REAL, AT(utilisation[FORE_RES_MEM]), 0.3, 1, NULL},
    {"reattest-vcpu", KIND_REAL, AT(reattest_threshold[FORE_RES_VCPU]), 0, 4096, NULL},
    {"reattest-memory", KIND_BYTES, AT(reattest_threshold[FORE_RES_MEM]), 0, 65536 * GIB, NULL},
    {"pid-vcpu", KIND_GAINS, AT(pid[FORE_RES_VCPU]), 0, 100, NULL},
    {"pid-memory", KIND_GAINS, AT(pid[FORE_RES_MEM]), 0, 100, NULL},
    {"deadband-vcpu", KIND_REAL, AT(deadband[FORE_RES_VCPU]), 0, 4096, NULL},
    {"deadband-memory", KIND_BYTES, AT(deadband[FORE_RES_MEM]), 0, 65536 * GIB, NULL},
    {"lead-min", KIND_TIME, AT(lead_min_ns), 0, 600 * SEC, NULL},
    {"shrink-hold", KIND_TIME, AT(shrink_hold_ns), 0, 86400 * SEC, NULL},
    {"cooldown", KIND_TIME, AT(cooldown_ns), 0, 3600 * SEC, NULL},
    {"denial-hold", KIND_TIME, AT(denial_hold_ns), 0.1 * SEC, 300 * SEC, NULL},
    {"max-verdict-age", KIND_TIME, AT(max_verdict_age_ns), 0.1 * SEC, 3600 * SEC, NULL},
    {"max-usage-age", KIND_TIME, AT(max_usage_age_ns), 0.1 * SEC, 3600 * SEC, NULL},
    {"on-attest-failure", KIND_BOOL_CHOICE, AT(relieve_memory), 0, 0, failure_names},
};
/* Amounts of memory that are doubles in the struct: they are resource-unit numbers, not sizes. */
#define IS_DOUBLE_BYTES(s)                                                                         \
    ((s)->offset == AT(reattest_threshold[FORE_RES_MEM]) ||                                        \
     (s)->offset == AT(deadband[FORE_RES_MEM]))

void fore_policy_init(ForePolicy *policy)
{
    static const ForePidGains gains = {
        .kp = 0.25, .ki = 0.02, .kd = 0, .gain_up = 1, .gain_down = 0.5};

    memset(policy, 0, sizeof *policy);
    policy->mode = FORE_MODE_RECOMMEND;
    policy->forecaster = FORE_FORECASTER_LSTM;
    policy->min_vcpus = policy->max_vcpus = 1;
    policy->quantile = FORE_Q95;
    policy->utilisation[FORE_RES_VCPU] = 0.8;
    policy->utilisation[FORE_RES_MEM] = 0.8;
    policy->reattest_threshold[FORE_RES_VCPU] = 1;
    policy->reattest_threshold[FORE_RES_MEM] = 256 * MIB;
    policy->pid[FORE_RES_VCPU] = policy->pid[FORE_RES_MEM] = gains;
    policy->deadband[FORE_RES_VCPU] = 0.15;
    policy->deadband[FORE_RES_MEM] = 32 * MIB;
    policy->lead_min_ns = 2 * FORE_NS_PER_S;
    policy->shrink_hold_ns = 60 * FORE_NS_PER_S;
    policy->cooldown_ns = 2 * FORE_NS_PER_S;
    policy->denial_hold_ns = 10 * FORE_NS_PER_S;
    policy->max_verdict_age_ns = 10 * FORE_NS_PER_S;
    policy->max_usage_age_ns = 5 * FORE_NS_PER_S;
}

const char *const *fore_policy_keys(void)
{
    static const char *keys[G_N_ELEMENTS(settings) + 1];

    for (size_t i = 0; i < G_N_ELEMENTS(settings); i++) {
        keys[i] = settings[i].key;
    }
    return keys;
}

static const Setting *find(const char *key)
{
    for (size_t i = 0; i < G_N_ELEMENTS(settings); i++) {
        if (strcmp(settings[i].key, key) == 0) {
            return &settings[i];
        }
    }
    return NULL;
}

typedef struct {
    const char *suffix;
    double factor;
} Unit;
/* Largest first: get() writes the largest that divides the value. */
static const Unit byte_units[] = {
    {"TiB", 1024 * GIB}, {"GiB", GIB}, {"MiB", MIB}, {"KiB", 1024}, {"T", 1024 * GIB},
    {"G", GIB},          {"M", MIB},   {"K", 1024},  {"B", 1},      {"", 1}};
static const Unit time_units[] = {{"h", 3600 * SEC}, {"min", 60 * SEC}, {"m", 60 * SEC}, {"s", SEC},
                                  {"ms", SEC / 1e3}, {"us", SEC / 1e6}, {"ns", 1}};

/* A decimal number (no hex, no inf or nan, no sign but none), then one of @units or nothing. */
static bool parse_number(const char *text, const Unit *units, size_t n_units, double *ret)
{
    char *end = NULL;
    double value;

    if (!g_ascii_isdigit(text[0]) || (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))) {
        return false;
    }
    errno = 0;
    value = g_ascii_strtod(text, &end);
    if (errno || !isfinite(value)) {
        return false;
    }
    if (!units) {
        *ret = value;
        return *end == 0;
    }
    for (size_t i = 0; i < n_units; i++) {
        if (strcmp(units[i].suffix, end) == 0) {
            *ret = value * units[i].factor;
            return true;
        }
    }
    return false;
}

/* The shortest text that reads back as @value. */
static char *print_real(double value)
{
    static const char *const formats[] = {"%.6g", "%.15g", "%.17g"};
    char buf[G_ASCII_DTOSTR_BUF_SIZE];

    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_ascii_formatd(buf, sizeof buf, formats[i], value);
        if (g_ascii_strtod(buf, NULL) == value) {
            break;
        }
    }
    return g_strdup(buf);
}

static char *print_unit(double value, const Unit *units, size_t n_units)
{
    for (size_t i = 0; i < n_units; i++) {
        double count = value / units[i].factor;
        if (value > 0 && count == floor(count) && count < 1e15) {
            return g_strdup_printf("%.0f%s", count, units[i].suffix);
        }
    }
    g_autofree char *number = print_real(value);
    return g_strconcat(number, units == byte_units ? "B" : "ns", NULL);
}

static bool parse_gains(const char *value, const Setting *s, ForePidGains *ret)
{
    double number[5];
    g_auto(GStrv) parts = g_strsplit(value, ",", 6);

    if (g_strv_length(parts) != G_N_ELEMENTS(number)) {
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(number); i++) {
        if (!parse_number(g_strstrip(parts[i]), NULL, 0, &number[i]) || number[i] < s->min ||
            number[i] > s->max) {
            return false;
        }
    }
    *ret = (ForePidGains){number[0], number[1], number[2], number[3], number[4]};
    return true;
}

static bool parse_choice(const char *value, const Setting *s, unsigned *ret)
{
    for (unsigned i = (unsigned)s->min; s->choices[i]; i++) {
        if (g_ascii_strcasecmp(s->choices[i], value) == 0) {
            *ret = i;
            return true;
        }
    }
    return false;
}

/* The number in @value in the field's own unit, in range. */
static bool parse_amount(const char *value, const Setting *s, double *ret)
{
    bool ok;

    if (s->kind == KIND_BYTES) {
        ok = parse_number(value, byte_units, G_N_ELEMENTS(byte_units), ret);
    } else if (s->kind == KIND_TIME) {
        ok = parse_number(value, time_units, G_N_ELEMENTS(time_units), ret);
    } else {
        ok = parse_number(value, NULL, 0, ret);
    }
    if (s->kind != KIND_REAL && ok && *ret != floor(*ret)) {
        ok = false;
    }
    return ok && *ret >= s->min && *ret <= s->max;
}

/* What @s takes, for messages (transfer full). */
static char *describe(const Setting *s)
{
    g_autofree char *low = NULL, *high = NULL;

    switch (s->kind) {
    case KIND_CHOICE:
    case KIND_BOOL_CHOICE:
        low = g_strjoinv(" | ", (char **)&s->choices[(unsigned)s->min]);
        return g_strdup(low);
    case KIND_GAINS:
        return g_strdup_printf("kp,ki,kd,gain-up,gain-down, each %g to %g", s->min, s->max);
    case KIND_BYTES:
        high = print_unit(s->max, byte_units, G_N_ELEMENTS(byte_units));
        return g_strdup_printf("whole bytes, 0 to %s, as in 512MiB or 2GiB", high);
    case KIND_TIME:
        low = print_unit(s->min, time_units, G_N_ELEMENTS(time_units));
        high = print_unit(s->max, time_units, G_N_ELEMENTS(time_units));
        return g_strdup_printf("a time with its unit, %s to %s, as in 500ms, 8s or 2min",
                               s->min > 0 ? low : "0s", high);
    case KIND_COUNT:
        return g_strdup_printf("a whole number, %.0f to %.0f", s->min, s->max);
    case KIND_REAL:
        break;
    }
    return g_strdup_printf("a number, %g to %g", s->min, s->max);
}

static bool store(ForePolicy *policy, const Setting *s, const char *value)
{
    char *field = (char *)policy + s->offset;
    double number = 0;
    unsigned choice = 0;

    switch (s->kind) {
    case KIND_CHOICE:
        if (!parse_choice(value, s, &choice)) {
            return false;
        }
        *(unsigned *)field = choice; /* enums here are unsigned int; asserted below */
        return true;
    case KIND_BOOL_CHOICE:
        if (!parse_choice(value, s, &choice)) {
            return false;
        }
        *(bool *)field = choice == 1;
        return true;
    case KIND_GAINS:
        return parse_gains(value, s, (ForePidGains *)field);
    case KIND_COUNT:
    case KIND_BYTES:
    case KIND_TIME:
    case KIND_REAL:
        break;
    }
    if (!parse_amount(value, s, &number)) {
        return false;
    }
    if (s->kind == KIND_COUNT) {
        *(unsigned *)field = (unsigned)number;
    } else if (s->kind == KIND_REAL || IS_DOUBLE_BYTES(s)) {
        *(double *)field = number;
    } else {
        *(uint64_t *)field = (uint64_t)number;
    }
    return true;
}
G_STATIC_ASSERT(sizeof(ForeMode) == sizeof(unsigned));
G_STATIC_ASSERT(sizeof(ForeForecasterKind) == sizeof(unsigned));

bool fore_policy_set(ForePolicy *policy, const char *key, const char *value, GError **error)
{
    const Setting *s = find(key);

    if (!s) {
        g_autofree char *known = g_strjoinv(", ", (char **)fore_policy_keys());
        g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND,
                    "policy: no setting named '%.64s'; known are: %s", key, known);
        return false;
    }
    if (!store(policy, s, value)) {
        g_autofree char *takes = describe(s);
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "policy: %s does not take '%.64s'; give %s", s->key, value, takes);
        return false;
    }
    return true;
}

char *fore_policy_get(const ForePolicy *policy, const char *key)
{
    const Setting *s = find(key);
    const char *field = s ? (const char *)policy + s->offset : NULL;

    if (!s) {
        return NULL;
    }
    switch (s->kind) {
    case KIND_CHOICE:
        return g_strdup(s->choices[*(const unsigned *)field]);
    case KIND_BOOL_CHOICE:
        return g_strdup(s->choices[*(const bool *)field ? 1 : 0]);
    case KIND_COUNT:
        return g_strdup_printf("%u", *(const unsigned *)field);
    case KIND_REAL:
        return print_real(*(const double *)field);
    case KIND_BYTES:
        return print_unit(IS_DOUBLE_BYTES(s) ? *(const double *)field
                                             : (double)*(const uint64_t *)field,
                          byte_units, G_N_ELEMENTS(byte_units));
    case KIND_TIME:
        return print_unit((double)*(const uint64_t *)field, time_units, G_N_ELEMENTS(time_units));
    case KIND_GAINS:
        break;
    }
    const ForePidGains *g = (const ForePidGains *)field;
    g_autofree char *kp = print_real(g->kp), *ki = print_real(g->ki), *kd = print_real(g->kd);
    g_autofree char *up = print_real(g->gain_up), *down = print_real(g->gain_down);
    return g_strdup_printf("%s,%s,%s,%s,%s", kp, ki, kd, up, down);
}

bool fore_policy_check(const ForePolicy *policy, GError **error)
{
    uint64_t top = MAX(policy->max_mem_bytes, policy->base_mem_bytes);

    if (policy->min_vcpus < 1 || policy->min_vcpus > policy->max_vcpus) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "policy: min-vcpus %u and max-vcpus %u do not agree; give 1 <= min <= max",
                    policy->min_vcpus, policy->max_vcpus);
        return false;
    }
    if (policy->min_mem_bytes > top) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "policy: min-memory %" G_GUINT64_FORMAT
                    " is more than max-memory %" G_GUINT64_FORMAT " (base-memory %" G_GUINT64_FORMAT
                    "); lower one or raise the other",
                    policy->min_mem_bytes, policy->max_mem_bytes, policy->base_mem_bytes);
        return false;
    }
    if (policy->max_mem_bytes > 0 && policy->max_mem_bytes < policy->base_mem_bytes) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "policy: max-memory %" G_GUINT64_FORMAT
                    " is below base-memory %" G_GUINT64_FORMAT
                    ", which is never given back; raise max-memory",
                    policy->max_mem_bytes, policy->base_mem_bytes);
        return false;
    }
    if (policy->denial_hold_ns == 0 || policy->max_verdict_age_ns == 0) {
        g_set_error_literal(error, FORE_ERROR, FORE_ERROR_INVALID,
                            "policy: denial-hold and max-verdict-age must be above zero");
        return false;
    }
    return true;
}
