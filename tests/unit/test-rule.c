/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rules of a manifest: what is refused when it is read, and what the judges are told. */
#include <string.h>

#include "common/fore-error.h"
#include "common/fore-identity.h"
#include "vtpm/attest/fore-jws.h"
#include "vtpm/attest/fore-rule.h"

#define VM   "6b9f0c1e-2d3a-4b5c-8d7e-9f0a1b2c3d4e"
#define HEX  "65caf8dd1e0ea7a6347b635d2b379c93b9a1351edc2afc3ecda700e614eb3068"
#define HEAD "foresee-reference 1\nversion 3\n"

static const char good[] = HEAD "node hv1 pcr sha256:0 " HEX "\n"
                                "node hv1 event sha256:4 " HEX "\n"
                                "node hv1 log exit-boot-services\n"
                                "node hv1 log secure-boot\n"
                                "node hv1 max-age 30\n"
                                "profile debian ima exclude /var/lib/**\n"
                                "profile debian ima file sha256:" HEX " /usr/bin/a%20b\n"
                                "vm " VM " min-firmware 7\n"
                                "vm " VM " on-attest-failure relieve-memory\n"
                                "vm " VM " pathway hv1 sw1\n"
                                "vm " VM " profile debian\n";

static ForeReference *parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    ForeReference *ref = fore_reference_parse(text, strlen(text), &error);

    g_assert_no_error(error);
    return ref;
}

static void test_compiled(void)
{
    g_autoptr(ForeReference) ref = parse(good);
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeRules) rules = fore_rules_compile(ref, &error);
    g_autofree char *text = fore_reference_format(ref);
    const ForeSubjectRules *node, *vm, *nobody;

    g_assert_no_error(error);
    g_assert_cmpstr(text, ==, good);
    g_assert_cmpuint(fore_reference_size(ref), ==, 11);
    node = fore_rules_of(rules, FORE_SUBJECT_NODE, "hv1");
    g_assert_true(node->judged && node->wants_firmware && !node->wants_ima);
    g_assert_cmphex(node->mask, ==, 0xb1);
    g_assert_cmpuint(node->max_age_s, ==, 30);
    g_assert_true(node->evidence.log.require_secure_boot);
    g_assert_cmpuint(node->evidence.log.n_events, ==, 1);
    vm = fore_rules_of(rules, FORE_SUBJECT_VM, VM);
    g_assert_true(vm->judged && vm->wants_ima && !vm->wants_firmware);
    g_assert_cmphex(vm->mask, ==, 0x7ff);
    g_assert_cmpint(vm->on_failure, ==, FORE_ON_FAILURE_RELIEVE);
    g_assert_cmpstr(vm->pathway[1], ==, "sw1");
    g_assert_cmpuint(vm->evidence.min_firmware, ==, 7);
    nobody = fore_rules_of(rules, FORE_SUBJECT_NODE, "hv2");
    g_assert_false(nobody->judged);
    g_assert_cmphex(nobody->mask, ==, 0);
    g_assert_false(fore_rules_of(NULL, FORE_SUBJECT_NODE, "hv1")->judged);
}

static void test_signed(void)
{
    g_autoptr(ForeReference) ref = parse(good);
    g_autoptr(ForeIdentity) key = fore_identity_new("policy", NULL);
    g_autofree char *jws = fore_reference_sign(ref, fore_identity_key(key), NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeReference) back = fore_reference_verify(jws, fore_identity_key(key), &error);
    g_autofree char *text = NULL;

    g_assert_no_error(error);
    text = fore_reference_format(back);
    g_assert_cmpstr(text, ==, good);
}

static void refuse(const char *line, int code)
{
    g_autofree char *text = g_strconcat(HEAD, line, "\n", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeReference) ref = fore_reference_parse(text, strlen(text), &error);
    g_autoptr(ForeRules) rules = ref != NULL ? fore_rules_compile(ref, &error) : NULL;

    g_test_message("%s: %s", line, error != NULL ? error->message : "taken");
    g_assert_null(rules);
    g_assert_error(error, FORE_ERROR, code);
}

static void test_malformed(void)
{
    static const char *const bad[] = {
        "node hv1 event sha256:16 " HEX,
        "node hv1 event sha256:4 abcd",
        "node hv1 log",
        "node hv1 log secure-boot on",
        "node hv1 log allow everything",
        "node hv1 log vendor-type 123",
        "node hv1 ima file sha1:" HEX " /bin/sh",
        "node hv1 ima file sha256:" HEX " bin/sh",
        "node hv1 ima file sha256:" HEX,
        "node hv1 ima key !!!!",
        "node hv1 ima unknown x",
        "node hv1 max-age 0",
        "node hv1 max-age 1000000",
        "node hv1 pathway hv1",
        "node hv1 on-attest-failure hold",
        "vm " VM " on-attest-failure whatever",
        "vm " VM " pathway",
        "vm " VM " snp minimum tee=256",
        "vm " VM " snp measurement abcd",
        "profile p pcr sha256:0 " HEX,
        "profile p pathway hv1",
        "profile p profile q",
        "node hv1 profile none-of-that-name",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        refuse(bad[i], FORE_ERROR_INVALID);
    }
    refuse("vm " VM " pathway hv1\nvm " VM " pathway hv2", FORE_ERROR_INVALID);
    refuse("node hv1 max-age 7\nnode hv1 max-age 7", FORE_ERROR_EXISTS);
}

/* A pattern must not match everything, and must not be a language of its own. */
static void test_patterns(void)
{
    static const char *const bad[] = {
        "node hv1 ima exclude .*",        "node hv1 ima exclude /**",
        "node hv1 ima exclude /*",        "node hv1 ima exclude (a+)+$",
        "node hv1 ima exclude /x(a+)+$",  "node hv1 ima exclude /var/[a",
        "node hv1 ima exclude /v*/log/x", "node hv1 ima exclude /var/a|b",
    };
    GString *many = g_string_new(NULL);

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        refuse(bad[i], FORE_ERROR_INVALID);
    }
    for (unsigned i = 0; i <= FORE_RULE_EXCLUDES; i++) {
        g_string_append_printf(many, "node hv1 ima exclude /var/%u/**\n", i);
    }
    refuse(many->str, FORE_ERROR_LIMIT);
    g_string_free(many, TRUE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/attest/rule/judges-are-told-what-the-text-says", test_compiled);
    g_test_add_func("/attest/rule/signed-form-carries-the-same-rules", test_signed);
    g_test_add_func("/attest/rule/malformed-rules-are-refused", test_malformed);
    g_test_add_func("/attest/attack/71-pathological-patterns-are-refused-at-load", test_patterns);
    return g_test_run();
}
