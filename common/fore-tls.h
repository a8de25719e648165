/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * One TLS 1.3 session over memory BIOs: bytes in, bytes out, no file descriptor.  Internal to
 * fore-channel.c; a module of its own so that it can be fuzzed and tested without a loop.
 */
#include <stdbool.h>

#include "common/fore-channel.h"

typedef struct ForeTls ForeTls;

/** fore_tls_new: @config's mode must be one of the TLS ones. Errors: FORE_ERROR_FAILED */
ForeTls *fore_tls_new(const ForeChannelConfig *config, GError **error);
void fore_tls_free(ForeTls *tls);

/** fore_tls_feed: bytes from the peer. Errors: FORE_ERROR_LIMIT */
bool fore_tls_feed(ForeTls *tls, const void *bytes, size_t size, GError **error);
/** fore_tls_handshake: go on; *ret_done says whether it is complete (and the pin accepted).
 *  Errors: FORE_ERROR_UNTRUSTED (pin), FORE_ERROR_INVALID (protocol) */
bool fore_tls_handshake(ForeTls *tls, bool *ret_done, GError **error);
/** fore_tls_read: decrypted bytes; *ret_size 0 means none now; *ret_end: close_notify was received
 */
bool fore_tls_read(ForeTls *tls, void *buf, size_t max, size_t *ret_size, bool *ret_end,
                   GError **error);
/** fore_tls_write: encrypt all of @bytes */
bool fore_tls_write(ForeTls *tls, const void *bytes, size_t size, GError **error);
void fore_tls_shutdown(ForeTls *tls); /* queues close_notify */
/** fore_tls_drain: append what must be sent to the peer */
void fore_tls_drain(ForeTls *tls, GByteArray *out);
const char *fore_tls_peer_pin(const ForeTls *tls);
