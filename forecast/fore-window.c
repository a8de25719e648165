/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-window.h"

#include <string.h>

void fore_window_init(ForeWindowed *win, unsigned capacity)
{
    g_assert(capacity > 0);
    win->capacity = capacity;
    win->n = 0;
    win->next = 0;
    win->ring = g_new0(float, capacity);
    win->sorted = g_new0(float, capacity);
}

void fore_window_done(ForeWindowed *win)
{
    g_clear_pointer(&win->ring, g_free);
    g_clear_pointer(&win->sorted, g_free);
}

/* The first place whose value is not below @value. */
static unsigned place_of(const float *sorted, unsigned n, float value)
{
    unsigned at = 0;

    while (n > 0) {
        unsigned half = n / 2;

        if (sorted[at + half] < value) {
            at += half + 1;
            n -= half + 1;
        } else {
            n = half;
        }
    }
    return at;
}

void fore_window_add(ForeWindowed *win, float value)
{
    float *s = win->sorted;
    unsigned to = place_of(s, win->n, value);

    if (win->n < win->capacity) {
        memmove(s + to + 1, s + to, (win->n - to) * sizeof(float));
        win->n++;
    } else {
        unsigned from = place_of(s, win->n, win->ring[win->next]);

        if (to > from) {
            to--;
            memmove(s + from, s + from + 1, (to - from) * sizeof(float));
        } else {
            memmove(s + to + 1, s + to, (from - to) * sizeof(float));
        }
    }
    s[to] = value;
    win->ring[win->next] = value;
    win->next = (win->next + 1) % win->capacity;
}

double fore_window_sorted_quantile(const float *sorted, unsigned n, double level)
{
    double at;
    unsigned i;

    if (n == 0) {
        return 0.0;
    }
    at = level * (double)(n - 1);
    i = (unsigned)at;
    if (i + 1 >= n) {
        return (double)sorted[n - 1];
    }
    return (double)sorted[i] + (at - (double)i) * ((double)sorted[i + 1] - (double)sorted[i]);
}

double fore_window_quantile(const ForeWindowed *win, double level)
{
    return fore_window_sorted_quantile(win->sorted, win->n, level);
}

void fore_window_sort(float *values, unsigned n)
{
    for (unsigned i = 1; i < n; i++) {
        float v = values[i];
        unsigned j = i;

        for (; j > 0 && values[j - 1] > v; j--) {
            values[j] = values[j - 1];
        }
        values[j] = v;
    }
}
