/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Event logs that must be refused, each with its own reason.  All of them replay to the PCRs that
 * are proved, unless the test is about replay: what is tested is what lies behind it.
 */
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "tests/lib/fore-test-log.h"
#include "vtpm/attest/fore-eventlog.h"
#include "vtpm/attest/fore-public.h"

#define MASK 0x03ffu

static ForeEventlogPolicy strict(void)
{
    return (ForeEventlogPolicy){
        .pcr_mask = MASK, .require_secure_boot = true, .require_exit_boot_services = true};
}

static void assert_reason(ForeEventlogReason got, ForeEventlogReason want)
{
    g_assert_cmpstr(fore_eventlog_reason_name(got), ==, fore_eventlog_reason_name(want));
}

static void assert_against(const GByteArray *log, const ForeEventlogPolicy *policy,
                           uint8_t proved[24][32], ForeEventlogReason want)
{
    g_autoptr(GBytes) bytes = fore_test_bytes(log);
    ForeEventlogResult result;

    assert_reason(fore_eventlog_judge(bytes, policy, (const uint8_t(*)[32])proved, &result), want);
}

/* The log is what the TPM saw. */
static void assert_judged(const GByteArray *log, const ForeEventlogPolicy *policy,
                          ForeEventlogReason want)
{
    uint8_t proved[24][32];

    fore_test_eventlog_proved(log, proved);
    assert_against(log, policy, proved, want);
}

static void assert_strict(const GByteArray *log, ForeEventlogReason want)
{
    ForeEventlogPolicy policy = strict();

    assert_judged(log, &policy, want);
}

/* Offset of the @n-th event's type field. */
static size_t type_at(const GByteArray *log, unsigned n)
{
    g_autoptr(GBytes) bytes = fore_test_bytes(log);
    ForeEventlogReader reader;
    ForeEvent event;

    assert_reason(fore_eventlog_reader_init(&reader, bytes, FORE_ALG_SHA256), FORE_EVENTLOG_OK);
    for (unsigned i = 0; i <= n; i++) {
        g_assert_true(fore_eventlog_next(&reader, &event));
    }
    return event.offset + 4;
}

static void relabel(GByteArray *log, unsigned n, uint32_t type)
{
    uint32_t le = GUINT32_TO_LE(type);

    memcpy(log->data + type_at(log, n), &le, 4);
}

static void test_good(void)
{
    g_autoptr(GByteArray) log = fore_test_eventlog_boot();

    assert_strict(log, FORE_EVENTLOG_OK);
}

/* --- 50 --- */

/* A machine that booted with Secure Boot off, and whose owner extended what it should have been. */
static GByteArray *off_then_on(void)
{
    GByteArray *log = fore_test_eventlog_new(false);

    fore_test_eventlog_config(log, 0); /* events 0 to 4 */
    fore_test_eventlog_separator(log, 7);
    for (uint32_t pcr = 0; pcr < 7; pcr++) {
        fore_test_eventlog_separator(log, pcr);
    }
    fore_test_eventlog_text(log, 5, FORE_EV_EFI_ACTION, "Exit Boot Services Invocation");
    fore_test_eventlog_text(log, 5, FORE_EV_EFI_ACTION, "Exit Boot Services Returned with Success");
    fore_test_eventlog_config(log, 1);
    fore_test_eventlog_separator(log, 7);
    return log;
}

static void test_relabelled(void)
{
    static const struct {
        uint32_t type;
        ForeEventlogReason reason;
    } disguises[] = {
        {0x02, FORE_EVENTLOG_UNKNOWN_TYPE},            /* EV_UNUSED */
        {0x0d, FORE_EVENTLOG_DISGUISED},               /* EV_IPL */
        {0x01, FORE_EVENTLOG_DISGUISED},               /* EV_POST_CODE */
        {FORE_EV_EFI_ACTION, FORE_EVENTLOG_DISGUISED}, /* data is its digest, but no action */
        {FORE_EV_SEPARATOR, FORE_EVENTLOG_SEPARATOR_ERROR},
        {0x99, FORE_EVENTLOG_UNKNOWN_TYPE},
    };
    ForeEventlogPolicy policy = {.pcr_mask = 0xbf, .require_secure_boot = true};

    for (unsigned i = 0; i < G_N_ELEMENTS(disguises); i++) {
        g_autoptr(GByteArray) log = off_then_on();

        relabel(log, 0, disguises[i].type); /* SecureBoot = 0 */
        assert_judged(log, &policy, disguises[i].reason);
    }
}

static void test_relabelled_separator(void)
{
    static const uint32_t disguises[] = {0x01, 0x0d, FORE_EV_EFI_ACTION,
                                         FORE_EV_EFI_VARIABLE_DRIVER_CONFIG,
                                         FORE_EV_EFI_VARIABLE_AUTHORITY};
    ForeEventlogPolicy policy = {.pcr_mask = 0xff, .require_secure_boot = true};

    for (unsigned i = 0; i < G_N_ELEMENTS(disguises); i++) {
        g_autoptr(GByteArray) log = off_then_on();

        for (unsigned n = 0; n < 5; n++) {
            relabel(log, n, 0x01);
        }
        relabel(log, 5, disguises[i]);
        assert_judged(log, &policy, FORE_EVENTLOG_DISGUISED);
    }
}

static void test_appended(void)
{
    g_autoptr(GByteArray) log = off_then_on();

    assert_strict(log, FORE_EVENTLOG_ORDER);
}

/* --- 51 --- */

static void test_no_action(void)
{
    g_autoptr(GByteArray) log = fore_test_eventlog_boot();
    g_autoptr(GByteArray) plain = fore_test_eventlog_boot();
    uint8_t a[24][32], b[24][32];

    fore_test_eventlog_text(log, 0, FORE_EV_NO_ACTION, "SP800-155 Event");
    fore_test_eventlog_text(log, 7, FORE_EV_NO_ACTION, "SecureBoot is really on");
    fore_test_eventlog_text(log, 0xffffffff, FORE_EV_NO_ACTION, "anything");
    fore_test_eventlog_proved(log, a);
    fore_test_eventlog_proved(plain, b);
    g_assert_cmpmem(a, sizeof(a), b, sizeof(b));
    assert_strict(log, FORE_EVENTLOG_OK);
}

static void test_unknown_type(void)
{
    static const uint32_t vendor = 0x8401;
    static const uint32_t types[] = {0x00,       0x02,       0x14,       0x400,     0x8401,
                                     0x80000000, 0x8000000e, 0x800000e5, 0xffffffff};
    ForeEventlogPolicy policy = strict();

    for (unsigned i = 0; i < G_N_ELEMENTS(types); i++) {
        g_autoptr(GByteArray) log = fore_test_eventlog_boot();

        g_assert_false(fore_eventlog_type_known(types[i]));
        fore_test_eventlog_text(log, 14, types[i], "x"); /* not measured: nobody's business */
        assert_judged(log, &policy, FORE_EVENTLOG_OK);
        fore_test_eventlog_text(log, 2, types[i], "x");
        assert_judged(log, &policy, FORE_EVENTLOG_UNKNOWN_TYPE);
    }
    {
        g_autoptr(GByteArray) log = fore_test_eventlog_boot();

        fore_test_eventlog_text(log, 2, vendor, "x");
        policy.vendor_types = &vendor;
        policy.n_vendor_types = 1;
        assert_judged(log, &policy, FORE_EVENTLOG_OK);
    }
}

/* --- 52 and 53 --- */

static void assert_bytes(const GByteArray *log, ForeEventlogReason want)
{
    g_autoptr(GBytes) bytes = fore_test_bytes(log);
    ForeEventlogPolicy policy = strict();
    ForeEventlogResult result;
    uint8_t proved[24][32] = {{0}};

    assert_reason(fore_eventlog_judge(bytes, &policy, (const uint8_t(*)[32])proved, &result), want);
}

static void test_spec_id(void)
{
    /* bytes of the first event */
    static const struct {
        unsigned at;
        uint32_t value;
        unsigned size;
        ForeEventlogReason reason;
    } bad[] = {
        {0, 24, 4, FORE_EVENTLOG_SPEC_ID},          /* PCR */
        {4, 0x99, 4, FORE_EVENTLOG_SPEC_ID},        /* type nobody knows */
        {4, 8, 4, FORE_EVENTLOG_LEGACY},            /* first event of a TPM 1.2 log */
        {8, 1, 1, FORE_EVENTLOG_SPEC_ID},           /* digest */
        {46, '2', 1, FORE_EVENTLOG_LEGACY},         /* Spec ID Event02 */
        {32, 'X', 1, FORE_EVENTLOG_SPEC_ID},        /* no signature at all */
        {48, 7, 4, FORE_EVENTLOG_SPEC_ID},          /* platform class */
        {52, 1, 1, FORE_EVENTLOG_SPEC_ID},          /* version 2.1 */
        {53, 1, 1, FORE_EVENTLOG_SPEC_ID},          /* version 1.0 */
        {55, 0, 1, FORE_EVENTLOG_SPEC_ID},          /* size of a UINTN */
        {56, 0, 4, FORE_EVENTLOG_SPEC_ID},          /* algorithms: none */
        {56, 0xffffffff, 4, FORE_EVENTLOG_SPEC_ID}, /* four billion */
        {56, 9, 4, FORE_EVENTLOG_SPEC_ID},          /* more than there are */
        {60, 0x0c, 2, FORE_EVENTLOG_SPEC_ID},       /* SHA-384 of 20 bytes */
        {62, 0, 2, FORE_EVENTLOG_SPEC_ID},          /* digest of no bytes */
        {62, 0xffff, 2, FORE_EVENTLOG_SPEC_ID},     /* digest of 64 KiB */
        {60, 0x0b, 2, FORE_EVENTLOG_SPEC_ID},       /* an algorithm twice */
        {64, 0x0777, 2, FORE_EVENTLOG_BANK},        /* no SHA-256 */
        {68, 1, 1, FORE_EVENTLOG_SPEC_ID},          /* vendor information that is not there */
        {28, 0xffffffff, 4, FORE_EVENTLOG_SPEC_ID}, /* event of 4 GiB */
        {28, 36, 4, FORE_EVENTLOG_SPEC_ID},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GByteArray) log = fore_test_eventlog_new(true);
        uint32_t le = GUINT32_TO_LE(bad[i].value);

        fore_test_eventlog_separator(log, 0);
        memcpy(log->data + bad[i].at, &le, bad[i].size);
        assert_bytes(log, bad[i].reason);
    }
}

static void test_vendor_info(void)
{
    g_autoptr(GByteArray) log = fore_test_eventlog_new(false);
    g_autoptr(GByteArray) boot = fore_test_eventlog_boot();
    guint head = log->len;

    log->data[28] += 4;
    log->data[head - 1] = 4;
    g_byte_array_append(log, (const uint8_t *)"\xde\xad\xbe\xef", 4);
    g_byte_array_append(log, boot->data + head, boot->len - head);
    assert_strict(log, FORE_EVENTLOG_OK);
}

static void test_digests(void)
{
    static const struct {
        unsigned at; /* in the second event */
        uint16_t value;
        ForeEventlogReason reason;
    } bad[] = {
        {8, 0, FORE_EVENTLOG_MALFORMED},     /* no digest */
        {8, 3, FORE_EVENTLOG_MALFORMED},     /* more than announced */
        {12, 0x0c, FORE_EVENTLOG_MALFORMED}, /* not announced */
        {12, 0x0b, FORE_EVENTLOG_MALFORMED}, /* the same twice, or layout lost */
        {0, 24, FORE_EVENTLOG_MALFORMED},    /* no such PCR */
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GByteArray) log = fore_test_eventlog_new(true);
        guint at = log->len + bad[i].at;
        uint16_t le = GUINT16_TO_LE(bad[i].value);

        fore_test_eventlog_separator(log, 0);
        memcpy(log->data + at, &le, 2);
        assert_bytes(log, bad[i].reason);
    }
}

/* An event that reached the SHA-1 bank only leaves nothing in what is quoted. */
static void test_missing_bank(void)
{
    g_autoptr(GByteArray) log = fore_test_eventlog_new(true);

    fore_put_le32(log, 4);
    fore_put_le32(log, FORE_EV_EFI_BOOT_SERVICES_APPLICATION);
    fore_put_le32(log, 1);
    fore_put_le16(log, FORE_ALG_SHA1);
    g_byte_array_append(log, (const uint8_t *)"01234567890123456789", 20);
    fore_put_le32(log, 0);
    assert_bytes(log, FORE_EVENTLOG_BANK);
}

static void test_sizes(void)
{
    static const uint32_t sizes[] = {5, 0x7fffffff, 0x80000000, 3200000000u, 0xffffffff};
    static const uint32_t counts[] = {2, 0x80000000, 0xffffffff};

    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autoptr(GByteArray) log = fore_test_eventlog_new(false);
        uint32_t le = GUINT32_TO_LE(sizes[i]);

        fore_test_eventlog_separator(log, 0);
        memcpy(log->data + log->len - 8, &le, 4);
        assert_bytes(log, FORE_EVENTLOG_TRUNCATED);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(counts); i++) {
        g_autoptr(GByteArray) log = fore_test_eventlog_new(false);
        guint at = log->len + 8;
        uint32_t le = GUINT32_TO_LE(counts[i]);

        fore_test_eventlog_separator(log, 0);
        memcpy(log->data + at, &le, 4);
        assert_bytes(log, FORE_EVENTLOG_MALFORMED);
    }
    {
        g_autoptr(GByteArray) log = fore_test_eventlog_new(false);

        g_byte_array_set_size(log, FORE_EVENTLOG_MAX + 1);
        assert_bytes(log, FORE_EVENTLOG_TOO_LARGE);
    }
}

/* --- 54 --- */

/* Device paths, images and lists within lists: nothing is walked that nests. */
static void test_bombs(void)
{
    g_autoptr(GByteArray) log = fore_test_eventlog_boot();
    g_autoptr(GByteArray) nested = g_byte_array_new();
    g_autoptr(GByteArray) lists = g_byte_array_new();
    g_autoptr(ForeDbx) dbx = fore_dbx_new();
    ForeEventlogPolicy policy = strict();

    for (unsigned i = 0; i < 200000; i++) { /* FilePath nodes of 4 bytes, then of 0 */
        fore_put_u8(nested, 4);
        fore_put_u8(nested, 4);
        fore_put_le16(nested, i % 2 == 0 ? 4 : 0);
    }
    fore_test_eventlog_add(log, 4, FORE_EV_EFI_BOOT_SERVICES_APPLICATION, nested->data, nested->len,
                           NULL);
    fore_test_eventlog_variable(log, FORE_EV_EFI_VARIABLE_AUTHORITY, "db", nested->data,
                                nested->len);
    policy.dbx = dbx;
    assert_judged(log, &policy, FORE_EVENTLOG_OK);
    /* Signature lists whose sizes lead nowhere: zero, one less than a header, more than there is.
     */
    for (unsigned size = 0; size < 64; size++) {
        g_byte_array_set_size(lists, 0);
        for (unsigned i = 0; i < 16; i++) {
            fore_put_u8(lists, 0x26);
        }
        fore_put_le32(lists, size);
        fore_put_le32(lists, 0);
        fore_put_le32(lists, size % 3 == 0 ? 0 : 17);
        g_byte_array_append(lists, nested->data, 8);
        g_assert_false(fore_dbx_add_lists(dbx, lists->data, lists->len, NULL));
    }
    g_assert_cmpuint(fore_dbx_size(dbx), ==, 0);
}

/* --- 55 --- */

static void test_truncated(void)
{
    g_autoptr(GByteArray) log = fore_test_eventlog_boot();
    ForeEventlogPolicy policy = strict();
    uint8_t proved[24][32];

    fore_test_eventlog_proved(log, proved);
    for (guint n = 0; n < log->len; n++) {
        g_autoptr(GBytes) cut = g_bytes_new(log->data, n);
        ForeEventlogResult result;

        g_assert_cmpint(fore_eventlog_judge(cut, &policy, (const uint8_t(*)[32])proved, &result),
                        !=, FORE_EVENTLOG_OK);
    }
}

/* --- 56 and 57 --- */

static void test_absent(void)
{
    g_autoptr(GByteArray) log = fore_test_eventlog_boot();
    ForeEventlogPolicy policy = strict();
    uint8_t proved[24][32];

    fore_test_eventlog_proved(log, proved);
    policy.pcr_mask |= 1u << 11;
    assert_against(log, &policy, proved, FORE_EVENTLOG_OK); /* proved initial, no event */
    proved[11][31] = 1;
    assert_against(log, &policy, proved, FORE_EVENTLOG_ABSENT);
    proved[11][31] = 0;
    proved[9][0] ^= 1;
    assert_against(log, &policy, proved, FORE_EVENTLOG_REPLAY);
}

static GByteArray *with_locality(uint8_t locality, unsigned times, bool late)
{
    GByteArray *log = fore_test_eventlog_new(false);
    uint8_t data[17] = "StartupLocality";

    data[16] = locality;
    if (late) {
        fore_test_eventlog_text(log, 0, 0x08, "firmware");
    }
    for (unsigned i = 0; i < times; i++) {
        fore_test_eventlog_add(log, 0, FORE_EV_NO_ACTION, data, sizeof(data), NULL);
    }
    fore_test_eventlog_text(log, 0, 0x08, "firmware");
    return log;
}

static ForeEventlogReason replay(const GByteArray *log, bool dynamic, ForeEventlogReplay *ret)
{
    g_autoptr(GBytes) bytes = fore_test_bytes(log);

    return fore_eventlog_replay(bytes, FORE_ALG_SHA256, dynamic, false, ret);
}

/* PCR 0 as a TPM has it that was started from @locality and then measured one event. */
static void expect_pcr0(uint8_t locality, const char *text, uint8_t ret[32])
{
    uint8_t both[64] = {0};

    both[31] = locality;
    fore_test_sha256(text, both + 32);
    g_assert_cmpint(EVP_Digest(both, sizeof(both), ret, NULL, EVP_sha256(), NULL), ==, 1);
}

static void test_locality(void)
{
    ForeEventlogReplay r;
    uint8_t want[32];

    for (unsigned locality = 0; locality < 256; locality++) {
        g_autoptr(GByteArray) log = with_locality((uint8_t)locality, 1, false);
        bool good = locality == 0 || locality == 3 || locality == 4;

        assert_reason(replay(log, false, &r), good ? FORE_EVENTLOG_OK : FORE_EVENTLOG_LOCALITY);
        if (good) {
            expect_pcr0((uint8_t)locality, "firmware", want);
            g_assert_cmpmem(r.pcrs[0], 32, want, 32);
        }
    }
    {
        g_autoptr(GByteArray) twice = with_locality(3, 2, false);
        g_autoptr(GByteArray) late = with_locality(3, 1, true);

        assert_reason(replay(twice, false, &r), FORE_EVENTLOG_LOCALITY);
        assert_reason(replay(late, false, &r), FORE_EVENTLOG_LOCALITY);
    }
}

static void test_hcrtm(void)
{
    g_autoptr(GByteArray) log = fore_test_eventlog_new(false);
    ForeEventlogReplay r;
    uint8_t want[32];

    fore_test_eventlog_text(log, 0, FORE_EV_EFI_HCRTM, "HCRTM");
    assert_reason(replay(log, false, &r), FORE_EVENTLOG_OK);
    expect_pcr0(4, "HCRTM", want);
    g_assert_cmpmem(r.pcrs[0], 32, want, 32);
}

static void test_drtm(void)
{
    g_autoptr(GByteArray) log = fore_test_eventlog_new(false);
    ForeEventlogReplay r;
    uint8_t value[32];

    assert_reason(replay(log, false, &r), FORE_EVENTLOG_OK);
    for (unsigned pcr = 0; pcr < 24; pcr++) {
        memset(value, pcr >= 17 && pcr <= 22 ? 0xff : 0, sizeof(value));
        g_assert_cmpmem(r.pcrs[pcr], 32, value, 32);
    }
    assert_reason(replay(log, true, &r), FORE_EVENTLOG_OK);
    memset(value, 0, sizeof(value));
    for (unsigned pcr = 0; pcr < 24; pcr++) {
        g_assert_cmpmem(r.pcrs[pcr], 32, value, 32);
    }
}

/* --- 58 --- */

static GByteArray *separated(unsigned skip, unsigned twice, const void *value, size_t size)
{
    GByteArray *log = fore_test_eventlog_new(false);

    for (unsigned pcr = 0; pcr < 8; pcr++) {
        for (unsigned k = 0; k < (pcr == skip ? 0u : pcr == twice ? 2u : 1u); k++) {
            fore_test_eventlog_add(log, pcr, FORE_EV_SEPARATOR, pcr == 1 ? value : "\0\0\0",
                                   pcr == 1 ? size : 4, NULL);
        }
    }
    return log;
}

static void test_separators(void)
{
    ForeEventlogPolicy policy = {.pcr_mask = 0xff};

    for (unsigned pcr = 0; pcr < 8; pcr++) {
        g_autoptr(GByteArray) missing = separated(pcr, 99, "\0\0\0", 4);
        g_autoptr(GByteArray) twice = separated(99, pcr, "\0\0\0", 4);

        policy.allow_missing_separator = policy.allow_duplicate_separator = false;
        assert_judged(missing, &policy, FORE_EVENTLOG_SEPARATOR_MISSING);
        assert_judged(twice, &policy, FORE_EVENTLOG_SEPARATOR_TWICE);
        policy.allow_missing_separator = policy.allow_duplicate_separator = true;
        assert_judged(missing, &policy, FORE_EVENTLOG_OK);
        assert_judged(twice, &policy, FORE_EVENTLOG_OK);
    }
    policy.allow_separator_ff = false;
    {
        g_autoptr(GByteArray) ff = separated(99, 99, "\xff\xff\xff\xff", 4);
        g_autoptr(GByteArray) error = separated(99, 99, "\1\0\0\0", 4);
        g_autoptr(GByteArray) text = separated(99, 99, "WBCL", 4);
        g_autoptr(GByteArray) longer = separated(99, 99, "\0\0\0\0", 5);

        assert_judged(ff, &policy, FORE_EVENTLOG_SEPARATOR_ERROR);
        policy.allow_separator_ff = true;
        assert_judged(ff, &policy, FORE_EVENTLOG_OK);
        assert_judged(error, &policy, FORE_EVENTLOG_SEPARATOR_ERROR);
        assert_judged(text, &policy, FORE_EVENTLOG_SEPARATOR_ERROR);
        assert_judged(longer, &policy, FORE_EVENTLOG_SEPARATOR_ERROR);
    }
}

static void test_early_application(void)
{
    g_autoptr(GByteArray) log = fore_test_eventlog_new(false);
    ForeEventlogPolicy policy = {.pcr_mask = 0x10};

    fore_test_eventlog_text(log, 4, FORE_EV_EFI_BOOT_SERVICES_APPLICATION, "image");
    fore_test_eventlog_separator(log, 4);
    assert_judged(log, &policy, FORE_EVENTLOG_ORDER);
    policy.allow_early_application = true;
    assert_judged(log, &policy, FORE_EVENTLOG_OK);
}

static void test_no_handover(void)
{
    g_autoptr(GByteArray) log = fore_test_eventlog_new(false);
    ForeEventlogPolicy policy = {.pcr_mask = 0x20, .require_exit_boot_services = true};
    static const uint8_t other[32] = {1};

    fore_test_eventlog_separator(log, 5);
    assert_judged(log, &policy, FORE_EVENTLOG_NO_HANDOVER);
    fore_test_eventlog_text(log, 5, FORE_EV_EFI_ACTION, "Exit Boot Services Invocation");
    fore_test_eventlog_text(log, 5, FORE_EV_EFI_ACTION, "Exit Boot Services Returned with Failure");
    assert_judged(log, &policy, FORE_EVENTLOG_NO_HANDOVER);
    fore_test_eventlog_add(log, 5, FORE_EV_EFI_ACTION, "Exit Boot Services Returned with Success",
                           40, other); /* words over another digest */
    assert_judged(log, &policy, FORE_EVENTLOG_NO_HANDOVER);
    fore_test_eventlog_text(log, 5, FORE_EV_EFI_ACTION, "Exit Boot Services Returned with Success");
    assert_judged(log, &policy, FORE_EVENTLOG_OK);
}

/* --- 59 --- */

/* @value: of SecureBoot; NULL: the variable is not measured */
static GByteArray *configured(const void *value, size_t size, const char *pk)
{
    GByteArray *log = fore_test_eventlog_new(false);
    static const char *const rest[] = {"KEK", "db", "dbx"};

    if (value != NULL) {
        fore_test_eventlog_variable(log, FORE_EV_EFI_VARIABLE_DRIVER_CONFIG, "SecureBoot", value,
                                    size);
    }
    fore_test_eventlog_variable(log, FORE_EV_EFI_VARIABLE_DRIVER_CONFIG, "PK", pk, strlen(pk));
    for (unsigned i = 0; i < G_N_ELEMENTS(rest); i++) {
        fore_test_eventlog_variable(log, FORE_EV_EFI_VARIABLE_DRIVER_CONFIG, rest[i], "k", 1);
    }
    fore_test_eventlog_separator(log, 7);
    return log;
}

static void test_secure_boot(void)
{
    static const struct {
        const void *value;
        size_t size;
        const char *pk;
        ForeEventlogReason reason;
    } cases[] = {
        {"\1", 1, "key", FORE_EVENTLOG_OK},
        {"\0", 1, "key", FORE_EVENTLOG_SECURE_BOOT},
        {"", 0, "key", FORE_EVENTLOG_SECURE_BOOT},
        {"\2", 1, "key", FORE_EVENTLOG_SECURE_BOOT},
        {"\1\0", 2, "key", FORE_EVENTLOG_SECURE_BOOT},
        {NULL, 0, "key", FORE_EVENTLOG_SECURE_BOOT},
        {"\1", 1, "", FORE_EVENTLOG_SECURE_BOOT}, /* setup mode */
    };
    ForeEventlogPolicy policy = {.pcr_mask = 0x80, .require_secure_boot = true};

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GByteArray) log = configured(cases[i].value, cases[i].size, cases[i].pk);

        assert_judged(log, &policy, cases[i].reason);
    }
}

static void test_data_mismatch(void)
{
    g_autoptr(GByteArray) log = fore_test_eventlog_new(false);
    g_autoptr(GByteArray) on = configured("\1", 1, "key");
    g_autoptr(GByteArray) off = configured("\0", 1, "key");
    ForeEventlogPolicy policy = {.pcr_mask = 0x80, .require_secure_boot = true};
    uint8_t proved[24][32];
    size_t first = type_at(on, 1) - 4; /* end of the SecureBoot event */

    /* What was measured says off; the log's data says on, the digest is left as it was. */
    fore_test_eventlog_proved(off, proved);
    g_byte_array_append(log, off->data + log->len, off->len - log->len);
    log->data[first - 1] = 1;
    assert_against(log, &policy, proved, FORE_EVENTLOG_DATA_MISMATCH);
}

static void test_debug_and_audit(void)
{
    ForeEventlogPolicy policy = {.pcr_mask = 0x80, .require_secure_boot = true};
    g_autoptr(GByteArray) debug = configured("\1", 1, "key");
    g_autoptr(GByteArray) audit = fore_test_eventlog_new(false);
    g_autoptr(GByteArray) good = configured("\1", 1, "key");

    fore_test_eventlog_text(debug, 7, FORE_EV_EFI_ACTION, "UEFI Debug Mode");
    assert_judged(debug, &policy, FORE_EVENTLOG_DEBUG);
    policy.allow_debug = true;
    assert_judged(debug, &policy, FORE_EVENTLOG_OK);
    fore_test_eventlog_variable(audit, FORE_EV_EFI_VARIABLE_DRIVER_CONFIG, "AuditMode", "\1", 1);
    g_byte_array_append(audit, good->data + 65, good->len - 65);
    assert_judged(audit, &policy, FORE_EVENTLOG_SECURE_BOOT);
}

/* --- 60 --- */

static GBytes *self_signed(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    uint8_t *der = NULL;
    int size;
    GBytes *ret;

    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 7);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const uint8_t *)"signer", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    X509_time_adj_ex(X509_getm_notBefore(cert), -1, 0, NULL);
    X509_time_adj_ex(X509_getm_notAfter(cert), 1, 0, NULL);
    X509_set_pubkey(cert, key);
    g_assert_cmpint(X509_sign(cert, key, EVP_sha256()), >, 0);
    size = i2d_X509(cert, &der);
    ret = g_bytes_new(der, (gsize)size);
    OPENSSL_free(der);
    X509_free(cert);
    EVP_PKEY_free(key);
    return ret;
}

static void put_authority(GByteArray *log, GBytes *der, bool owner)
{
    g_autoptr(GByteArray) data = g_byte_array_new();

    if (owner) {
        g_byte_array_append(data, (const uint8_t *)"owner-of-16bytes", 16);
    }
    g_byte_array_append(data, g_bytes_get_data(der, NULL), (guint)g_bytes_get_size(der));
    fore_test_eventlog_variable(log, FORE_EV_EFI_VARIABLE_AUTHORITY, owner ? "db" : "Shim",
                                data->data, data->len);
}

static void test_forbidden_image(void)
{
    static const uint32_t types[] = {FORE_EV_EFI_BOOT_SERVICES_APPLICATION, 0x80000004, 0x0d, 0x01};
    g_autoptr(ForeDbx) dbx = fore_dbx_new();
    ForeEventlogPolicy policy = strict();
    uint8_t digest[32];

    fore_test_sha256("bad image", digest);
    g_assert_true(fore_dbx_add_digest(dbx, digest, NULL));
    policy.dbx = dbx;
    for (unsigned i = 0; i < G_N_ELEMENTS(types); i++) { /* whatever it is called */
        g_autoptr(GByteArray) log = fore_test_eventlog_boot();

        assert_judged(log, &policy, FORE_EVENTLOG_OK);
        fore_test_eventlog_add(log, 4, types[i], "path", 4, digest);
        assert_judged(log, &policy, FORE_EVENTLOG_FORBIDDEN);
    }
}

static void test_forbidden_signer(void)
{
    g_autoptr(GBytes) der = self_signed(), other = self_signed();

    for (unsigned owner = 0; owner < 2; owner++) {
        g_autoptr(GByteArray) log = fore_test_eventlog_boot();
        g_autoptr(ForeDbx) dbx = fore_dbx_new();
        ForeEventlogPolicy policy = strict();

        policy.dbx = dbx;
        g_assert_true(
            fore_dbx_add_cert(dbx, g_bytes_get_data(der, NULL), g_bytes_get_size(der), NULL));
        put_authority(log, other, owner);
        assert_judged(log, &policy, FORE_EVENTLOG_OK);
        put_authority(log, der, owner);
        assert_judged(log, &policy, FORE_EVENTLOG_FORBIDDEN);
    }
}

/* --- 61, 62, 63 --- */

static void test_reordered(void)
{
    g_autoptr(GByteArray) one = fore_test_eventlog_new(false);
    g_autoptr(GByteArray) two = fore_test_eventlog_new(false);
    g_autoptr(GByteArray) across = fore_test_eventlog_new(false);
    ForeEventlogPolicy policy = {.pcr_mask = 0x300};
    uint8_t proved[24][32];

    fore_test_eventlog_text(one, 8, 0x0d, "a");
    fore_test_eventlog_text(one, 8, 0x0d, "b");
    fore_test_eventlog_text(one, 9, 0x0d, "c");
    fore_test_eventlog_text(two, 8, 0x0d, "b");
    fore_test_eventlog_text(two, 8, 0x0d, "a");
    fore_test_eventlog_text(two, 9, 0x0d, "c");
    fore_test_eventlog_text(across, 9, 0x0d, "c");
    fore_test_eventlog_text(across, 8, 0x0d, "a");
    fore_test_eventlog_text(across, 8, 0x0d, "b");
    fore_test_eventlog_proved(one, proved);
    assert_against(two, &policy, proved, FORE_EVENTLOG_REPLAY);
    assert_against(across, &policy, proved, FORE_EVENTLOG_OK); /* no PCR records it */
}

static void test_empty(void)
{
    g_autoptr(GByteArray) empty = g_byte_array_new();
    g_autoptr(GByteArray) bogus = g_byte_array_new();
    ForeEventlogPolicy policy = strict();
    ForeEventlogResult result;
    uint8_t proved[24][32] = {{0}};

    g_byte_array_append(bogus, (const uint8_t *)"this is no event log, only a few words", 38);
    assert_against(empty, &policy, proved, FORE_EVENTLOG_MISSING);
    assert_reason(fore_eventlog_judge(NULL, &policy, (const uint8_t(*)[32])proved, &result),
                  FORE_EVENTLOG_MISSING);
    assert_against(bogus, &policy, proved, FORE_EVENTLOG_SPEC_ID);
}

static void test_bad_policies(void)
{
    g_autoptr(GByteArray) log = fore_test_eventlog_boot();
    ForePcrDigest unsorted[2] = {{.pcr = 9}, {.pcr = 8}};
    ForePcrDigest outside[1] = {{.pcr = 14}};
    ForeEventlogPolicy bad[] = {
        {.pcr_mask = 0},
        {.pcr_mask = 0x7f, .require_secure_boot = true},
        {.pcr_mask = 0x8f, .require_exit_boot_services = true},
        {.pcr_mask = MASK, .events = unsorted, .n_events = 2},
        {.pcr_mask = MASK, .events = outside, .n_events = 1},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_judged(log, &bad[i], FORE_EVENTLOG_POLICY);
    }
}

static void test_unlisted(void)
{
    g_autoptr(GByteArray) log = fore_test_eventlog_new(false);
    ForePcrDigest events[2] = {{.pcr = 8}, {.pcr = 8}};
    ForeEventlogPolicy policy = {.pcr_mask = 0x300, .events = events, .n_events = 2};

    fore_test_sha256("a", events[0].digest);
    fore_test_sha256("b", events[1].digest);
    qsort(events, 2, sizeof(events[0]), fore_pcr_digest_compare);
    fore_test_eventlog_text(log, 8, 0x0d, "b");
    fore_test_eventlog_text(log, 9, 0x0d, "c"); /* not restricted by digest */
    assert_judged(log, &policy, FORE_EVENTLOG_OK);
    fore_test_eventlog_text(log, 8, 0x0d, "c");
    assert_judged(log, &policy, FORE_EVENTLOG_UNLISTED);
}

static void test_sha1_only(void)
{
    g_autoptr(GByteArray) log = fore_test_eventlog_new(true);

    log->data[56] = 1; /* one algorithm: SHA-1 */
    log->data[28] = 33;
    memmove(log->data + 64, log->data + 68, 1);
    g_byte_array_set_size(log, 65);
    assert_bytes(log, FORE_EVENTLOG_BANK);
}

/* --- 96 --- */

static void test_resettable(void)
{
    g_autoptr(GByteArray) log = fore_test_eventlog_boot();

    for (unsigned pcr = 16; pcr < 24; pcr++) {
        ForeEventlogPolicy policy = {.pcr_mask = MASK | 1u << pcr};

        assert_judged(log, &policy, FORE_EVENTLOG_POLICY);
    }
}

/* --- every single bit --- */

/*
 * Bytes that may change without a refusal, because nothing is concluded from them: of the Spec ID
 * event the platform class, errata and UINTN size; the type of an event outside PCR 7 (only to
 * another type of the profile, never to or from a separator); and data that is not looked at, which
 * is all outside PCR 7, separators and ExitBootServices.
 */
static bool may_change(const GByteArray *log, guint at)
{
    g_autoptr(GBytes) bytes = fore_test_bytes(log);
    ForeEventlogReader reader;
    ForeEvent event;
    bool found = false;

    if (at < 65) {
        return at == 48 || at == 54 || at == 55;
    }
    fore_eventlog_reader_init(&reader, bytes, FORE_ALG_SHA256);
    while (!found && fore_eventlog_next(&reader, &event)) {
        found = at < (size_t)(reader.at - reader.start);
    }
    g_assert_true(found);
    if (event.pcr == 7 || event.type == FORE_EV_SEPARATOR ||
        (event.pcr == 5 && event.type == FORE_EV_EFI_ACTION)) {
        return false;
    }
    return (at >= event.offset + 4 && at < event.offset + 8) ||
           at >= (size_t)(reader.at - reader.start) - event.size;
}

static void test_bit_flips(void)
{
    g_autoptr(GByteArray) log = fore_test_eventlog_boot();
    ForeEventlogPolicy policy = strict();
    uint8_t proved[24][32];
    unsigned accepted = 0;

    fore_test_eventlog_proved(log, proved);
    for (guint bit = 0; bit < 8 * log->len; bit++) {
        g_autoptr(GBytes) bytes = NULL;
        ForeEventlogResult result;

        log->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        bytes = fore_test_bytes(log);
        log->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (fore_eventlog_judge(bytes, &policy, (const uint8_t(*)[32])proved, &result) ==
            FORE_EVENTLOG_OK) {
            g_assert_true(may_change(log, bit / 8));
            g_assert_cmpint(result.secure_boot, ==, FORE_SECURE_BOOT_ON);
            accepted++;
        }
    }
    g_assert_cmpuint(accepted, >, 0); /* the list above is not empty talk */
}

static void test_names(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (unsigned i = 0; i < FORE_EVENTLOG_N; i++) {
        const char *name = fore_eventlog_reason_name(i);

        g_assert_true(g_hash_table_add(seen, (gpointer)name));
        g_assert_true(i == 0 || g_str_has_prefix(name, "eventlog-"));
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*run)(void);
    } tests[] = {
        {"/attest/eventlog/a-good-boot-is-accepted", test_good},
        {"/attest/eventlog/names-are-stable-and-distinct", test_names},
        {"/attest/eventlog/every-bit-flip-is-refused-or-means-nothing", test_bit_flips},
        {"/attest/eventlog/an-unusable-policy-accepts-nothing", test_bad_policies},
        {"/attest/eventlog/an-unlisted-event-is-refused", test_unlisted},
        {"/attest/attack/50-relabelled-event", test_relabelled},
        {"/attest/attack/50-relabelled-separator", test_relabelled_separator},
        {"/attest/attack/50-appended-configuration", test_appended},
        {"/attest/attack/51-no-action-is-not-measured", test_no_action},
        {"/attest/attack/51-unknown-type-in-a-measured-pcr", test_unknown_type},
        {"/attest/attack/52-spec-id-event", test_spec_id},
        {"/attest/attack/52-vendor-information-is-skipped", test_vendor_info},
        {"/attest/attack/52-digests-of-an-event", test_digests},
        {"/attest/attack/52-event-outside-the-quoted-bank", test_missing_bank},
        {"/attest/attack/53-sizes-without-bytes", test_sizes},
        {"/attest/attack/54-nested-structures", test_bombs},
        {"/attest/attack/55-truncated-at-every-byte", test_truncated},
        {"/attest/attack/56-pcr-absent-from-the-log", test_absent},
        {"/attest/attack/57-startup-locality", test_locality},
        {"/attest/attack/57-hardware-crtm", test_hcrtm},
        {"/attest/attack/57-dynamic-launch", test_drtm},
        {"/attest/attack/58-separators", test_separators},
        {"/attest/attack/58-application-before-the-separator", test_early_application},
        {"/attest/attack/58-exit-boot-services-not-measured", test_no_handover},
        {"/attest/attack/59-secure-boot-undefined-is-not-on", test_secure_boot},
        {"/attest/attack/59-data-beside-its-digest", test_data_mismatch},
        {"/attest/attack/59-debug-and-audit-mode", test_debug_and_audit},
        {"/attest/attack/60-forbidden-image", test_forbidden_image},
        {"/attest/attack/60-forbidden-signer", test_forbidden_signer},
        {"/attest/attack/61-reordered", test_reordered},
        {"/attest/attack/62-empty-and-bogus-log", test_empty},
        {"/attest/attack/63-sha1-only-log", test_sha1_only},
        {"/attest/attack/96-resettable-pcrs-prove-nothing", test_resettable},
    };

    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add_func(tests[i].path, tests[i].run);
    }
    return g_test_run();
}
