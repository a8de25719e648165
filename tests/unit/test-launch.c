/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <openssl/sha.h>
#include <string.h>

#include "vtpm/attest/fore-launch.h"

#define VM_A "11111111-2222-3333-4444-555555555555"
#define VM_B "99999999-2222-3333-4444-555555555555"

static ForeLaunch launch_of(const char *vm, uint8_t fill)
{
    ForeLaunch l = {.have = (1u << FORE_LAUNCH_PARTS) - 1};

    g_strlcpy(l.vm, vm, sizeof(l.vm));
    for (unsigned i = 0; i < FORE_LAUNCH_PARTS; i++) {
        memset(l.digest[i], fill + (int)i, sizeof(l.digest[i]));
    }
    return l;
}

/* Appends a line and moves the head as a TPM does. */
static void add(GString *log, uint8_t head[32], const ForeLaunch *l)
{
    g_autofree char *line = fore_launch_line(l);
    uint8_t both[64];

    memcpy(both, head, 32);
    fore_launch_entry(line, strlen(line), both + 32);
    SHA256(both, sizeof(both), head);
    g_string_append(log, line);
    g_string_append_c(log, '\n');
}

static ForeLaunchReason find(const GString *log, const uint8_t head[32], const char *vm,
                             ForeLaunch *ret)
{
    g_autoptr(GBytes) bytes = g_bytes_new(log->str, log->len);

    return fore_launch_find(bytes, head, vm, ret);
}

static void test_newest(void)
{
    g_autoptr(GString) log = g_string_new(NULL);
    uint8_t head[32] = {0};
    ForeLaunch first = launch_of(VM_A, 1), other = launch_of(VM_B, 50), second = launch_of(VM_A, 9);
    ForeLaunch got;

    add(log, head, &first);
    add(log, head, &other);
    add(log, head, &second);
    g_assert_cmpint(find(log, head, VM_A, &got), ==, FORE_LAUNCH_OK);
    g_assert_cmpmem(got.digest, sizeof(got.digest), second.digest, sizeof(second.digest));
    g_assert_cmpint(find(log, head, VM_B, &got), ==, FORE_LAUNCH_OK);
    g_assert_cmpmem(got.digest, sizeof(got.digest), other.digest, sizeof(other.digest));
    g_assert_cmpint(find(log, head, "aaaaaaaa-2222-3333-4444-555555555555", &got), ==,
                    FORE_LAUNCH_ABSENT);
}

static void test_behind_head(void)
{
    g_autoptr(GString) log = g_string_new(NULL);
    uint8_t head[32] = {0}, later[32];
    ForeLaunch first = launch_of(VM_A, 1), second = launch_of(VM_A, 9), got;

    add(log, head, &first);
    memcpy(later, head, 32);
    add(log, later, &second);
    g_assert_cmpint(find(log, head, VM_A, &got), ==, FORE_LAUNCH_OK);
    g_assert_cmpmem(got.digest, sizeof(got.digest), first.digest, sizeof(first.digest));
}

static void test_empty(void)
{
    g_autoptr(GString) log = g_string_new(NULL);
    const uint8_t zeros[32] = {0};
    ForeLaunch got;

    g_assert_cmpint(find(log, zeros, VM_A, &got), ==, FORE_LAUNCH_HEAD);
    g_assert_cmpint(fore_launch_find(NULL, zeros, VM_A, &got), ==, FORE_LAUNCH_HEAD);
}

static void test_edits(void)
{
    g_autoptr(GString) log = g_string_new(NULL), cut = NULL;
    uint8_t head[32] = {0};
    ForeLaunch a = launch_of(VM_A, 1), b = launch_of(VM_B, 30), got;
    gsize line;

    add(log, head, &a);
    line = log->len;
    add(log, head, &b);
    for (gsize i = 0; i < log->len; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            log->str[i] = (char)(log->str[i] ^ (1 << bit));
            g_assert_cmpint(find(log, head, VM_A, &got), !=, FORE_LAUNCH_OK);
            log->str[i] = (char)(log->str[i] ^ (1 << bit));
        }
    }
    for (gsize n = 0; n < log->len; n++) {
        cut = g_string_new_len(log->str, (gssize)n);
        g_assert_cmpint(find(cut, head, VM_A, &got), !=, FORE_LAUNCH_OK);
        g_string_free(g_steal_pointer(&cut), TRUE);
    }
    cut = g_string_new(log->str + line); /* without its first line */
    g_assert_cmpint(find(cut, head, VM_B, &got), ==, FORE_LAUNCH_HEAD);
    g_string_append_len(cut, log->str, (gssize)line); /* and in another order */
    g_assert_cmpint(find(cut, head, VM_B, &got), ==, FORE_LAUNCH_HEAD);
}

static void test_spelling(void)
{
    static const char *const bad[] = {
        "launch 1 " VM_A " qemu=00\n",
        "launch 2 " VM_A "\n",
        "launch 1 " VM_A "\n",
        "launch 1  " VM_A "\n",
        "\n",
        "launch 1 not-a-uuid\n",
    };
    const uint8_t zeros[32] = {0};
    ForeLaunch l = launch_of(VM_A, 1), got;
    g_autofree char *good = fore_launch_line(&l), *upper = g_ascii_strup(good, -1),
                    *space = g_strconcat(good, " \n", NULL),
                    *twice = g_strconcat(good, " qemu=", strstr(good, "qemu=") + 5, "\n", NULL),
                    *caps = g_strconcat(upper, "\n", NULL);
    const char *also[] = {space, twice, caps, good /* no newline */};

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GBytes) bytes = g_bytes_new(bad[i], strlen(bad[i]));
        g_assert_cmpint(fore_launch_find(bytes, zeros, VM_A, &got), ==, FORE_LAUNCH_MALFORMED);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(also); i++) {
        g_autoptr(GBytes) bytes = g_bytes_new(also[i], strlen(also[i]));
        g_assert_cmpint(fore_launch_find(bytes, zeros, VM_A, &got), ==, FORE_LAUNCH_MALFORMED);
    }
}

static void test_bounds(void)
{
    g_autofree char *big = g_strnfill(FORE_LAUNCH_LOG_MAX + 1, '\n');
    g_autoptr(GBytes) bytes = g_bytes_new(big, FORE_LAUNCH_LOG_MAX + 1);
    const uint8_t zeros[32] = {0};
    ForeLaunch got;

    g_assert_cmpint(fore_launch_find(bytes, zeros, VM_A, &got), ==, FORE_LAUNCH_MALFORMED);
}

static size_t allow_all(const ForeLaunch *l, ForeLaunchAllowed ret[FORE_LAUNCH_PARTS])
{
    size_t n = 0;

    for (ForeLaunchPart p = 0; p < FORE_LAUNCH_VTPM; p++) {
        if (l->have >> p & 1u) {
            ret[n].part = p;
            memcpy(ret[n++].digest, l->digest[p], 32);
        }
    }
    return n;
}

static void test_policy(void)
{
    ForeLaunch l = launch_of(VM_A, 1), less;
    ForeLaunchAllowed allowed[FORE_LAUNCH_PARTS];
    size_t n = allow_all(&l, allowed);
    uint8_t vtpm[32];
    ForeLaunchPart part = FORE_LAUNCH_PARTS;

    memcpy(vtpm, l.digest[FORE_LAUNCH_VTPM], 32);
    g_assert_cmpint(fore_launch_judge(&l, vtpm, allowed, n, &part), ==, FORE_LAUNCH_OK);
    g_assert_cmpint(fore_launch_judge(&l, vtpm, allowed, 0, &part), ==, FORE_LAUNCH_POLICY);
    /* a part that is there and not allowed */
    g_assert_cmpint(fore_launch_judge(&l, vtpm, allowed, n - 1, &part), ==, FORE_LAUNCH_UNLISTED);
    g_assert_cmpint(part, ==, FORE_LAUNCH_CMDLINE);
    /* a part that is allowed and not there */
    less = l;
    less.have &= ~(1u << FORE_LAUNCH_PLUGIN);
    g_assert_cmpint(fore_launch_judge(&less, vtpm, allowed, n, &part), ==, FORE_LAUNCH_UNLISTED);
    g_assert_cmpint(part, ==, FORE_LAUNCH_PLUGIN);
    vtpm[31] ^= 1;
    g_assert_cmpint(fore_launch_judge(&l, vtpm, allowed, n, &part), ==, FORE_LAUNCH_OTHER_VTPM);
    vtpm[31] ^= 1;
    less = l;
    less.have &= ~(1u << FORE_LAUNCH_VTPM);
    g_assert_cmpint(fore_launch_judge(&less, vtpm, allowed, n, &part), ==, FORE_LAUNCH_OTHER_VTPM);
}

static void test_names(void)
{
    for (unsigned p = 0; p < FORE_LAUNCH_PARTS; p++) {
        g_assert_cmpint(fore_launch_part_by_name(fore_launch_part_name(p)), ==, p);
    }
    g_assert_cmpint(fore_launch_part_by_name("qemu2"), ==, -1);
    for (unsigned r = 1; r < FORE_LAUNCH_N; r++) {
        g_assert_true(g_str_has_prefix(fore_launch_reason_name(r), "launch-"));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/attest/launch/newest-launch-of-a-vm-counts", test_newest);
    g_test_add_func("/attest/launch/lines-behind-the-head-are-not-looked-at", test_behind_head);
    g_test_add_func("/attest/launch/nothing-launched-is-no-evidence", test_empty);
    g_test_add_func("/attest/launch/every-flipped-bit-cut-drop-and-swap-is-refused", test_edits);
    g_test_add_func("/attest/launch/one-spelling-only", test_spelling);
    g_test_add_func("/attest/launch/size-is-bounded", test_bounds);
    g_test_add_func("/attest/launch/only-what-is-allowed-and-all-of-it", test_policy);
    g_test_add_func("/attest/launch/names-are-stable", test_names);
    return g_test_run();
}
