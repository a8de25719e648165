/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The vTPM of one VM, from manufacture to removal.  Its state is encrypted with a key of its own
 * that is sealed to the host TPM's PCRs, and is started only when it is what the generation ledger
 * says the VM had last.  One process runs one vTPM (fore_vtpm_run()); it writes every change of the
 * state to the ledger.  Blocking; used by foresee-vtpm(8) only.
 *
 *   DIR/generations.*           the ledger
 *   DIR/UUID/{state/, key.sealed, ek.pub, lock}
 *   RUN/UUID.sock               for QEMU: -chardev socket,path=..., -tpmdev emulator
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vtpm/host/fore-generation.h"
#include "vtpm/host/fore-swtpm.h"

typedef struct {
    const char *tcti;    /* host TPM */
    const char *dir;     /* absolute; made with mode 0700 when missing */
    const char *run_dir; /* absolute, short: sockets live here */
    const char *ca_dir;  /* as in ForeSwtpmConfig */
    uint32_t pcr_mask;   /* of the host TPM: new keys are sealed to these PCRs; 0: to none */
} ForeVtpmHost;

/** fore_vtpm_create: Errors: FORE_ERROR_EXISTS, FORE_ERROR_INVALID (@uuid, directories), as
 * fore_swtpm_manufacture(), fore_tpm_open(), fore_generations_open() */
bool fore_vtpm_create(const ForeVtpmHost *host, const char *uuid, GError **error);

/** ForeVtpmReady: the socket listens; @adopted: an instance that outlived its supervisor goes on */
typedef void (*ForeVtpmReady)(const char *socket, bool adopted, gpointer data);
/**
 * fore_vtpm_run: start it, supervise it until QEMU has gone or SIGTERM or SIGINT comes, record each
 * change of its state; an instance that dies of itself is started again, at most 5 times a minute
 * @ready: may be NULL
 * Errors: FORE_ERROR_NOT_FOUND (no such vTPM), FORE_ERROR_EXISTS (it is running),
 * FORE_ERROR_UNTRUSTED (its state is not the one that it had last, or the key is refused)
 */
bool fore_vtpm_run(const ForeVtpmHost *host, const char *uuid, ForeVtpmReady ready, gpointer data,
                   GError **error);
/** fore_vtpm_stop: ask the supervisor to stop it, wait at most 10 s. Errors: NOT_FOUND (it does not
 * run), TIMEOUT */
bool fore_vtpm_stop(const ForeVtpmHost *host, const char *uuid, GError **error);
/** fore_vtpm_remove: state, key and entry of the ledger; the vTPM and what it sealed are gone.
 *  Errors: FORE_ERROR_EXISTS (it is running), FORE_ERROR_NOT_FOUND */
bool fore_vtpm_remove(const ForeVtpmHost *host, const char *uuid, GError **error);
/** fore_vtpm_accept: take the state as it is now for the newest; the operator answers for it.
 *  Errors: FORE_ERROR_EXISTS (it is running), FORE_ERROR_NOT_FOUND */
bool fore_vtpm_accept(const ForeVtpmHost *host, const char *uuid, GError **error);
/** fore_vtpm_reseal: seal the key anew to the PCRs of @host->pcr_mask; before firmware is changed
 *  seal to none, after it to the new values */
bool fore_vtpm_reseal(const ForeVtpmHost *host, const char *uuid, GError **error);

typedef enum {
    FORE_VTPM_STOPPED,
    FORE_VTPM_RUNNING,
    FORE_VTPM_REFUSED, /* state is not the one that the ledger has */
    FORE_VTPM_LIBVIRT, /* libvirt's: found, neither started nor watched */
} ForeVtpmState;
const char *fore_vtpm_state_name(ForeVtpmState state);
typedef struct {
    char uuid[37];
    ForeVtpmState state;
    uint64_t changes;
    int64_t changed_ms;
    char *path; /* of the state */
} ForeVtpmInfo;
void fore_vtpm_info_free(gpointer info);
/** fore_vtpm_list: ours, then those that libvirt keeps below @libvirt_dir (NULL: none are looked
 *  for).  Returns: (transfer full) GPtrArray of ForeVtpmInfo */
GPtrArray *fore_vtpm_list(const ForeVtpmHost *host, const char *libvirt_dir, GError **error);

/** fore_vtpm_socket: (transfer full) */
char *fore_vtpm_socket(const ForeVtpmHost *host, const char *uuid);
/** fore_vtpm_is_running: a supervisor holds the vTPM's lock */
bool fore_vtpm_is_running(const ForeVtpmHost *host, const char *uuid);
/** fore_vtpm_ek_digest: SHA-256 of the EK's TPM2B_PUBLIC, kept since manufacture */
bool fore_vtpm_ek_digest(const ForeVtpmHost *host, const char *uuid, uint8_t ret[32],
                         GError **error);
/** fore_vtpm_digest: SHA-256 over names, sizes and contents of the state's files, in order of name
 */
bool fore_vtpm_digest(const char *state_dir, uint8_t ret[32], GError **error);
