/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Event logs of real machines: replayed against known PCRs, judged, cut at every byte. */
#include <jansson.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "tests/lib/fore-test-key.h"
#include "tests/unit/vectors.h"
#include "vtpm/attest/fore-eventlog.h"
#include "vtpm/attest/fore-public.h"

typedef struct {
    ForeEventlogReason strict;  /* under the strictest policy over PCR 0 to 7 */
    ForeEventlogReason lenient; /* with every exception that a policy can make */
    ForeSecureBoot secure_boot; /* under the lenient one */
    uint8_t locality;
} Want;

static void assert_reason(ForeEventlogReason got, ForeEventlogReason want)
{
    g_assert_cmpstr(fore_eventlog_reason_name(got), ==, fore_eventlog_reason_name(want));
}

/* --- known PCR values --- */

static uint16_t bank_of(const char *name)
{
    return g_str_has_prefix(name, "sha1")     ? FORE_ALG_SHA1
           : g_str_has_prefix(name, "sha256") ? FORE_ALG_SHA256
           : g_str_has_prefix(name, "sha384") ? FORE_ALG_SHA384
                                              : FORE_ALG_SHA512;
}

static void assert_pcr(GBytes *log, uint16_t bank, unsigned pcr, const char *hex)
{
    ForeEventlogReplay replay;
    g_autofree char *got = NULL;

    assert_reason(fore_eventlog_replay(log, bank, false, false, &replay), FORE_EVENTLOG_OK);
    got = fore_hex_encode(replay.pcrs[pcr], strlen(hex) / 2);
    g_assert_cmpstr(got, ==, hex);
}

static char *text_of(GBytes *bytes)
{
    return g_strndup(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
}

/* go-tpm-tools: file, case, bank, PCR, value */
static unsigned against_table(GBytes *log, const char *name)
{
    g_autoptr(GBytes) bytes = fore_test_vector("go-tpm-tools/eventlogs/pcr-values.tsv");
    g_autofree char *base = g_path_get_basename(name);
    g_autofree char *text = bytes != NULL ? text_of(bytes) : g_strdup("");
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    unsigned n = 0;

    for (unsigned i = 0; lines[i] != NULL; i++) {
        g_auto(GStrv) cell = g_strsplit(lines[i], "\t", 5);

        if (g_strv_length(cell) == 5 && strcmp(cell[0], base) == 0) {
            assert_pcr(log, bank_of(cell[2]), (unsigned)g_ascii_strtoull(cell[3], NULL, 10),
                       cell[4]);
            n++;
        }
    }
    return n;
}

/* tpm2-tools: below "pcrs:" a line a bank, then "    7  : 0x..." */
static unsigned against_yaml(GBytes *log, const char *name)
{
    g_autofree char *base = g_path_get_basename(name);
    g_autofree char *yaml = g_strdup_printf("tpm2-tools/eventlogs/expected/%s.yaml", base);
    g_autoptr(GBytes) bytes = fore_test_vector(yaml);
    g_autofree char *text = bytes != NULL ? text_of(bytes) : g_strdup("");
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    bool inside = false;
    uint16_t bank = 0;
    unsigned n = 0;

    for (unsigned i = 0; lines[i] != NULL; i++) {
        const char *value = strstr(lines[i], ": 0x");

        inside = inside || strcmp(lines[i], "pcrs:") == 0;
        if (inside && value == NULL) {
            bank = bank_of(g_strstrip(lines[i]));
        } else if (inside) {
            assert_pcr(log, bank, (unsigned)g_ascii_strtoull(lines[i], NULL, 10), value + 4);
            n++;
        }
    }
    return n;
}

/* --- judgement --- */

static const uint32_t vendor_types[] = {0x8401}; /* of one firmware */

static ForeEventlogPolicy lenient(uint32_t mask)
{
    return (ForeEventlogPolicy){
        .pcr_mask = mask,
        .allow_missing_separator = true,
        .allow_duplicate_separator = true,
        .allow_early_application = true,
        .allow_debug = true,
        .vendor_types = vendor_types,
        .n_vendor_types = G_N_ELEMENTS(vendor_types),
    };
}

static void proved_by(const ForeEventlogReplay *replay, uint8_t ret[24][32])
{
    for (unsigned pcr = 0; pcr < 24; pcr++) {
        memcpy(ret[pcr], replay->pcrs[pcr], 32);
    }
}

/* Cut anywhere, a log is refused; only behind the last extended event is there nothing to lose. */
static void assert_cuts(GBytes *log, uint8_t proved[24][32])
{
    ForeEventlogPolicy policy = lenient(0xffff);
    ForeEventlogReader reader;
    ForeEvent event;
    ForeEventlogResult result;
    gsize size = g_bytes_get_size(log), needed = 0;

    assert_reason(fore_eventlog_reader_init(&reader, log, FORE_ALG_SHA256), FORE_EVENTLOG_OK);
    while (fore_eventlog_next(&reader, &event)) {
        if (event.type != FORE_EV_NO_ACTION && event.pcr < 16) {
            needed = (gsize)(reader.at - reader.start);
        }
    }
    for (gsize n = 0; n < size; n++) {
        g_autoptr(GBytes) cut = g_bytes_new_from_bytes(log, 0, n);
        ForeEventlogReason reason =
            fore_eventlog_judge(cut, &policy, (const uint8_t(*)[32])proved, &result);

        g_assert_true(reason != FORE_EVENTLOG_OK || n >= needed);
    }
}

static void check_log(const ForeVector *vector, GBytes *log)
{
    const Want *want = vector->param;
    ForeEventlogPolicy policy = {.pcr_mask = 0xff};
    ForeEventlogReplay replay;
    ForeEventlogResult result;
    uint8_t proved[24][32] = {{0}};
    ForeEventlogReason reason = fore_eventlog_replay(log, FORE_ALG_SHA256, false, false, &replay);

    if (reason != FORE_EVENTLOG_OK) {
        assert_reason(reason, want->strict);
        assert_reason(fore_eventlog_judge(log, &policy, (const uint8_t(*)[32])proved, &result),
                      want->strict);
        return;
    }
    g_assert_cmpuint(replay.startup_locality, ==, want->locality);
    proved_by(&replay, proved);
    assert_reason(fore_eventlog_judge(log, &policy, (const uint8_t(*)[32])proved, &result),
                  want->strict);
    policy = lenient(0xffff);
    assert_reason(fore_eventlog_judge(log, &policy, (const uint8_t(*)[32])proved, &result),
                  want->lenient);
    g_assert_cmpint(result.secure_boot, ==, want->secure_boot);
    policy.require_secure_boot = true;
    assert_reason(fore_eventlog_judge(log, &policy, (const uint8_t(*)[32])proved, &result),
                  want->secure_boot == FORE_SECURE_BOOT_ON ? want->lenient
                                                           : FORE_EVENTLOG_SECURE_BOOT);
    proved[4][0] ^= 1;
    assert_reason(fore_eventlog_judge(log, &policy, (const uint8_t(*)[32])proved, &result),
                  (replay.extended >> 4 & 1u) != 0 ? FORE_EVENTLOG_REPLAY : FORE_EVENTLOG_ABSENT);
    proved[4][0] ^= 1;
    assert_cuts(log, proved);
}

static void check_go(const ForeVector *vector, GBytes *log)
{
    g_assert_cmpuint(against_table(log, vector->name), >=, 8);
    check_log(vector, log);
}

static void check_tpm2(const ForeVector *vector, GBytes *log)
{
    against_yaml(log, vector->name);
    check_log(vector, log);
}

/* --- confidential guests: another bank, other registers, a padded area --- */

static const char *const algs[] = {"SHA-384", "SM3"};
static const uint16_t alg_ids[] = {FORE_ALG_SHA384, 0x0012};

static void assert_event(const ForeEvent *event, const json_t *want, size_t digest_size)
{
    g_autofree char *hex = fore_hex_encode(event->digest, digest_size);
    g_autofree char *data = fore_b64_encode(event->data, event->size);

    g_assert_cmpint((int)event->pcr, ==, (int)json_integer_value(json_object_get(want, "index")));
    g_assert_cmpstr(data, ==, json_string_value(json_object_get(want, "event")));
    g_assert_cmpstr(hex, ==,
                    json_string_value(json_object_get(
                        json_array_get(json_object_get(want, "digests"), 0), "digest")));
}

static void check_ccel(const ForeVector *vector, GBytes *log)
{
    g_autofree char *name = g_strconcat(vector->name, "_out.json", NULL);
    g_autoptr(GBytes) bytes = fore_test_vector(name);
    unsigned alg = *(const unsigned *)vector->param;
    ForeEventlogPolicy policy = {.pcr_mask = 0x06};
    ForeEventlogResult result;
    ForeEventlogReader reader;
    ForeEventlogReplay replay;
    uint8_t proved[24][32] = {{0}};
    ForeEvent event;
    size_t i = 0;
    json_t *want;

    g_assert_nonnull(bytes);
    want = json_loadb(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), 0, NULL);
    g_assert_nonnull(strstr(g_bytes_get_data(bytes, NULL), algs[alg]));
    assert_reason(fore_eventlog_reader_init(&reader, log, alg_ids[alg]), FORE_EVENTLOG_OK);
    fore_eventlog_reader_allow_padding(&reader);
    while (fore_eventlog_next(&reader, &event)) {
        assert_event(&event, json_array_get(json_object_get(want, "uefi_event_logs"), i++),
                     reader.digest_size);
    }
    assert_reason(reader.reason, FORE_EVENTLOG_OK);
    g_assert_cmpuint(i, ==, json_array_size(json_object_get(want, "uefi_event_logs")));
    json_decref(want);
    assert_reason(fore_eventlog_replay(log, alg_ids[alg], false, true, &replay), FORE_EVENTLOG_OK);
    /* As a TPM's log it is refused: padding, and no SHA-256 bank. */
    g_assert_cmpint(fore_eventlog_replay(log, alg_ids[alg], false, false, &replay), !=,
                    FORE_EVENTLOG_OK);
    assert_reason(fore_eventlog_judge(log, &policy, (const uint8_t(*)[32])proved, &result),
                  FORE_EVENTLOG_BANK);
}

/* --- forbidden lists: of the logs, which have images or signers on them? --- */

static void check_dbx(const ForeVector *vector, GBytes *bytes)
{
    g_autoptr(ForeDbx) dbx = fore_dbx_new();
    g_autoptr(GError) error = NULL;
    gsize size;
    const uint8_t *data = g_bytes_get_data(bytes, &size);

    fore_dbx_add_lists(dbx, data, size, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(fore_dbx_size(dbx), ==, *(const unsigned *)vector->param);
    for (gsize n = 0; n < size; n += 1 + size / 512) {
        g_autoptr(ForeDbx) cut = fore_dbx_new();

        if (!fore_dbx_add_lists(cut, data, n, NULL)) {
            g_assert_cmpuint(fore_dbx_size(cut), ==, 0);
        }
    }
}

static ForeEventlogReason judge_with(GBytes *log, const ForeDbx *dbx)
{
    ForeEventlogPolicy policy = lenient(0xff);
    ForeEventlogReplay replay;
    ForeEventlogResult result;
    uint8_t proved[24][32];

    assert_reason(fore_eventlog_replay(log, FORE_ALG_SHA256, false, false, &replay),
                  FORE_EVENTLOG_OK);
    proved_by(&replay, proved);
    policy.dbx = dbx;
    return fore_eventlog_judge(log, &policy, (const uint8_t(*)[32])proved, &result);
}

/* A certificate that signed what ran is revoked: the boot is refused, and only that. */
static void check_signer(const ForeVector *vector, GBytes *der)
{
    g_autoptr(ForeDbx) dbx = fore_dbx_new();
    g_autoptr(GBytes) rhel = fore_test_vector("go-tpm-tools/eventlogs/rhel8-uefi.bin");
    g_autoptr(GBytes) cos = fore_test_vector("go-tpm-tools/eventlogs/cos-93-amd-sev.bin");
    const bool *signed_rhel = vector->param;

    g_assert_true(fore_dbx_add_cert(dbx, g_bytes_get_data(der, NULL), g_bytes_get_size(der), NULL));
    assert_reason(judge_with(rhel, dbx), *signed_rhel ? FORE_EVENTLOG_FORBIDDEN : FORE_EVENTLOG_OK);
    assert_reason(judge_with(cos, dbx), FORE_EVENTLOG_OK);
}

#define OK  FORE_EVENTLOG_OK
#define ON  FORE_SECURE_BOOT_ON
#define OFF FORE_SECURE_BOOT_OFF
#define UNK FORE_SECURE_BOOT_UNKNOWN
static const Want on = {OK, OK, ON, 0}, off = {OK, OK, OFF, 0}, unknown = {OK, OK, UNK, 0};
static const Want early = {FORE_EVENTLOG_ORDER, OK, OFF, 3};
static const Want vendor = {FORE_EVENTLOG_UNKNOWN_TYPE, OK, OFF, 0};
static const Want legacy = {FORE_EVENTLOG_LEGACY, FORE_EVENTLOG_LEGACY, UNK, 0};
static const Want bogus = {FORE_EVENTLOG_SPEC_ID, FORE_EVENTLOG_SPEC_ID, UNK, 0};
static const Want empty = {FORE_EVENTLOG_MISSING, FORE_EVENTLOG_MISSING, UNK, 0};
static const Want fragment = {FORE_EVENTLOG_SEPARATOR_MISSING, OK, UNK, 0};
static const unsigned sha384 = 0, sm3 = 1;
static const unsigned dbx_2014 = 13, dbx_2020 = 186, dbx_2021 = 211;
static const bool signs_rhel = true, signs_nothing = false;

#define GO(name, want)                                                                             \
    {                                                                                              \
        "go-tpm-tools/eventlogs/" name, check_go, &want                                            \
    }
#define TPM2(name, want)                                                                           \
    {                                                                                              \
        "tpm2-tools/eventlogs/" name, check_tpm2, &want                                            \
    }
#define YAML(name)                                                                                 \
    {                                                                                              \
        "tpm2-tools/eventlogs/expected/" name ".yaml", NULL, NULL                                  \
    }
#define CCEL(name, alg)                                                                            \
    {"trustee/ccel/" name, check_ccel, &alg},                                                      \
    {                                                                                              \
        "trustee/ccel/" name "_out.json", NULL, NULL                                               \
    }
#define BOOT(name, check, want)                                                                    \
    {                                                                                              \
        "go-tpm-tools/secure-boot/" name, check, &want                                             \
    }

const ForeVector fore_vectors_eventlog[] = {
    GO("arch-linux-workstation.bin", unknown),
    GO("cos-85-amd-sev.bin", on),
    GO("cos-93-amd-sev.bin", on),
    {"go-tpm-tools/eventlogs/debian-10.bin", check_log, &legacy},
    GO("eventlogwithsp800155.bin", on),
    GO("rhel8-uefi.bin", on),
    GO("ubuntu-1804-amd-sev.bin", off),
    GO("ubuntu-2104-no-secure-boot.bin", off),
    {"go-tpm-tools/eventlogs/pcr-values.tsv", NULL, NULL},
    {"keylime/eventlogs/binary_bios_measurements", check_log, &early},
    {"keylime/eventlogs/binary_bios_measurements-bogus", check_log, &bogus},
    {"keylime/eventlogs/binary_bios_measurements-empty", check_log, &empty},
    {"keylime/eventlogs/binary_bios_measurements-secureboot", check_log, &on},
    {"keylime/eventlogs/mb_log.bin", check_log, &on},
    {"rust-keylime/eventlogs/uefi_log.bin", check_log, &vendor},
    TPM2("event-arch-linux.bin", unknown),
    TPM2("event-bootorder.bin", off),
    TPM2("event-gce-ubuntu-2104-log.bin", off),
    TPM2("event-moklisttrusted.bin", on),
    TPM2("event-postcode.bin", on),
    TPM2("event-sd-boot-fedora37.bin", unknown),
    {"tpm2-tools/eventlogs/event-uefi-sha1-log.bin", check_log, &legacy},
    TPM2("event-uefiaction.bin", fragment),
    TPM2("event-uefiservices.bin", fragment),
    TPM2("event-uefivar.bin", fragment),
    TPM2("event.bin", fragment),
    /* its vendor information lies behind the event that announces it: a fixture, no log */
    {"tpm2-tools/eventlogs/specid-vendordata.bin", check_log, &bogus},
    YAML("event-arch-linux.bin"),
    YAML("event-bootorder.bin"),
    YAML("event-gce-ubuntu-2104-log.bin"),
    YAML("event-moklisttrusted.bin"),
    YAML("event-postcode.bin"),
    YAML("event-sd-boot-fedora37.bin"),
    YAML("event-uefi-sha1-log.bin"),
    YAML("event-uefiaction.bin"),
    YAML("event-uefiservices.bin"),
    YAML("event-uefivar.bin"),
    YAML("event.bin"),
    YAML("specid-vendordata.bin"),
    CCEL("CCEL_AAEL_alibabacloud", sha384),
    CCEL("CCEL_data_csv", sm3),
    CCEL("CCEL_data_grub", sha384),
    CCEL("CCEL_data_ovmf", sha384),
    BOOT("dbxupdate-2014-08-11.bin", check_dbx, dbx_2014),
    BOOT("dbxupdate_x64-2020-10-12.bin", check_dbx, dbx_2020),
    BOOT("dbxupdate_x64-2021-04-29.bin", check_dbx, dbx_2021),
    BOOT("GcePk.crt", check_signer, signs_nothing),
    BOOT("MicCorKEKCA2011_2011-06-24.crt", check_signer, signs_nothing),
    BOOT("MicCorUEFCA2011_2011-06-27.crt", check_signer, signs_rhel),
    BOOT("MicWinProPCA2011_2011-10-19.crt", check_signer, signs_nothing),
    BOOT("canonical-boothole.crt", check_signer, signs_nothing),
    BOOT("cisco-boothole.crt", check_signer, signs_nothing),
    BOOT("debian-boothole.crt", check_signer, signs_nothing),
};
const unsigned fore_n_vectors_eventlog = G_N_ELEMENTS(fore_vectors_eventlog);
