/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CSV and Prometheus answers from hostile bytes: what is told is named and finite. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "common/fore-flow.h"
#include "profile/fore-import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool tell(const char *vm, const char *metric, int64_t t_ms, double value, gpointer n,
                 GError **error)
{
    g_assert(vm == NULL || fore_name_is_valid(vm));
    g_assert(fore_name_is_valid(metric) && isfinite(value));
    (*(unsigned *)n)++;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) csv_error = NULL, json_error = NULL;
    unsigned whole = 0, cut = 0, n = 0;
    ForeImportCsv *a = fore_import_csv_new(tell, &whole), *b = fore_import_csv_new(tell, &cut);
    size_t half = size / 2;
    bool ok = fore_import_csv_feed(a, (const char *)data, size, &csv_error) &&
              fore_import_csv_end(a, &csv_error);
    bool same = fore_import_csv_feed(b, (const char *)data, half, NULL) &&
                fore_import_csv_feed(b, (const char *)data + half, size - half, NULL) &&
                fore_import_csv_end(b, NULL);

    g_assert(ok == same && (!ok || whole == cut)); /* wherever it is cut */
    g_assert(ok == (csv_error == NULL));
    g_assert(fore_import_prometheus((const char *)data, size, "domain", "vm", tell, &n,
                                    &json_error) == (json_error == NULL));
    fore_import_csv_free(a);
    fore_import_csv_free(b);
    return 0;
}
