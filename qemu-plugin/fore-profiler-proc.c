/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemu-plugin/fore-profiler-proc.h"

#include <linux/kvm.h>
#include <string.h>

#define MAX_DESCRIPTORS 1024
#define MAX_NAME        256

const char *const fore_proc_stat_names[FORE_PROC_N] = {
    [FORE_PROC_EXITS] = "exits",
    [FORE_PROC_IO_EXITS] = "io_exits",
    [FORE_PROC_MMIO_EXITS] = "mmio_exits",
    [FORE_PROC_HALT_EXITS] = "halt_exits",
    [FORE_PROC_IRQ_EXITS] = "irq_exits",
    [FORE_PROC_IRQ_WINDOW_EXITS] = "irq_window_exits",
    [FORE_PROC_SIGNAL_EXITS] = "signal_exits",
    [FORE_PROC_EMULATIONS] = "insn_emulation",
    [FORE_PROC_HYPERCALLS] = "hypercalls",
    [FORE_PROC_FAULTS] = "pf_taken",
    [FORE_PROC_HALT_POLL_OK_NS] = "halt_poll_success_ns",
    [FORE_PROC_HALT_POLL_FAIL_NS] = "halt_poll_fail_ns",
    [FORE_PROC_HALT_WAIT_NS] = "halt_wait_ns",
    [FORE_PROC_HALT_WAKEUPS] = "halt_wakeup",
};

/* A cursor over text; nothing is read past @end, and a failure leaves it failed. */
typedef struct {
    const char *at, *end;
    bool ok;
} Text;

static Text text_of(const char *text, size_t len)
{
    return (Text){text, text + len, true};
}

static void take_word(Text *t, const char *word)
{
    size_t len = strlen(word);

    t->ok = t->ok && (size_t)(t->end - t->at) >= len && memcmp(t->at, word, len) == 0;
    t->at += t->ok ? len : 0;
}

static uint64_t take_number(Text *t, unsigned base)
{
    uint64_t value = 0;
    unsigned digits = 0;

    for (; t->ok && t->at < t->end; t->at++, digits++) {
        int digit = g_ascii_xdigit_value(*t->at);
        if (digit < 0 || (unsigned)digit >= base) {
            break;
        }
        t->ok = value <= (UINT64_MAX - (unsigned)digit) / base;
        value = value * base + (unsigned)digit;
    }
    t->ok = t->ok && digits > 0;
    return t->ok ? value : 0;
}

static void take_to(Text *t, char stop)
{
    const char *found = t->ok ? memchr(t->at, stop, (size_t)(t->end - t->at)) : NULL;

    t->ok = found != NULL;
    t->at = t->ok ? found + 1 : t->at;
}

static void take_end(Text *t)
{
    if (t->at < t->end && *t->at == '\n') {
        t->at++;
    }
    t->ok = t->ok && t->at == t->end;
}

bool fore_proc_parse_vcpu_name(const char *text, size_t len, unsigned limit, unsigned *ret_index)
{
    Text t = text_of(text, len);

    take_word(&t, "CPU ");
    uint64_t index = take_number(&t, 10);
    take_word(&t, "/KVM");
    take_end(&t);
    if (!t.ok || index >= limit) {
        return false;
    }
    *ret_index = (unsigned)index;
    return true;
}

bool fore_proc_parse_schedstat(const char *text, size_t len, uint64_t *ret_run_ns,
                               uint64_t *ret_wait_ns)
{
    Text t = text_of(text, len);

    uint64_t run = take_number(&t, 10);
    take_word(&t, " ");
    uint64_t wait = take_number(&t, 10);
    take_word(&t, " ");
    take_number(&t, 10);
    take_end(&t);
    if (!t.ok) {
        return false;
    }
    *ret_run_ns = run;
    *ret_wait_ns = wait;
    return true;
}

bool fore_proc_parse_resident(const char *text, size_t len, uint64_t *ret_pages)
{
    Text t = text_of(text, len);

    take_number(&t, 10);
    take_word(&t, " ");
    uint64_t pages = take_number(&t, 10);
    take_word(&t, " ");
    if (!t.ok) {
        return false;
    }
    *ret_pages = pages;
    return true;
}

bool fore_proc_parse_stats_link(const char *text, size_t len, unsigned *ret_id)
{
    Text t = text_of(text, len);

    take_word(&t, "anon_inode:kvm-vcpu-stats:");
    uint64_t id = take_number(&t, 10);
    if (!t.ok || t.at != t.end || id > G_MAXINT32) {
        return false;
    }
    *ret_id = (unsigned)id;
    return true;
}

bool fore_proc_is_kvm_vm(const char *text, size_t len)
{
    Text t = text_of(text, len);

    take_word(&t, "anon_inode:kvm-vm");
    return t.ok && t.at == t.end;
}

static bool starts(const Text *t, const char *word)
{
    Text copy = *t;

    take_word(&copy, word);
    return copy.ok;
}

bool fore_proc_parse_ram(const char *line, size_t len, uint64_t min_bytes, ForeProcRange *ret)
{
    Text t = text_of(line, len);

    uint64_t start = take_number(&t, 16);
    take_word(&t, "-");
    uint64_t end = take_number(&t, 16);
    take_word(&t, " rw-");
    take_to(&t, ' '); /* p or s */
    take_to(&t, ' '); /* offset */
    take_to(&t, ' '); /* device */
    uint64_t inode = take_number(&t, 10);
    while (t.ok && t.at < t.end && *t.at == ' ') {
        t.at++;
    }
    bool nameless = t.ok && t.at == t.end && inode == 0;
    bool shared = t.ok && (starts(&t, "/memfd:") || starts(&t, "/dev/shm/") ||
                           starts(&t, "/dev/hugepages/") || starts(&t, "/anon_hugepage"));
    if (!(nameless || shared) || end <= start || end - start < min_bytes) {
        return false;
    }
    *ret = (ForeProcRange){start, end};
    return true;
}

/* --- a KVM statistics file --- */

/* Is @name that of a counter which we look for?  @name: @size bytes, NUL-padded */
static int find_stat(const char *name, size_t size)
{
    for (int i = 0; i < FORE_PROC_N; i++) {
        size_t len = strlen(fore_proc_stat_names[i]);
        if (len < size && memcmp(name, fore_proc_stat_names[i], len + 1) == 0) {
            return i;
        }
    }
    return -1;
}

static bool header_is_sane(const struct kvm_stats_header *h, size_t len)
{
    size_t each = sizeof(struct kvm_stats_desc) + h->name_size;

    return h->name_size > 0 && h->name_size <= MAX_NAME && h->num_desc > 0 &&
           h->num_desc <= MAX_DESCRIPTORS && h->desc_offset >= sizeof(*h) &&
           h->desc_offset <= FORE_PROC_STATS_MAX_BYTES &&
           h->data_offset <= FORE_PROC_STATS_MAX_BYTES && h->data_offset >= sizeof(*h) &&
           h->desc_offset + each * h->num_desc <= len;
}

bool fore_proc_parse_layout(const void *data, size_t len, ForeProcLayout *ret)
{
    ForeProcLayout layout = {0};
    struct kvm_stats_header header;

    if (len < sizeof(header)) {
        return false;
    }
    memcpy(&header, data, sizeof(header));
    if (!header_is_sane(&header, len)) {
        return false;
    }
    layout.data_offset = header.data_offset;
    for (uint32_t i = 0; i < header.num_desc; i++) {
        struct kvm_stats_desc desc;
        const uint8_t *at =
            (const uint8_t *)data + header.desc_offset + i * (sizeof(desc) + header.name_size);

        memcpy(&desc, at, sizeof(desc));
        int stat = find_stat((const char *)at + sizeof(desc), header.name_size);
        if (stat < 0 || desc.size != 1) {
            continue; /* histograms and what newer kernels add */
        }
        if (desc.offset % 8 != 0 || desc.offset > FORE_PROC_STATS_MAX_DATA - 8) {
            return false;
        }
        layout.has[stat] = true;
        layout.at[stat] = desc.offset;
        layout.data_bytes = MAX(layout.data_bytes, desc.offset + 8);
    }
    *ret = layout;
    return layout.data_bytes > 0;
}

uint64_t fore_proc_stat(const ForeProcLayout *layout, const void *data, ForeProcStat stat)
{
    uint64_t value = 0;

    if (layout->has[stat]) {
        memcpy(&value, (const uint8_t *)data + layout->at[stat], sizeof(value));
    }
    return value;
}
