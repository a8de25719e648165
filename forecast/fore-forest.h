/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Gradient boosting of regression trees for one quantile: each tree steps down the gradient of the
 * pinball loss, its leaves then take the quantile of what is left.
 * Friedman, Annals of Statistics 29(5), 2001, algorithm 3 (the same idea for the absolute error,
 * which is the pinball loss at 0.5); rows are drawn anew for each tree: Friedman, Computational
 * Statistics & Data Analysis 38(4), 2002.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_FOREST_MAX_FEATURE 512
#define FORE_FOREST_MAX_TREE    1000
#define FORE_FOREST_MAX_LEAF    64
#define FORE_FOREST_BINS        64 /* values of a feature are told apart in so many steps */
#define FORE_FOREST_LEAF        0xffff

typedef struct {
    uint16_t feature; /* FORE_FOREST_LEAF: a leaf */
    uint16_t left;    /* node of the same tree taken when x[feature] <= value; right is left + 1 */
    float value;      /* threshold, or what the leaf adds */
} ForeTreeNode;

typedef struct {
    unsigned n_feature, n_tree;
    float base;         /* the forecast before any tree */
    uint32_t *root;     /* [n_tree + 1]: where each tree begins in @node; the end of the last */
    ForeTreeNode *node; /* [root[n_tree]] */
} ForeForest;

/* The training set with every feature cut into bins; shared by forests, read only. */
typedef struct {
    size_t n;
    unsigned n_feature;
    uint8_t *bin; /* [n][n_feature] */
    float *edge;  /* [n_feature][BINS - 1], rising: bin b holds edge[b - 1] < x <= edge[b] */
} ForeBinned;

typedef struct {
    double level;      /* quantile, 0..1 */
    unsigned n_tree;   /* 1..FORE_FOREST_MAX_TREE */
    unsigned n_leaf;   /* of a tree, 2..FORE_FOREST_MAX_LEAF */
    unsigned min_rows; /* in a leaf, at least 1 */
    double rate;       /* share of a leaf's quantile that is added, 0..1 */
    double share;      /* of the rows, drawn for each tree, 0..1 */
    uint64_t seed;
} ForeForestConfig;

/** fore_binned_new: @x: [n][n_feature], finite; n at least 1 */
ForeBinned *fore_binned_new(const float *x, size_t n, unsigned n_feature);
void fore_binned_free(ForeBinned *binned);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeBinned, fore_binned_free)

/** fore_forest_fit: @y: [binned->n], finite. Same input, same seed: the same forest */
ForeForest *fore_forest_fit(const ForeBinned *binned, const float *y,
                            const ForeForestConfig *config);
void fore_forest_free(ForeForest *forest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeForest, fore_forest_free)

/** fore_forest_predict: @x: [n_feature] */
double fore_forest_predict(const ForeForest *forest, const float *x);
/** fore_forest_is_valid: children within their tree and after their parent (so that a walk ends),
 * features and numbers in range; what a decoder asks of a file */
bool fore_forest_is_valid(const ForeForest *forest);
