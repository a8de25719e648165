/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The real foreseed as a process in a directory of its own, and a client of its control socket.
 * The program is named by the environment variable FORE_FORESEED.  Everything runs on one
 * GMainContext, so that scripted peers answer while the test waits; every wait has a deadline.
 */
#include <glib.h>

#include "common/fore-error.h"
#include "qmp-agent/fore-link.h"

#define FORESEED_TEST_DEADLINE_S 40

typedef struct {
    GMainContext *context;
    char *dir, *config, *control; /* paths; control is "unix:..." */
    GPid pid;                     /* 0: not running */
    bool exited;
    int status; /* as waitpid() has it, once exited */
    GSource *child, *log_source;
    int log_fd;
    GString *log;      /* what it wrote to stderr */
    ForeLink *link;    /* to its control socket */
    GPtrArray *events; /* json_t {"event", "data"}, since the test began */
    unsigned seen;     /* events that foreseed_test_event() has gone past */
} ForeseedTest;

/** foreseed_test_new: @more: further lines of the configuration, or NULL.  Nothing runs yet. */
ForeseedTest *foreseed_test_new(const char *more);
void foreseed_test_free(ForeseedTest *t); /* a running foreseed must end with 0 on SIGTERM */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeseedTest, foreseed_test_free)

/** foreseed_test_path: @name in the test's directory (transfer full) */
char *foreseed_test_path(const ForeseedTest *t, const char *name);
/** foreseed_test_configure: write the configuration anew with these further lines */
void foreseed_test_configure(ForeseedTest *t, const char *more);
void foreseed_test_start(ForeseedTest *t); /* until its control socket answers */
/** foreseed_test_start_fails: run until it ends. Returns: exit code; what it said is in t->log */
int foreseed_test_start_fails(ForeseedTest *t);
int foreseed_test_stop(ForeseedTest *t);  /* SIGTERM; returns the exit code */
void foreseed_test_kill(ForeseedTest *t); /* SIGKILL */

/** foreseed_test_ask: one command. Returns: the answer (transfer full), or NULL with @error */
json_t *foreseed_test_ask(ForeseedTest *t, const char *command, json_t *arguments, GError **error);
/** foreseed_test_call: a command that must succeed (transfer full) */
json_t *foreseed_test_call(ForeseedTest *t, const char *command, json_t *arguments);
void foreseed_test_do(ForeseedTest *t, const char *command, json_t *arguments);
/** foreseed_test_refused: a command that must fail so; the message must hold @part */
void foreseed_test_refused(ForeseedTest *t, const char *command, json_t *arguments,
                           ForeErrorCode code, const char *part);

/** foreseed_test_event: data (borrowed) of the next event @name whose @key is the text @value
 *  (@key NULL: any); earlier events are passed over */
const json_t *foreseed_test_event(ForeseedTest *t, const char *name, const char *key,
                                  const char *value);
/** foreseed_test_count: events @name so far */
unsigned foreseed_test_count(const ForeseedTest *t, const char *name);

/** foreseed_test_vm: one VM as query-vms shows it (transfer full) */
json_t *foreseed_test_vm(ForeseedTest *t, const char *name);
/** foreseed_test_wait_state: until query-vms shows @name in @state */
void foreseed_test_wait_state(ForeseedTest *t, const char *name, const char *state);
/** foreseed_test_add: vm-add with sockets "NAME.qmp", "NAME.sea" and page "NAME.page" in t->dir
 * @policy: (transfer full) object or NULL */
void foreseed_test_add(ForeseedTest *t, const char *name, const char *uuid, json_t *policy);
json_t *foreseed_test_record(const ForeseedTest *t, const char *name, const char *uuid);

gboolean foreseed_test_too_late(gpointer data);

/* Runs the loop until @expression is true. */
#define WAIT_FOR(t, expression)                                                                    \
    do {                                                                                           \
        GSource *timer_ = g_timeout_source_new_seconds(FORESEED_TEST_DEADLINE_S);                  \
        g_source_set_callback(timer_, foreseed_test_too_late, (gpointer) #expression, NULL);       \
        g_source_attach(timer_, (t)->context);                                                     \
        while (!(expression)) {                                                                    \
            g_main_context_iteration((t)->context, TRUE);                                          \
        }                                                                                          \
        g_source_destroy(timer_);                                                                  \
        g_source_unref(timer_);                                                                    \
    } while (0)
