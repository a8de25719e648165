/* SPDX-License-Identifier: GPL-2.0-or-later */
/* EK certificates from a node: two bytes give the length of the TPM2B_PUBLIC, which they precede;
 * then the certificate.  And the same bytes as a CA bundle. */
#include <glib.h>
#include <stdint.h>

#include "vtpm/attest/fore-ekcert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of a throw-away CA; its key was never kept. */
static const char anchor[] = "-----BEGIN CERTIFICATE-----\n"
                             "MIIBazCCARGgAwIBAgIUcqHK9hXjAknYHybmDZIvB0iRXPIwCgYIKoZIzj0EAwIw\n"
                             "EjEQMA4GA1UEAwwHZnV6eiBDQTAeFw0yNjExMjMxOTIxMDhaFw00NjAxMjIxOTIx\n"
                             "MDhaMBIxEDAOBgNVBAMMB2Z1enogQ0EwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC\n"
                             "AARo028a5FW4vZerI4aM9yOx0e+KcKLkDvi90ex8TJciRONh0LJzdCUn9xZbWOgD\n"
                             "PSdqVqz7cya4LQJxhWesACRWo0UwQzASBgNVHRMBAf8ECDAGAQH/AgEAMA4GA1Ud\n"
                             "DwEB/wQEAwIBBjAdBgNVHQ4EFgQUqWZNGeRdMVnFgVJWA5GLC1PDedcwCgYIKoZI\n"
                             "zj0EAwIDSAAwRQIhAMB4Y1iVORVF+lwN+dwFqJyf6nuAEcYGZ2KkREvrCqMhAiA8\n"
                             "SaFB72tVNl+lGhFzBYX6MfaPMlMHoOsUmcF1IaT9Ew==\n"
                             "-----END CERTIFICATE-----\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static ForeAnchors *anchors;
    g_autoptr(GBytes) public = NULL, der = NULL;
    g_autoptr(ForeAnchors) other = fore_anchors_new((const char *)data, size, NULL);
    g_autofree char *name = NULL;
    ForeEkcertPolicy policy = {.now_s = 1790000000, .allow_missing_crl = true};
    size_t first;

    if (anchors == NULL) {
        anchors = fore_anchors_new(anchor, sizeof(anchor) - 1, NULL);
        g_assert_nonnull(anchors);
    }
    if (size < 2) {
        return 0;
    }
    first = MIN((size_t)data[0] << 8 | data[1], size - 2);
    public = g_bytes_new(data + 2, first);
    der = g_bytes_new(data + 2 + first, size - 2 - first);
    policy.anchors = anchors;
    fore_ekcert_verify(der, public, &policy);
    if (other != NULL) {
        policy.anchors = other;
        fore_ekcert_verify(der, public, &policy);
    }
    name = fore_ekcert_common_name(der);
    g_assert_true(name == NULL || g_str_is_ascii(name));
    return 0;
}
