/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The peers of a foreseed under test, scripted: a guest (SEA) and an attestation manager (PAM),
 * both ForeWire servers behind TLS 1.3.  The guest brings online what QEMU has and a grant allows.
 * All of them, and the scripted QEMU, write what they were asked into one timeline.
 */
#include "tests/agent/test-foreseed-fixture.h"
#include "tests/lib/fore-test-qmp.h"

typedef struct {
    GMainContext *context;
    int fd;
    char *address;
    GSource *source;
    ForeIdentity *identity;
    ForeWire *wire; /* one client; a new one replaces it */
    const ForeWireOps *ops;
    gpointer data;
} TestServer;

typedef struct {
    TestServer server;
    GPtrArray *timeline;
    ForeTestQmp *qmp;
    GSource *ticker;
    /* what it reports */
    double cpu_busy, runnable, psi_mem;
    uint64_t mem_used, seq;
    /* what it may bring online, and how it behaves */
    unsigned granted_vcpus;
    uint64_t granted_mem;
    bool slow;           /* brings nothing more online for now */
    bool refuses_grants; /* sea-grant: Untrusted */
    bool mute;           /* does not answer sea-attest and sea-grant */
    unsigned online;     /* while slow: vCPUs that were online before */
    uint64_t online_mem;
    unsigned sessions;
    GPtrArray *kept; /* ForeCall that are never answered */
} TestSea;

typedef struct {
    TestServer server;
    GPtrArray *timeline;
    const char *reason;  /* NULL: affirms; else contraindicated with guest:reason */
    const char *verdict; /* of a refusal; "contraindicated" */
    const char *mute;    /* "begin" or "finish": never answered */
    bool no_grant;       /* affirms, yet gives no grant */
    int64_t lifetime_s;
    unsigned sessions;
    json_t *finish;  /* arguments of the newest finish */
    GPtrArray *kept; /* ForeCall that are never answered */
} TestPam;

/** Rig: one foreseed, one VM "web1" in enforce with the reactive rule, and its peers */
typedef struct {
    ForeseedTest *t;
    GPtrArray *timeline; /* "qmp:device_add", "sea:sea-grant", "pam:begin", in order */
    ForeTestQmp *qmp;
    TestSea *sea;
    TestPam *pam;
} Rig;

#define RIG_UUID "6f2b1a54-0c3d-4e5f-8a9b-0c1d2e3f4a5b"
#define RIG_MIB  (G_GUINT64_CONSTANT(1) << 20)

/** rig_new: foreseed runs, the VM is added and "ok". @policy: KEY=VALUE,... beyond the usual, or
 *  NULL */
Rig *rig_new(const char *policy);
void rig_free(Rig *rig);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Rig, rig_free)
void rig_policy(Rig *rig, const char *policy); /* vm-set */

/** rig_index: of the first @what at or after @from, or -1 */
int rig_index(const Rig *rig, const char *what, unsigned from);
unsigned rig_count(const Rig *rig, const char *what);
/** rig_assert_order: these happened in this order (NULL-terminated); others may lie between */
void rig_assert_order(const Rig *rig, const char *const *what);
#define RIG_ORDER(...) ((const char *const[]){__VA_ARGS__, NULL})

TestSea *test_sea_new(GMainContext *context, const char *path, ForeTestQmp *qmp,
                      GPtrArray *timeline);
void test_sea_free(TestSea *sea);
/** test_sea_listen: false: the guest is gone; true: it is back, with a new session */
void test_sea_listen(TestSea *sea, bool on);
void test_sea_load(TestSea *sea, double busy, double runnable, uint64_t mem_used);
unsigned test_sea_vcpus(const TestSea *sea); /* online */
/** test_sea_hurry: from slow to usual; tells CAPACITY */
void test_sea_hurry(TestSea *sea);
/** test_sea_usage: one USAGE event as given. @ev_data: (transfer full) */
void test_sea_usage(TestSea *sea, json_t *ev_data);
json_t *test_sea_report(TestSea *sea); /* the next honest one (transfer full) */

TestPam *test_pam_new(GMainContext *context, const char *path, GPtrArray *timeline);
void test_pam_free(TestPam *pam);
void test_pam_listen(TestPam *pam, bool on);
