/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines of timestamp,value: what is taken points into the line and is finite; scores stay in range.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "profile/fore-detect.h"
#include "profile/fore-series-csv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *line, ForeDetect *d)
{
    g_autoptr(GError) error = NULL;
    size_t len = strlen(line);
    ForeSeriesLine l;
    double score;

    if (fore_series_line_parse(line, &l, &error) == (error != NULL)) {
        abort();
    }
    if (error != NULL) {
        if (!g_utf8_validate(error->message, -1, NULL)) {
            abort();
        }
        return;
    }
    if (l.stamp < line || l.stamp + l.stamp_len > line + len || l.text < line ||
        l.text + l.text_len > line + len || !isfinite(l.time_s) || isinf(l.value)) {
        abort();
    }
    score = fore_detect_score(d, l.time_s, l.value);
    if (!(score >= 0 && score < 1)) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size); /* up to a zero byte */
    g_auto(GStrv) lines = g_strsplit(text, "\n", 500);
    g_autoptr(ForeDetect) d = fore_detect_new();
    g_autoptr(GError) error = NULL;
    char reason[100];

    if (fore_series_head_check(lines[0] != NULL ? lines[0] : "", &error) == (error != NULL)) {
        abort();
    }
    for (unsigned i = 0; lines[0] != NULL && lines[i] != NULL; i++) {
        check(lines[i], d);
    }
    fore_detect_reason(d, "value", reason, sizeof reason);
    return 0;
}
