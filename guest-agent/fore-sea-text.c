/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest-agent/fore-sea-text.h"

#include <string.h>

typedef struct {
    const char *at, *end;
} Scan;

static bool scan_char(Scan *scan, char c)
{
    if (scan->at == scan->end || *scan->at != c) {
        return false;
    }
    scan->at++;
    return true;
}

static void skip_blanks(Scan *scan)
{
    while (scan_char(scan, ' ') || scan_char(scan, '\t')) {
    }
}

static bool scan_number(Scan *scan, uint64_t max, uint64_t *ret)
{
    const char *start = scan->at;
    uint64_t value = 0;

    while (scan->at < scan->end && g_ascii_isdigit(*scan->at)) {
        unsigned digit = (unsigned)(*scan->at - '0');
        if (value > (max - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
        scan->at++;
    }
    if (scan->at == start) {
        return false;
    }
    *ret = value;
    return true;
}

static bool scan_word(Scan *scan, const char *word)
{
    size_t n = strlen(word);

    if ((size_t)(scan->end - scan->at) < n || memcmp(scan->at, word, n) != 0) {
        return false;
    }
    scan->at += n;
    return true;
}

/* Hands out the lines one by one; the last one counts also without its newline. */
static bool next_line(Scan *text, Scan *ret_line)
{
    const char *nl;

    if (text->at == text->end) {
        return false;
    }
    nl = memchr(text->at, '\n', (size_t)(text->end - text->at));
    ret_line->at = text->at;
    ret_line->end = nl ? nl : text->end;
    text->at = nl ? nl + 1 : text->end;
    return true;
}

bool fore_sea_cpus_has(const ForeSeaCpus *cpus, unsigned cpu)
{
    return cpu < FORE_SEA_CPUS_MAX && ((cpus->word[cpu / 64] >> (cpu % 64)) & 1);
}

bool fore_sea_text_cpus(const char *text, size_t size, ForeSeaCpus *ret)
{
    Scan scan = {text, text + size};
    ForeSeaCpus cpus = {0};

    if (size > 0 && text[size - 1] == '\n') {
        scan.end--;
    }
    while (scan.at < scan.end) {
        uint64_t first, last;
        if (!scan_number(&scan, FORE_SEA_CPUS_MAX - 1, &first)) {
            return false;
        }
        last = first;
        if (scan_char(&scan, '-') &&
            (!scan_number(&scan, FORE_SEA_CPUS_MAX - 1, &last) || last < first)) {
            return false;
        }
        for (uint64_t cpu = first; cpu <= last; cpu++) {
            uint64_t bit = G_GUINT64_CONSTANT(1) << (cpu % 64);
            cpus.n += (cpus.word[cpu / 64] & bit) ? 0 : 1;
            cpus.word[cpu / 64] |= bit;
        }
        if (scan.at < scan.end && (!scan_char(&scan, ',') || scan.at == scan.end)) {
            return false;
        }
    }
    *ret = cpus;
    return true;
}

enum { USER, NICE, SYSTEM, IDLE, IOWAIT, IRQ, SOFTIRQ, N_TICKS };

static bool scan_ticks(const char *text, size_t size, uint64_t ret_ticks[N_TICKS])
{
    Scan all = {text, text + size}, line;

    if (!next_line(&all, &line) || !scan_word(&line, "cpu ")) {
        return false;
    }
    for (unsigned i = 0; i < N_TICKS; i++) {
        skip_blanks(&line);
        if (!scan_number(&line, UINT64_MAX / 16, &ret_ticks[i])) {
            return false;
        }
    }
    return true;
}

bool fore_sea_text_busy(const char *text, size_t size, uint64_t *ret_ticks)
{
    uint64_t t[N_TICKS];

    if (!scan_ticks(text, size, t)) {
        return false;
    }
    *ret_ticks = t[USER] + t[NICE] + t[SYSTEM] + t[IRQ] + t[SOFTIRQ];
    return true;
}

bool fore_sea_text_idle(const char *text, size_t size, uint64_t *ret_ticks)
{
    uint64_t t[N_TICKS];

    if (!scan_ticks(text, size, t)) {
        return false;
    }
    *ret_ticks = t[IDLE] + t[IOWAIT];
    return true;
}

bool fore_sea_text_runnable(const char *text, size_t size, uint64_t *ret_tasks)
{
    const char *slash = memchr(text, '/', size);
    const char *start = slash;
    uint64_t tasks;
    Scan scan;

    if (!slash) {
        return false;
    }
    while (start > text && g_ascii_isdigit(start[-1])) {
        start--;
    }
    scan = (Scan){start, slash};
    if (start == text || start[-1] != ' ' || !scan_number(&scan, UINT32_MAX, &tasks)) {
        return false;
    }
    *ret_tasks = tasks;
    return true;
}

bool fore_sea_text_labelled(const char *text, size_t size, const char *label, uint64_t *ret)
{
    Scan all = {text, text + size}, line;

    while (next_line(&all, &line)) {
        if (!scan_word(&line, label) || line.at == line.end ||
            (*line.at != ' ' && *line.at != '\t')) {
            continue;
        }
        skip_blanks(&line);
        return scan_number(&line, UINT64_MAX / 2, ret);
    }
    return false;
}

bool fore_sea_text_stalled(const char *text, size_t size, uint64_t *ret_us)
{
    Scan all = {text, text + size}, line;

    while (next_line(&all, &line)) {
        if (!scan_word(&line, "some ")) {
            continue;
        }
        for (; line.at < line.end; line.at++) {
            if (scan_word(&line, "total=")) {
                return scan_number(&line, UINT64_MAX / 2, ret_us);
            }
        }
        return false;
    }
    return false;
}

bool fore_sea_text_hex(const char *text, size_t size, uint64_t *ret)
{
    uint64_t value = 0;

    if (size > 0 && text[size - 1] == '\n') {
        size--;
    }
    if (size == 0 || size > 16) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (!g_ascii_isxdigit(text[i])) {
            return false;
        }
        value = value << 4 | (uint64_t)g_ascii_xdigit_value(text[i]);
    }
    if (value == 0 || value > G_GUINT64_CONSTANT(1) << 63) {
        return false;
    }
    *ret = value;
    return true;
}

bool fore_sea_text_uevent(const char *message, size_t size)
{
    const char *at = memchr(message, '@', size);
    Scan path;

    if (!at || memchr(message, '\0', (size_t)(at - message))) {
        return false;
    }
    path = (Scan){at + 1, message + size};
    return scan_word(&path, "/devices/system/") &&
           (scan_word(&path, "cpu/") || scan_word(&path, "memory/"));
}
