/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "profile/fore-series-csv.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/fore-error.h"

#define SHOWN 40 /* bytes of a bad cell that a message repeats */

/* Cells are never quoted in this form.  Returns: the length up to the comma or the end */
static size_t cell_len(const char *cell)
{
    return strcspn(cell, ",");
}

/* Without blanks around it */
static void trim(const char **cell, size_t *len)
{
    while (*len > 0 && (**cell == ' ' || **cell == '\t')) {
        (*cell)++;
        (*len)--;
    }
    while (*len > 0 && ((*cell)[*len - 1] == ' ' || (*cell)[*len - 1] == '\t')) {
        (*len)--;
    }
}

static bool bad_cell(const char *cell, size_t len, const char *should, GError **error)
{
    g_autofree char *text = g_strndup(cell, MIN(len, SHOWN)), *shown = g_strescape(text, NULL);

    g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "\"%s%s\" is no %s", shown,
                len > SHOWN ? "..." : "", should);
    return false;
}

bool fore_series_head_check(const char *line, GError **error)
{
    size_t first = cell_len(line), second = line[first] == ',' ? cell_len(line + first + 1) : 0;

    if (first != 9 || strncmp(line, "timestamp", 9) != 0 || second != 5 ||
        strncmp(line + 10, "value", 5) != 0) {
        return bad_cell(line, strlen(line), "head; the first line reads \"timestamp,value\"",
                        error);
    }
    return true;
}

/* The whole of @text as a number */
static bool to_number(const char *text, size_t len, double *ret)
{
    char copy[64], *end;

    if (len == 0 || len >= sizeof copy) {
        return false;
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    if (strpbrk(copy, "xXpP") != NULL || g_ascii_isspace(copy[0])) { /* no hexadecimal floats */
        return false;
    }
    *ret = g_ascii_strtod(copy, &end);
    return *end == '\0';
}

/* Exactly @n digits at *text, which moves past them; below 0: they are not there */
static int digits(const char **text, const char *end, unsigned n)
{
    int value = 0;

    for (unsigned i = 0; i < n; i++, (*text)++) {
        if (*text >= end || !g_ascii_isdigit(**text)) {
            return -1;
        }
        value = 10 * value + (**text - '0');
    }
    return value;
}

static bool take(const char **text, const char *end, const char *any_of)
{
    if (*text < end && **text != '\0' && strchr(any_of, **text) != NULL) {
        (*text)++;
        return true;
    }
    return false;
}

/* Days since 1970-01-01, proleptic Gregorian */
static double days_from(int year, int month, int day)
{
    GDate date;

    g_date_clear(&date, 1);
    g_date_set_dmy(&date, (GDateDay)day, (GDateMonth)month, (GDateYear)year);
    return (double)g_date_get_julian(&date) - 719163; /* GLib's day 1 is 0001-01-01 */
}

static bool to_date(const char *text, size_t len, double *ret)
{
    const char *end = text + len;
    int year, month, day, hour, minute, second = 0;
    double fraction = 0;

    year = digits(&text, end, 4);
    if (year < 1 || !take(&text, end, "-") || (month = digits(&text, end, 2)) < 1 ||
        !take(&text, end, "-") || (day = digits(&text, end, 2)) < 1 || month > 12 ||
        !g_date_valid_dmy((GDateDay)day, (GDateMonth)month, (GDateYear)year)) {
        return false;
    }
    if (!take(&text, end, " T") || (hour = digits(&text, end, 2)) < 0 || hour > 23 ||
        !take(&text, end, ":") || (minute = digits(&text, end, 2)) < 0 || minute > 59) {
        return false;
    }
    if (take(&text, end, ":") && ((second = digits(&text, end, 2)) < 0 || second > 60)) {
        return false;
    }
    if (take(&text, end, ".")) {
        double unit = 0.1;
        for (; text < end && g_ascii_isdigit(*text); text++, unit /= 10) {
            fraction += unit * (*text - '0');
        }
    }
    take(&text, end, "Z");
    *ret = days_from(year, month, day) * 86400 + hour * 3600 + minute * 60 + second + fraction;
    return text == end;
}

static bool is_gap(const char *text, size_t len)
{
    return len == 0 || (len == 3 && g_ascii_strncasecmp(text, "nan", 3) == 0) ||
           (len == 4 && g_ascii_strncasecmp(text, "null", 4) == 0);
}

bool fore_series_line_parse(const char *line, ForeSeriesLine *ret, GError **error)
{
    ForeSeriesLine l = {.stamp = line, .stamp_len = cell_len(line)};

    if (line[l.stamp_len] != ',') {
        return bad_cell(line, l.stamp_len, "line; it reads \"timestamp,value\"", error);
    }
    l.text = line + l.stamp_len + 1;
    l.text_len = cell_len(l.text);
    trim(&l.stamp, &l.stamp_len);
    trim(&l.text, &l.text_len);
    if (!to_date(l.stamp, l.stamp_len, &l.time_s) &&
        !(to_number(l.stamp, l.stamp_len, &l.time_s) && isfinite(l.time_s))) {
        return bad_cell(l.stamp, l.stamp_len,
                        "timestamp; write YYYY-MM-DD HH:MM:SS or seconds since 1970", error);
    }
    if (is_gap(l.text, l.text_len)) {
        l.value = (double)NAN;
    } else if (!to_number(l.text, l.text_len, &l.value) || !isfinite(l.value)) {
        return bad_cell(l.text, l.text_len, "value; write a finite number, or nothing for a gap",
                        error);
    }
    *ret = l;
    return true;
}
