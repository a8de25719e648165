/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stddef.h>
#include <string.h>

#include "qmp-agent/foresee-page.h"

#define SHOWN_CALLS  6
#define SHOWN_SPACES 4

typedef struct {
    const char *name; /* in CSV and JSON */
    const char *head; /* of its column on the screen; NULL: not there */
    uint64_t bit;
    size_t at; /* double in ForePageRates */
    bool is_share;
} Metric;

#define RATE(field, head, bit)                                                                     \
    {                                                                                              \
#field, head, bit, offsetof(ForePageRates, field), false                                   \
    }
#define SHARE(field, head, bit)                                                                    \
    {                                                                                              \
#field, head, bit, offsetof(ForePageRates, field), true                                    \
    }
#define NAMED(name, field, bit)                                                                    \
    {                                                                                              \
        name, NULL, bit, offsetof(ForePageRates, field), false                                     \
    }

static const Metric metrics[] = {
    SHARE(run, "RUN%", FORE_PAGE_HAS_RUN),
    SHARE(wait, "WAIT%", FORE_PAGE_HAS_RUN),
    SHARE(idle, "IDLE%", FORE_PAGE_HAS_IDLE),
    RATE(insns, "INSN/s", FORE_PAGE_HAS_INSNS),
    RATE(cycles, "CYCLES/s", FORE_PAGE_HAS_CYCLES),
    RATE(blocks, NULL, FORE_PAGE_HAS_BLOCKS),
    RATE(loads, "LOADS/s", FORE_PAGE_HAS_LOADS),
    RATE(stores, "STORES/s", FORE_PAGE_HAS_STORES),
    RATE(syscalls, "SYSC/s", FORE_PAGE_HAS_SYSCALLS),
    RATE(mmio, "MMIO/s", FORE_PAGE_HAS_MMIO),
    RATE(space_switches, "SWITCH/s", FORE_PAGE_HAS_SWITCHES),
    RATE(resumes, "WAKE/s", FORE_PAGE_HAS_IDLE),
    RATE(exits, "EXITS/s", FORE_PAGE_HAS_EXITS),
    SHARE(halt_poll, "POLL%", FORE_PAGE_HAS_HALT),
    SHARE(halt_wait, NULL, FORE_PAGE_HAS_HALT),
    NAMED("branch_conditional", branch[FORE_PAGE_BRANCH_CONDITIONAL], FORE_PAGE_HAS_BRANCHES),
    NAMED("branch_jump", branch[FORE_PAGE_BRANCH_JUMP], FORE_PAGE_HAS_BRANCHES),
    NAMED("branch_indirect", branch[FORE_PAGE_BRANCH_INDIRECT], FORE_PAGE_HAS_BRANCHES),
    NAMED("branch_call", branch[FORE_PAGE_BRANCH_CALL], FORE_PAGE_HAS_BRANCHES),
    NAMED("branch_return", branch[FORE_PAGE_BRANCH_RETURN], FORE_PAGE_HAS_BRANCHES),
    NAMED("mix_integer", mix[FORE_PAGE_MIX_INTEGER], FORE_PAGE_HAS_MIX),
    NAMED("mix_simd_fp", mix[FORE_PAGE_MIX_SIMD_FP], FORE_PAGE_HAS_MIX),
    NAMED("mix_control", mix[FORE_PAGE_MIX_CONTROL], FORE_PAGE_HAS_MIX),
    NAMED("mix_string", mix[FORE_PAGE_MIX_STRING], FORE_PAGE_HAS_MIX),
    NAMED("mix_privileged", mix[FORE_PAGE_MIX_PRIVILEGED], FORE_PAGE_HAS_MIX),
    NAMED("mix_io", mix[FORE_PAGE_MIX_IO], FORE_PAGE_HAS_MIX),
    NAMED("exit_io", exit[FORE_PAGE_EXIT_IO], FORE_PAGE_HAS_EXITS),
    NAMED("exit_mmio", exit[FORE_PAGE_EXIT_MMIO], FORE_PAGE_HAS_EXITS),
    NAMED("exit_halt", exit[FORE_PAGE_EXIT_HALT], FORE_PAGE_HAS_EXITS),
    NAMED("exit_irq", exit[FORE_PAGE_EXIT_IRQ], FORE_PAGE_HAS_EXITS),
    NAMED("exit_signal", exit[FORE_PAGE_EXIT_SIGNAL], FORE_PAGE_HAS_EXITS),
    NAMED("exit_emulation", exit[FORE_PAGE_EXIT_EMULATION], FORE_PAGE_HAS_EXITS),
    NAMED("exit_hypercall", exit[FORE_PAGE_EXIT_HYPERCALL], FORE_PAGE_HAS_EXITS),
    NAMED("exit_fault", exit[FORE_PAGE_EXIT_FAULT], FORE_PAGE_HAS_EXITS),
};

static const char *const state_names[FORE_PAGE_VCPU_N] = {"none", "running", "idle", "unplugged"};
static const char *const mode_names[FORE_PAGE_MODE_N] = {"starting", "TCG", "KVM"};
static const char *const level_names[FORE_PAGE_LEVEL_N] = {"lean", "standard", "full"};

static double value_of(const ForePageRates *rates, const Metric *m)
{
    double value;

    memcpy(&value, (const char *)rates + m->at, sizeof(value));
    return value;
}

static bool is_plugged(const ForePageVcpu *v)
{
    return v->state == FORE_PAGE_VCPU_RUNNING || v->state == FORE_PAGE_VCPU_IDLE;
}

/* --- the screen --- */

typedef struct {
    FILE *out;
    unsigned rows, columns, row;
    GString *line;
} Screen;

static void end_line(Screen *s)
{
    if (s->columns > 0 && s->line->len > s->columns) {
        g_string_truncate(s->line, s->columns);
    }
    if (s->rows == 0 || s->row < s->rows) {
        fprintf(s->out, "%s\n", s->line->str);
    }
    s->row++;
    g_string_truncate(s->line, 0);
}

/* A number in at most 7 characters: 1234, 123.4k, 1.235M. */
static void add_short(GString *to, double v)
{
    static const char units[] = {'k', 'M', 'G', 'T'};
    int unit = -1;

    while (v >= (unit < 0 ? 99999.5 : 9999.95) && unit < 3) {
        v /= 1000;
        unit++;
    }
    if (unit < 0) {
        g_string_append_printf(to, "%.0f", v);
    } else {
        g_string_append_printf(to, "%.*f%c", v < 99.995 ? 2 : 1, v, units[unit]);
    }
}

static void add_cell(GString *to, const Metric *m, double v)
{
    g_autoptr(GString) text = g_string_new(NULL);

    if (m->is_share) {
        g_string_append_printf(text, "%.1f", 100 * v);
    } else {
        add_short(text, v);
    }
    g_string_append_printf(to, " %8s", text->str);
}

static void show_row(Screen *s, const char *name, const char *state, const ForePageRates *rates,
                     uint64_t valid)
{
    g_string_append_printf(s->line, "%4s %-9s", name, state);
    for (unsigned i = 0; i < G_N_ELEMENTS(metrics); i++) {
        const Metric *m = &metrics[i];
        if (m->head == NULL || (valid & m->bit) == 0) {
            continue;
        }
        if (rates == NULL) {
            g_string_append_printf(s->line, " %8s", "-");
        } else {
            add_cell(s->line, m, value_of(rates, m));
        }
    }
    end_line(s);
}

static void show_table(Screen *s, const ForeCliPage *p)
{
    uint64_t valid = p->cur->valid;

    g_string_append_printf(s->line, "%4s %-9s", "VCPU", "STATE");
    for (unsigned i = 0; i < G_N_ELEMENTS(metrics); i++) {
        if (metrics[i].head != NULL && (valid & metrics[i].bit) != 0) {
            g_string_append_printf(s->line, " %8s", metrics[i].head);
        }
    }
    end_line(s);
    show_row(s, "all", "", p->has_rates ? &p->all : NULL, valid);
    for (unsigned i = 0; i < p->cur->n_vcpus; i++) {
        const ForePageVcpu *v = &p->cur->vcpu[i];
        ForePageRates rates;
        char name[16];

        if (v->state == FORE_PAGE_VCPU_NONE) {
            continue;
        }
        bool has = p->prev != NULL && fore_page_vcpu_rates(p->prev, p->cur, i, &rates, NULL);
        g_snprintf(name, sizeof(name), "%u", i);
        show_row(s, name, state_names[v->state], has ? &rates : NULL, valid);
    }
}

static void show_head(Screen *s, const ForeCliPage *p)
{
    const ForePageSnapshot *c = p->cur;
    double silent_s = (double)(c->mono_ns - MIN(c->heartbeat_ns, c->mono_ns)) / FORE_NS_PER_S;

    g_string_append_printf(s->line, "%s  %s  %s %s  profile=%s  pid %u", p->name,
                           c->uuid[0] != '\0' ? c->uuid : "no uuid", c->target, mode_names[c->mode],
                           level_names[c->level], c->pid);
    if (c->writer == FORE_PAGE_WRITER_EXITED) {
        g_string_append(s->line, "  QEMU has ended");
    } else if (silent_s > 3) {
        g_string_append_printf(s->line, "  silent for %.0f s", silent_s);
    }
    end_line(s);
    if (p->phase != 0) {
        g_string_append_printf(s->line, "phase %u of %u, for %.0f s", p->phase, p->phases,
                               p->phase_age_s);
        end_line(s);
    } else if (c->valid & FORE_PAGE_HAS_SIGNATURE) {
        g_string_append(s->line, "phase: none yet");
        end_line(s);
    }
}

static void show_memory(Screen *s, const ForeCliPage *p)
{
    const ForePageVm *vm = &p->cur->vm;
    uint64_t valid = p->cur->valid;

    if (valid & FORE_PAGE_HAS_WORKING_SET && vm->window_ns != 0) {
        g_string_append_printf(s->line, "working set %.1f MiB (standard error %.1f) in %.1f s   ",
                               (double)vm->ws_pages / 256, (double)vm->ws_error_pages / 256,
                               (double)vm->window_ns / FORE_NS_PER_S);
    }
    if (valid & FORE_PAGE_HAS_DIRTY) {
        g_string_append_printf(s->line, "dirtied %.1f MiB/s   ",
                               (double)vm->dirty_bytes_per_s / (1 << 20));
    }
    if (valid & FORE_PAGE_HAS_RESIDENT) {
        g_string_append_printf(s->line, "resident %.0f MiB",
                               (double)vm->resident_bytes / (1 << 20));
    }
    if (s->line->len > 0) {
        end_line(s);
    }
}

static void show_mix(Screen *s, const ForeCliPage *p)
{
    static const char *const names[FORE_PAGE_MIX_N] = {"integer", "simd/fp",    "control",
                                                       "string",  "privileged", "i/o"};
    double sum = 0;

    for (unsigned i = 0; i < FORE_PAGE_MIX_N; i++) {
        sum += p->all.mix[i];
    }
    if (!p->has_rates || (p->all.valid & FORE_PAGE_HAS_MIX) == 0 || sum <= 0) {
        return;
    }
    g_string_append(s->line, "mix");
    for (unsigned i = 0; i < FORE_PAGE_MIX_N; i++) {
        g_string_append_printf(s->line, "  %s %.1f%%", names[i], 100 * p->all.mix[i] / sum);
    }
    end_line(s);
}

typedef struct {
    unsigned number;
    uint64_t calls;
} Calls;

static gint by_calls(gconstpointer a, gconstpointer b)
{
    const Calls *x = a, *y = b;

    return x->calls != y->calls ? (x->calls < y->calls ? 1 : -1) : (int)x->number - (int)y->number;
}

/* System calls between the two readings, most frequent first; [FORE_PAGE_SYSCALLS].  false: not
 * measured, or counters were reset. */
static bool calls_between(const ForeCliPage *p, Calls *ret)
{
    if (p->prev == NULL || (p->prev->valid & p->cur->valid & FORE_PAGE_HAS_SYSCALL_NUMBERS) == 0 ||
        fore_page_is_reset(p->prev, p->cur)) {
        return false;
    }
    for (unsigned i = 0; i < FORE_PAGE_SYSCALLS; i++) {
        uint64_t now = p->cur->vm.syscall_number[i], was = p->prev->vm.syscall_number[i];
        ret[i] = (Calls){i, now > was ? now - was : 0};
    }
    qsort(ret, FORE_PAGE_SYSCALLS, sizeof(*ret), by_calls);
    return true;
}

static void show_calls(Screen *s, const ForeCliPage *p)
{
    Calls calls[FORE_PAGE_SYSCALLS];
    double seconds;

    if (!calls_between(p, calls) || calls[0].calls == 0) {
        return;
    }
    seconds = (double)(p->cur->mono_ns - p->prev->mono_ns) / FORE_NS_PER_S;
    g_string_append(s->line, "system calls by number, per second");
    for (unsigned i = 0; i < SHOWN_CALLS && calls[i].calls > 0; i++) {
        g_string_append_printf(s->line, "  %u%s: ", calls[i].number,
                               calls[i].number == FORE_PAGE_SYSCALLS - 1 ? "+" : "");
        add_short(s->line, (double)calls[i].calls / seconds);
    }
    end_line(s);
}

static double space_share(const ForePageVm *vm, unsigned i)
{
    return vm->space_ns > 0 ? (double)vm->spaces[i].ns / (double)vm->space_ns : 0;
}

static void show_spaces(Screen *s, const ForeCliPage *p)
{
    const ForePageVm *vm = &p->cur->vm;

    if ((p->cur->valid & FORE_PAGE_HAS_SPACES) == 0 || vm->n_spaces == 0) {
        return;
    }
    g_string_append(s->line, "address spaces");
    for (unsigned i = 0; i < MIN(vm->n_spaces, SHOWN_SPACES); i++) {
        g_string_append_printf(s->line, "  %" G_GINT64_MODIFIER "x %.1f%%", vm->spaces[i].id,
                               100 * space_share(vm, i));
    }
    end_line(s);
}

void fore_cli_page_text(const ForeCliPage *page, FILE *out, unsigned rows, unsigned columns)
{
    Screen s = {.out = out, .rows = rows, .columns = columns, .line = g_string_new(NULL)};

    show_head(&s, page);
    show_memory(&s, page);
    show_mix(&s, page);
    show_calls(&s, page);
    show_spaces(&s, page);
    show_table(&s, page);
    g_string_free(s.line, TRUE);
}

/* --- CSV --- */

static void csv_row(const ForeCliPage *p, FILE *out, const char *vcpu, const char *state,
                    const ForePageRates *rates)
{
    char number[G_ASCII_DTOSTR_BUF_SIZE];

    fprintf(
        out, "%s,%s,%s,",
        g_ascii_formatd(number, sizeof(number), "%.3f", (double)p->cur->mono_ns / FORE_NS_PER_S),
        vcpu, state);
    if (p->phase != 0) {
        fprintf(out, "%u", p->phase);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(metrics); i++) {
        bool has = rates != NULL && (rates->valid & metrics[i].bit) != 0;
        fprintf(out, ",%s",
                has ? g_ascii_formatd(number, sizeof(number), metrics[i].is_share ? "%.4f" : "%.1f",
                                      value_of(rates, &metrics[i]))
                    : "");
    }
    fputc('\n', out);
}

void fore_cli_page_csv(const ForeCliPage *p, FILE *out, bool head)
{
    if (head) {
        fputs("mono_s,vcpu,state,phase", out);
        for (unsigned i = 0; i < G_N_ELEMENTS(metrics); i++) {
            fprintf(out, ",%s", metrics[i].name);
        }
        fputc('\n', out);
    }
    for (unsigned i = 0; i < p->cur->n_vcpus; i++) {
        const ForePageVcpu *v = &p->cur->vcpu[i];
        ForePageRates rates;
        char name[16];

        if (is_plugged(v)) {
            bool has = p->prev != NULL && fore_page_vcpu_rates(p->prev, p->cur, i, &rates, NULL);
            g_snprintf(name, sizeof(name), "%u", i);
            csv_row(p, out, name, state_names[v->state], has ? &rates : NULL);
        }
    }
    csv_row(p, out, "all", "", p->has_rates ? &p->all : NULL);
}

/* --- JSON --- */

static json_t *rates_json(const ForePageRates *rates)
{
    json_t *object = json_object();

    for (unsigned i = 0; i < G_N_ELEMENTS(metrics); i++) {
        if (rates->valid & metrics[i].bit) {
            json_object_set_new(object, metrics[i].name, json_real(value_of(rates, &metrics[i])));
        }
    }
    return object;
}

static json_t *vcpus_json(const ForeCliPage *p)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < p->cur->n_vcpus; i++) {
        const ForePageVcpu *v = &p->cur->vcpu[i];
        ForePageRates rates;

        if (v->state == FORE_PAGE_VCPU_NONE) {
            continue;
        }
        json_t *one = json_pack("{s:i,s:s}", "vcpu", (int)i, "state", state_names[v->state]);
        if (p->prev != NULL && fore_page_vcpu_rates(p->prev, p->cur, i, &rates, NULL)) {
            json_object_set_new(one, "rates", rates_json(&rates));
        }
        json_array_append_new(list, one);
    }
    return list;
}

/* What a page claims may be above what JSON's integers hold. */
static json_t *bytes_json(double bytes)
{
    return bytes < 9e18 ? json_integer((json_int_t)bytes) : json_real(bytes);
}

static json_t *memory_json(const ForePageSnapshot *c)
{
    json_t *object = json_object();

    if (c->valid & FORE_PAGE_HAS_WORKING_SET && c->vm.window_ns != 0) {
        json_object_set_new(
            object, "working-set",
            json_pack("{s:o,s:o,s:f}", "bytes", bytes_json((double)c->vm.ws_pages * 4096),
                      "standard-error-bytes", bytes_json((double)c->vm.ws_error_pages * 4096),
                      "window-s", (double)c->vm.window_ns / FORE_NS_PER_S));
    }
    if (c->valid & FORE_PAGE_HAS_DIRTY) {
        json_object_set_new(object, "dirty-bytes-per-s",
                            bytes_json((double)c->vm.dirty_bytes_per_s));
    }
    if (c->valid & FORE_PAGE_HAS_RESIDENT) {
        json_object_set_new(object, "resident-bytes", bytes_json((double)c->vm.resident_bytes));
    }
    return object;
}

static json_t *calls_json(const ForeCliPage *p)
{
    Calls calls[FORE_PAGE_SYSCALLS];
    json_t *list;
    double seconds;

    if (!calls_between(p, calls)) {
        return NULL;
    }
    list = json_array();
    seconds = (double)(p->cur->mono_ns - p->prev->mono_ns) / FORE_NS_PER_S;
    for (unsigned i = 0; i < FORE_PAGE_SYSCALLS && calls[i].calls > 0; i++) {
        json_array_append_new(list, json_pack("{s:i,s:f}", "number", (int)calls[i].number, "per-s",
                                              (double)calls[i].calls / seconds));
    }
    return list;
}

static json_t *signature_json(const ForeCliPage *p)
{
    json_t *list;

    if (!p->has_rates || (p->all.valid & FORE_PAGE_HAS_SIGNATURE) == 0) {
        return NULL;
    }
    list = json_array();
    for (unsigned i = 0; i < FORE_PAGE_SIGNATURE; i++) {
        json_array_append_new(list, json_real(p->all.signature[i]));
    }
    return list;
}

static json_t *spaces_json(const ForePageSnapshot *c)
{
    json_t *list;

    if ((c->valid & FORE_PAGE_HAS_SPACES) == 0) {
        return NULL;
    }
    list = json_array();
    for (unsigned i = 0; i < c->vm.n_spaces; i++) {
        g_autofree char *id = g_strdup_printf("%" G_GINT64_MODIFIER "x", c->vm.spaces[i].id);
        json_array_append_new(list,
                              json_pack("{s:s,s:f}", "id", id, "share", space_share(&c->vm, i)));
    }
    return list;
}

static void set_if(json_t *object, const char *key, json_t *value)
{
    if (value != NULL) {
        json_object_set_new(object, key, value);
    }
}

json_t *fore_cli_page_json(const ForeCliPage *p)
{
    const ForePageSnapshot *c = p->cur;
    json_t *object = json_pack(
        "{s:s,s:s,s:s,s:s,s:s,s:b,s:f,s:f}", "name", p->name, "uuid", c->uuid, "target", c->target,
        "mode", mode_names[c->mode], "level", level_names[c->level], "ended",
        (int)(c->writer == FORE_PAGE_WRITER_EXITED), "mono-s", (double)c->mono_ns / FORE_NS_PER_S,
        "silent-s", (double)(c->mono_ns - MIN(c->heartbeat_ns, c->mono_ns)) / FORE_NS_PER_S);

    if (p->phase != 0) {
        json_object_set_new(object, "phase",
                            json_pack("{s:I,s:i,s:f}", "id", (json_int_t)p->phase, "known",
                                      (int)p->phases, "age-s", p->phase_age_s));
    }
    json_object_set_new(object, "memory", memory_json(c));
    set_if(object, "all", p->has_rates ? rates_json(&p->all) : NULL);
    set_if(object, "system-calls", calls_json(p));
    set_if(object, "address-spaces", spaces_json(c));
    set_if(object, "signature", signature_json(p));
    json_object_set_new(object, "vcpus", vcpus_json(p));
    return object;
}
