/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The store on the wire: what `foresee store` asks for (docs/wire-format.md).  Served by foreseed,
 * and by foresee-store for a file that no daemon has open.  Long jobs run in steps on the loop, one
 * at a time; nothing blocks but the TPM or token of a new key, which has a thread.
 */
#include "common/fore-wire.h"
#include "profile/fore-store.h"
#include "qmp-agent/fore-config.h"

typedef struct ForeStoreView ForeStoreView;

/**
 * fore_store_view_new
 * @store, @config: borrowed; @config NULL: no key can be changed
 * @alone: nobody else waits for this loop: a whole verification may block it
 */
ForeStoreView *fore_store_view_new(GMainContext *context, ForeStore *store,
                                   const ForeConfig *config, bool alone);
void fore_store_view_free(ForeStoreView *view); /* ends a job; NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeStoreView, fore_store_view_free)

/**
 * fore_store_view_call: answer @call if it is one of the store's
 * Returns: false: it is not.  True with @error: the caller fails the call with it
 */
bool fore_store_view_call(ForeStoreView *view, ForeCall *call, GError **error);
