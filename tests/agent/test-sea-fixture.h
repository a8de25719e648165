/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The real foresee-sea process over a fake /sys and a real software TPM, and the host's end of its
 * channel.  The program is named by the environment variable FORE_SEA.
 */
#include <glib.h>

#include "common/fore-error.h"
#include "common/fore-identity.h"
#include "common/fore-wire.h"
#include "tests/lib/fore-test-swtpm.h"
#include "tests/lib/fore-test-sysfs.h"
#include "vtpm/attest/fore-grant.h"

#define SEA_TEST_UUID    "6f2b1a54-0c3d-4e5f-8a9b-0c1d2e3f4a5b"
#define SEA_TEST_CALL_MS 20000
#define SEA_TEST_BLOCK   ((uint64_t)128 << 20)

typedef struct {
    ForeTestSysfs *sysfs; /* CPUs 0 to 2 of 8; blocks 0 to 3 online, 4 and 5 not */
    ForeIdentity *host, *pam;
    char *dir, *address; /* "unix:..." */
    const char *pins[2]; /* of the agent, or NULL: any */
    GPid pid;
    int log; /* the agent's stderr */
} SeaTest;

/** sea_test_new: @tpm: NULL for an agent whose TPM is not there */
SeaTest *sea_test_new(ForeTestSwtpm *tpm, const char *more_config);
void sea_test_free(SeaTest *test);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SeaTest, sea_test_free)

/** sea_test_connect: as the host whose pin the agent knows; fails the test when it cannot */
ForeClient *sea_test_connect(SeaTest *test);
ForeChannelConfig sea_test_channel(SeaTest *test, ForeIdentity *who);

/** sea_test_call: a command that must succeed */
json_t *sea_test_call(ForeClient *client, const char *command, json_t *arguments);
/** sea_test_refused: a command that must fail; returns the message (transfer full) */
char *sea_test_refused(ForeClient *client, const char *command, json_t *arguments,
                       ForeErrorCode code);
/** sea_test_event: the data of the next event of this name (transfer full) */
json_t *sea_test_event(ForeClient *client, const char *name);

/** sea_test_grant: a good grant for the agent behind @client: 3 vCPUs, 6 blocks, 60 s, next seq */
ForeGrant sea_test_grant(ForeClient *client);
/** sea_test_signed: {"grant": JWS} */
json_t *sea_test_signed(const ForeGrant *grant, ForeIdentity *signer);
int64_t sea_test_int(const json_t *object, const char *key);
