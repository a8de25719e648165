/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The life of one software TPM (swtpm 0.7 or later): manufacture its state with an EK certificate,
 * run it for QEMU (a vTPM) or for TSS clients (a test host TPM), stop it.  State is encrypted with
 * a key that is handed over through an anonymous file, never on a command line and never left
 * beside the state. Blocking: about 1 s to manufacture, milliseconds to start; call at start or
 * from a worker thread.
 */
#include <glib.h>
#include <stdbool.h>

#define FORE_SWTPM_KEY_BYTES 32 /* AES-256-CBC */

typedef struct {
    const char *state_dir; /* absolute; made with mode 0700 when missing */
    const char *vm_uuid;   /* 36 characters; goes into the EK certificate */
    GBytes *key;           /* FORE_SWTPM_KEY_BYTES; NULL is refused unless @clear_state */
    bool clear_state;      /* state unencrypted at rest: tests only */
    const char *ca_dir;    /* absolute: where swtpm_localca keeps its keys, made when missing;
                              NULL: /etc/swtpm_setup.conf decides */
} ForeSwtpmConfig;

/**
 * fore_swtpm_manufacture: make new TPM state with RSA-2048 EK, EK and platform certificates
 * Errors: FORE_ERROR_EXISTS (there is state already; it is left alone), FORE_ERROR_INVALID
 * (config), FORE_ERROR_UNAVAILABLE (swtpm_setup is missing), FORE_ERROR_FAILED (it failed: its last
 * words)
 */
bool fore_swtpm_manufacture(const ForeSwtpmConfig *config, GError **error);
/** fore_swtpm_is_manufactured: @state_dir holds TPM 2.0 state */
bool fore_swtpm_is_manufactured(const char *state_dir);
/** fore_swtpm_ca_pem: (transfer full) PEM of issuer and root certificate in @ca_dir, for
 *  fore_anchors_new(); NULL + NOT_FOUND before the first manufacture */
char *fore_swtpm_ca_pem(const char *ca_dir, GError **error);

typedef enum {
    FORE_SWTPM_FOR_QEMU, /* control socket SOCKET; opens its state when QEMU says so: a wrong key
                            shows as QEMU's failure to start; ends when QEMU goes away */
    FORE_SWTPM_FOR_TSS,  /* data socket SOCKET, control socket SOCKET.ctrl, started up */
} ForeSwtpmUse;

typedef struct ForeSwtpm ForeSwtpm;

/**
 * fore_swtpm_start: run it and wait until its sockets listen, at most 5 s
 * @socket: absolute path, shorter than 100 bytes; a stale file is replaced
 * @die_with_us: the kernel ends it when the calling thread ends
 * Errors: as fore_swtpm_manufacture(), FORE_ERROR_NOT_FOUND (no state), FORE_ERROR_TIMEOUT,
 *         FORE_ERROR_UNTRUSTED (it ends at once: wrong key or damaged state)
 */
ForeSwtpm *fore_swtpm_start(const ForeSwtpmConfig *config, ForeSwtpmUse use, const char *socket,
                            bool die_with_us, GError **error);
/** fore_swtpm_stop: SIGTERM, SIGKILL after 3 s; the state is complete on disk after it */
void fore_swtpm_stop(ForeSwtpm *swtpm);
void fore_swtpm_free(ForeSwtpm *swtpm); /* stops; NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeSwtpm, fore_swtpm_free)
bool fore_swtpm_is_alive(ForeSwtpm *swtpm);
int fore_swtpm_pid(ForeSwtpm *swtpm);                  /* 0 when it ended */
const char *fore_swtpm_socket(const ForeSwtpm *swtpm); /* as given */
const char *fore_swtpm_tcti(const ForeSwtpm *swtpm);   /* for fore_tpm_open(); NULL for QEMU */

/**
 * fore_swtpm_key_load_or_create: state key from @path (32 bytes, mode 0600, ours), made when
 * missing For where no better place exists; a key sealed to the host TPM (fore_tpm_seal()) is one.
 * Errors: FORE_ERROR_UNTRUSTED (others may read it), FORE_ERROR_INVALID, FORE_ERROR_UNAVAILABLE
 */
GBytes *fore_swtpm_key_load_or_create(const char *path, GError **error);
