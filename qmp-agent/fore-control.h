/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* foreseed's control socket: QMP conventions, root and the socket's group only (file mode). */
#include "qmp-agent/fore-agent.h"

typedef struct ForeControl ForeControl;

/** fore_control_new: listens on @config's address. Errors: FORE_ERROR_EXISTS (in use), UNAVAILABLE
 */
ForeControl *fore_control_new(ForeAgent *agent, GError **error);
void fore_control_free(ForeControl *control);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeControl, fore_control_free)
