/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The PAM's files as somebody may have left them: ciphertext, audit log, anchors.  Nothing of it
 * may be taken without the key, and nothing may crash.
 */
#include <glib/gstdio.h>
#include <string.h>

#include "vtpm/pam/fore-anchor.h"
#include "vtpm/pam/fore-inventory-file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *path(void)
{
    static char *file;

    if (file == NULL) {
        int fd = g_file_open_tmp("fuzz-inventory-XXXXXX", &file, NULL);

        g_close(fd, NULL);
    }
    return file;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t key[FORE_INVENTORY_KEY_SIZE] = {1};
    g_autofree char *text = fore_inventory_decrypt(key, data, size, NULL);
    ForeAuditHead head;

    g_assert(text == NULL);
    if (g_file_set_contents(path(), (const char *)data, (gssize)size, NULL)) {
        g_autoptr(ForeAnchorList) anchors = fore_anchor_list_load(path(), NULL);
        uint8_t index[32], value[32];

        if (fore_audit_verify(path(), NULL, &head, NULL)) {
            /* a chain may be made up, but not one that ends in zeros */
            g_assert(head.lines == 0 || strspn(head.hash, "0") < 64);
        }
        if (anchors != NULL) {
            fore_anchor_list_value(anchors, anchors->heads->len, value);
        }
        g_assert(!fore_anchor_proof_check(path(), NULL, index, &head, NULL));
    }
    return 0;
}
