/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reader takes exactly what the writer writes: a line is parsed, written again, and must come
 * out the same.  So there is one spelling of each launch, and nothing to hide in another one.
 */
#include "vtpm/attest/fore-launch.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>

#include "common/fore-bytes.h"

#define PREFIX    "launch 1 "
#define MUST_HAVE (1u << FORE_LAUNCH_QEMU | 1u << FORE_LAUNCH_CMDLINE)

static const char *const part_names[] = {
    [FORE_LAUNCH_QEMU] = "qemu",         [FORE_LAUNCH_PLUGIN] = "plugin",
    [FORE_LAUNCH_FIRMWARE] = "firmware", [FORE_LAUNCH_KERNEL] = "kernel",
    [FORE_LAUNCH_INITRD] = "initrd",     [FORE_LAUNCH_CMDLINE] = "cmdline",
    [FORE_LAUNCH_VTPM] = "vtpm",
};
G_STATIC_ASSERT(G_N_ELEMENTS(part_names) == FORE_LAUNCH_PARTS);

static const char *const reason_names[] = {
    [FORE_LAUNCH_OK] = "ok",
    [FORE_LAUNCH_MALFORMED] = "launch-malformed",
    [FORE_LAUNCH_HEAD] = "launch-head-mismatch",
    [FORE_LAUNCH_ABSENT] = "launch-absent",
    [FORE_LAUNCH_OTHER_VTPM] = "launch-other-vtpm",
    [FORE_LAUNCH_POLICY] = "launch-policy-empty",
    [FORE_LAUNCH_UNLISTED] = "launch-unlisted",
};
G_STATIC_ASSERT(G_N_ELEMENTS(reason_names) == FORE_LAUNCH_N);

const char *fore_launch_part_name(ForeLaunchPart part)
{
    g_assert(part < FORE_LAUNCH_PARTS);
    return part_names[part];
}

int fore_launch_part_by_name(const char *name)
{
    for (int i = 0; i < FORE_LAUNCH_PARTS; i++) {
        if (strcmp(name, part_names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

const char *fore_launch_reason_name(ForeLaunchReason reason)
{
    g_assert(reason < FORE_LAUNCH_N);
    return reason_names[reason];
}

char *fore_launch_line(const ForeLaunch *launch)
{
    GString *line = g_string_new(PREFIX);

    g_assert(fore_uuid_is_valid(launch->vm) && (launch->have & MUST_HAVE) == MUST_HAVE);
    g_string_append(line, launch->vm);
    for (unsigned i = 0; i < FORE_LAUNCH_PARTS; i++) {
        g_autofree char *hex = NULL;

        if (launch->have >> i & 1u) {
            hex = fore_hex_encode(launch->digest[i], sizeof(launch->digest[i]));
            g_string_append_printf(line, " %s=%s", part_names[i], hex);
        }
    }
    return g_string_free(line, FALSE);
}

void fore_launch_entry(const char *line, size_t size, uint8_t ret[32])
{
    SHA256((const unsigned char *)line, size, ret);
}

static bool read_part(const char *word, ForeLaunch *launch)
{
    const char *eq = strchr(word, '=');
    g_autofree char *name = eq != NULL ? g_strndup(word, (gsize)(eq - word)) : NULL;
    int part = name != NULL ? fore_launch_part_by_name(name) : -1;
    g_autoptr(GBytes) digest = part >= 0 ? fore_hex_decode(eq + 1, 32) : NULL;

    if (digest == NULL || g_bytes_get_size(digest) != 32) {
        return false;
    }
    memcpy(launch->digest[part], g_bytes_get_data(digest, NULL), 32);
    launch->have |= 1u << part;
    return true;
}

static bool read_line(const char *text, size_t size, ForeLaunch *ret)
{
    g_autofree char *line = NULL, *again = NULL;
    g_auto(GStrv) words = NULL;
    ForeLaunch launch = {0};

    if (size > FORE_LAUNCH_LINE_MAX || memchr(text, '\0', size) != NULL) {
        return false;
    }
    line = g_strndup(text, size);
    if (!g_str_has_prefix(line, PREFIX)) {
        return false;
    }
    words = g_strsplit(line + strlen(PREFIX), " ", FORE_LAUNCH_PARTS + 2);
    if (words[0] == NULL || !fore_uuid_is_valid(words[0])) {
        return false;
    }
    g_strlcpy(launch.vm, words[0], sizeof(launch.vm));
    for (char **w = words + 1; *w != NULL; w++) {
        if (!read_part(*w, &launch)) {
            return false;
        }
    }
    if ((launch.have & MUST_HAVE) != MUST_HAVE) {
        return false;
    }
    again = fore_launch_line(&launch);
    if (strcmp(again, line) != 0) {
        return false;
    }
    *ret = launch;
    return true;
}

static void extend(uint8_t head[32], const char *line, size_t size)
{
    uint8_t both[64];

    memcpy(both, head, 32);
    fore_launch_entry(line, size, both + 32);
    SHA256(both, sizeof(both), head);
}

ForeLaunchReason fore_launch_find(GBytes *log, const uint8_t head[32], const char *vm,
                                  ForeLaunch *ret)
{
    gsize left = 0;
    const char *at = log != NULL ? g_bytes_get_data(log, &left) : NULL;
    uint8_t now[32] = {0};
    ForeLaunch launch, found = {0};

    if (left > FORE_LAUNCH_LOG_MAX) {
        return FORE_LAUNCH_MALFORMED;
    }
    while (left > 0) {
        const char *end = memchr(at, '\n', left);
        size_t size = end != NULL ? (size_t)(end - at) : 0;

        if (end == NULL || !read_line(at, size, &launch)) {
            return FORE_LAUNCH_MALFORMED;
        }
        extend(now, at, size);
        if (strcmp(launch.vm, vm) == 0) {
            found = launch;
        }
        if (CRYPTO_memcmp(now, head, sizeof(now)) == 0) {
            if (found.have == 0) {
                return FORE_LAUNCH_ABSENT;
            }
            *ret = found;
            return FORE_LAUNCH_OK;
        }
        at += size + 1;
        left -= size + 1;
    }
    return FORE_LAUNCH_HEAD;
}

/* Is anything allowed for @part, and is @digest (NULL: the part is not there) among it? */
static void look_up(ForeLaunchPart part, const uint8_t *digest, const ForeLaunchAllowed *allowed,
                    size_t n, bool *ret_any, bool *ret_listed)
{
    *ret_any = *ret_listed = false;
    for (size_t i = 0; i < n; i++) {
        if (allowed[i].part == part) {
            *ret_any = true;
            *ret_listed = *ret_listed ||
                          (digest != NULL && CRYPTO_memcmp(digest, allowed[i].digest, 32) == 0);
        }
    }
}

ForeLaunchReason fore_launch_judge(const ForeLaunch *launch, const uint8_t vtpm[32],
                                   const ForeLaunchAllowed *allowed, size_t n_allowed,
                                   ForeLaunchPart *ret_part)
{
    if (n_allowed == 0) {
        return FORE_LAUNCH_POLICY;
    }
    if (!(launch->have >> FORE_LAUNCH_VTPM & 1u) ||
        CRYPTO_memcmp(launch->digest[FORE_LAUNCH_VTPM], vtpm, 32) != 0) {
        return FORE_LAUNCH_OTHER_VTPM;
    }
    for (ForeLaunchPart part = 0; part < FORE_LAUNCH_VTPM; part++) {
        bool there = (launch->have >> part & 1u) != 0, any, listed;

        look_up(part, there ? launch->digest[part] : NULL, allowed, n_allowed, &any, &listed);
        if ((there || any) && !listed) {
            if (ret_part != NULL) {
                *ret_part = part;
            }
            return FORE_LAUNCH_UNLISTED;
        }
    }
    return FORE_LAUNCH_OK;
}
