/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The newest values of a stream, kept sorted, so that any quantile is one look-up.  An addition
 * moves at most `capacity` floats; memory is fixed at creation.
 */
#include <glib.h>
#include <stdbool.h>

typedef struct {
    unsigned capacity; /* values kept, 1.. */
    unsigned n;        /* values held, 0..capacity */
    unsigned next;     /* where the next value goes in @ring */
    float *ring;       /* [capacity] in order of arrival */
    float *sorted;     /* [capacity], the first @n rising */
} ForeWindowed;

void fore_window_init(ForeWindowed *win, unsigned capacity);
void fore_window_done(ForeWindowed *win);
/** fore_window_add: @value finite; the oldest leaves when the window is full */
void fore_window_add(ForeWindowed *win, float value);
/** fore_window_quantile: @level: 0..1, linear between neighbours; 0 when empty */
double fore_window_quantile(const ForeWindowed *win, double level);

/** fore_window_sorted_quantile: the same of any rising array; @sorted: [n] */
double fore_window_sorted_quantile(const float *sorted, unsigned n, double level);
/** fore_window_sort: rising, in place; @values: [n], n small (insertion sort) */
void fore_window_sort(float *values, unsigned n);
