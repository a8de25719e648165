/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  The gradient of the pinball loss has two values only, so the histogram of a node
 * counts rows and rows above the present forecast, both in one 64-bit word: one addition a row and
 * feature.  Of two siblings the smaller is counted and the other subtracted.  The leaf with the
 * largest gain is split next.
 */
#include "forecast/fore-forest.h"

#include <math.h>
#include <string.h>

#include "forecast/fore-random.h"

#define BINS     FORE_FOREST_BINS
#define MAX_STEP 1e6f /* no leaf adds more: targets are asinh of something */

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

/* Edges at equal shares of (at most 20,000 of) the values. */
static void find_edges(const float *x, size_t n, unsigned n_feature, unsigned f, float *edge)
{
    size_t every = n / 20000 + 1;
    size_t m = (n + every - 1) / every;
    g_autofree float *v = g_new(float, m);

    for (size_t i = 0; i < m; i++) {
        v[i] = x[i * every * n_feature + f];
    }
    qsort(v, m, sizeof(float), compare_floats);
    for (unsigned b = 0; b < BINS - 1; b++) {
        edge[b] = v[MIN((size_t)((double)(b + 1) / BINS * (double)m), m - 1)];
    }
}

static uint8_t bin_of(const float *edge, float x)
{
    unsigned at = 0;

    for (unsigned n = BINS - 1; n > 0;) {
        unsigned half = n / 2;

        if (edge[at + half] < x) {
            at += half + 1;
            n -= half + 1;
        } else {
            n = half;
        }
    }
    return (uint8_t)at;
}

ForeBinned *fore_binned_new(const float *x, size_t n, unsigned n_feature)
{
    ForeBinned *b = g_new0(ForeBinned, 1);

    g_assert(n > 0 && n_feature > 0 && n_feature <= FORE_FOREST_MAX_FEATURE);
    b->n = n;
    b->n_feature = n_feature;
    b->bin = g_new(uint8_t, n * n_feature);
    b->edge = g_new(float, (size_t)n_feature *(BINS - 1));
    for (unsigned f = 0; f < n_feature; f++) {
        float *edge = b->edge + (size_t)f * (BINS - 1);

        find_edges(x, n, n_feature, f, edge);
        for (size_t i = 0; i < n; i++) {
            b->bin[i * n_feature + f] = bin_of(edge, x[i * n_feature + f]);
        }
    }
    return b;
}

void fore_binned_free(ForeBinned *b)
{
    if (b == NULL) {
        return;
    }
    g_free(b->bin);
    g_free(b->edge);
    g_free(b);
}

/* A leaf that may still be split, while a tree grows. */
typedef struct {
    uint32_t *rows; /* into Grower.rows */
    size_t n;
    uint64_t *histogram; /* [n_feature][BINS]: rows in the low half, rows above in the high half */
    uint16_t node;
    double gain; /* of the best split; below 0: none */
    unsigned feature;
    unsigned bin;
} Leaf;

typedef struct {
    const ForeBinned *binned;
    const ForeForestConfig *config;
    const float *y;
    float *forecast; /* [n] */
    uint8_t *above;  /* [n]: y > forecast */
    uint32_t *rows, *spare;
    float *residual; /* [n] scratch */
    uint64_t *histograms;
    Leaf leaf[FORE_FOREST_MAX_LEAF];
    unsigned n_leaf;
    GArray *nodes; /* ForeTreeNode of the whole forest */
    uint32_t root;
} Grower;

static void count(const Grower *g, Leaf *leaf)
{
    unsigned n_feature = g->binned->n_feature;

    memset(leaf->histogram, 0, (size_t)n_feature * BINS * sizeof(uint64_t));
    for (size_t i = 0; i < leaf->n; i++) {
        const uint8_t *bin = g->binned->bin + (size_t)leaf->rows[i] * n_feature;
        uint64_t add = 1 | (uint64_t)g->above[leaf->rows[i]] << 32;
        uint64_t *h = leaf->histogram;

        for (unsigned f = 0; f < n_feature; f++, h += BINS) {
            h[bin[f]] += add;
        }
    }
}

static double score_of(uint64_t packed, double level)
{
    double n = (double)(packed & UINT32_MAX);
    double gradient = (double)(packed >> 32) - (1.0 - level) * n;

    return gradient * gradient / n;
}

static void find_split(const Grower *g, Leaf *leaf)
{
    const ForeForestConfig *c = g->config;
    uint64_t total = 0;

    leaf->gain = -1.0;
    for (unsigned b = 0; b < BINS; b++) {
        total += leaf->histogram[b];
    }
    for (unsigned f = 0; f < g->binned->n_feature; f++) {
        const uint64_t *h = leaf->histogram + (size_t)f * BINS;
        uint64_t left = 0;

        for (unsigned b = 0; b + 1 < BINS; b++) {
            uint64_t right;
            double gain;

            left += h[b];
            right = total - left;
            if ((right & UINT32_MAX) < c->min_rows) {
                break;
            }
            if ((left & UINT32_MAX) < c->min_rows) {
                continue;
            }
            gain = score_of(left, c->level) + score_of(right, c->level);
            if (gain > leaf->gain) {
                leaf->gain = gain;
                leaf->feature = f;
                leaf->bin = b;
            }
        }
    }
    if (leaf->gain >= 0.0) {
        leaf->gain -= score_of(total, c->level);
    }
}

/* Stable partition of the rows of @leaf; returns how many go left. */
static size_t partition(const Grower *g, const Leaf *leaf)
{
    size_t n_left = 0, n_right = 0;

    for (size_t i = 0; i < leaf->n; i++) {
        uint32_t row = leaf->rows[i];

        if (g->binned->bin[(size_t)row * g->binned->n_feature + leaf->feature] <= leaf->bin) {
            leaf->rows[n_left++] = row;
        } else {
            g->spare[n_right++] = row;
        }
    }
    memcpy(leaf->rows + n_left, g->spare, n_right * sizeof(uint32_t));
    return n_left;
}

static uint16_t add_node(Grower *g)
{
    ForeTreeNode node = {.feature = FORE_FOREST_LEAF};

    g_array_append_val(g->nodes, node);
    return (uint16_t)(g->nodes->len - 1 - g->root);
}

static void split(Grower *g, Leaf *old)
{
    unsigned n_feature = g->binned->n_feature;
    Leaf *new = &g->leaf[g->n_leaf++];
    size_t n_left = partition(g, old);
    uint64_t *histogram = new->histogram;
    uint16_t left = add_node(g);
    ForeTreeNode *parent;
    Leaf *small, *large;

    *new = (Leaf){.rows = old->rows + n_left, .n = old->n - n_left, .histogram = histogram};
    new->node = add_node(g);
    parent = &g_array_index(g->nodes, ForeTreeNode, g->root + old->node);
    parent->feature = (uint16_t)old->feature;
    parent->left = left;
    parent->value = g->binned->edge[(size_t)old->feature * (BINS - 1) + old->bin];
    old->n = n_left;
    old->node = left;
    /* the histogram of both is in old's; count the smaller, subtract for the larger */
    small = old->n <= new->n ? old : new;
    large = small == old ? new : old;
    if (small == old) {
        uint64_t *swap = old->histogram;

        old->histogram = new->histogram;
        new->histogram = swap;
    }
    count(g, small);
    for (size_t i = 0; i < (size_t)n_feature * BINS; i++) {
        large->histogram[i] -= small->histogram[i];
    }
    find_split(g, small);
    find_split(g, large);
}

/* The @k-th smallest of @v (Hoare's selection; reorders). */
static float nth(float *v, size_t n, size_t k)
{
    size_t lo = 0, hi = n - 1;

    while (lo < hi) {
        float pivot = v[lo + (hi - lo) / 2];
        size_t i = lo, j = hi;

        while (true) {
            while (v[i] < pivot) {
                i++;
            }
            while (v[j] > pivot) {
                j--;
            }
            if (i >= j) {
                break;
            }
            float swap = v[i];
            v[i++] = v[j];
            v[j--] = swap;
        }
        /* now all of lo..j are <= pivot and all of j+1..hi are >= pivot */
        if (k <= j) {
            hi = j;
        } else {
            lo = j + 1;
        }
    }
    return v[k];
}

static void set_leaf_value(Grower *g, const Leaf *leaf)
{
    size_t k = (size_t)(g->config->level * (double)(leaf->n - 1) + 0.5);
    float q;

    for (size_t i = 0; i < leaf->n; i++) {
        g->residual[i] = g->y[leaf->rows[i]] - g->forecast[leaf->rows[i]];
    }
    q = nth(g->residual, leaf->n, k) * (float)g->config->rate;
    g_array_index(g->nodes, ForeTreeNode, g->root + leaf->node).value =
        CLAMP(q, -MAX_STEP, MAX_STEP);
}

/* Adds the newest tree to the forecast of every row, drawn or not. */
static void apply_tree(Grower *g)
{
    const ForeTreeNode *tree = &g_array_index(g->nodes, ForeTreeNode, g->root);
    unsigned n_feature = g->binned->n_feature;
    unsigned n_node = g->nodes->len - g->root;
    uint8_t cut[2 * FORE_FOREST_MAX_LEAF] = {0};

    for (unsigned i = 0; i < n_node; i++) {
        cut[i] =
            tree[i].feature == FORE_FOREST_LEAF
                ? 0
                : bin_of(g->binned->edge + (size_t)tree[i].feature * (BINS - 1), tree[i].value);
    }
    for (size_t r = 0; r < g->binned->n; r++) {
        const uint8_t *bin = g->binned->bin + r * n_feature;
        unsigned at = 0;

        while (tree[at].feature != FORE_FOREST_LEAF) {
            at = tree[at].left + (unsigned)(bin[tree[at].feature] > cut[at]);
        }
        g->forecast[r] += tree[at].value;
        g->above[r] = g->y[r] > g->forecast[r];
    }
}

static void grow_tree(Grower *g, ForeRandom *rng)
{
    const ForeForestConfig *c = g->config;
    size_t n = 0;

    for (size_t r = 0; r < g->binned->n; r++) {
        if (fore_random_unit(rng) < c->share) {
            g->rows[n++] = (uint32_t)r;
        }
    }
    g->root = g->nodes->len;
    add_node(g);
    if (n > 0) {
        g->leaf[0] = (Leaf){.rows = g->rows, .n = n, .histogram = g->leaf[0].histogram};
        g->n_leaf = 1;
        count(g, &g->leaf[0]);
        find_split(g, &g->leaf[0]);
        while (g->n_leaf < c->n_leaf) {
            Leaf *best = &g->leaf[0];

            for (unsigned i = 1; i < g->n_leaf; i++) {
                best = g->leaf[i].gain > best->gain ? &g->leaf[i] : best;
            }
            if (best->gain <= 1e-9) {
                break;
            }
            split(g, best);
        }
        for (unsigned i = 0; i < g->n_leaf; i++) {
            set_leaf_value(g, &g->leaf[i]);
        }
    }
    apply_tree(g);
}

static void grower_init(Grower *g, const ForeBinned *binned, const float *y,
                        const ForeForestConfig *c)
{
    size_t slots = (size_t)binned->n_feature * BINS;

    g->binned = binned;
    g->config = c;
    g->y = y;
    g->forecast = g_new(float, binned->n);
    g->above = g_new(uint8_t, binned->n);
    g->rows = g_new(uint32_t, binned->n);
    g->spare = g_new(uint32_t, binned->n);
    g->residual = g_new(float, binned->n);
    g->histograms = g_new(uint64_t, slots * c->n_leaf);
    g->nodes = g_array_new(FALSE, FALSE, sizeof(ForeTreeNode));
    for (unsigned i = 0; i < c->n_leaf; i++) {
        g->leaf[i].histogram = g->histograms + slots * i;
    }
}

static void grower_done(Grower *g)
{
    g_free(g->forecast);
    g_free(g->above);
    g_free(g->rows);
    g_free(g->spare);
    g_free(g->residual);
    g_free(g->histograms);
}

ForeForest *fore_forest_fit(const ForeBinned *binned, const float *y, const ForeForestConfig *c)
{
    g_autofree Grower *g = g_new0(Grower, 1);
    ForeForest *forest = g_new0(ForeForest, 1);
    ForeRandom rng = {.state = c->seed};

    g_assert(c->n_leaf >= 2 && c->n_leaf <= FORE_FOREST_MAX_LEAF && c->n_tree >= 1 &&
             c->n_tree <= FORE_FOREST_MAX_TREE && c->min_rows >= 1);
    grower_init(g, binned, y, c);
    forest->n_feature = binned->n_feature;
    forest->n_tree = c->n_tree;
    forest->root = g_new0(uint32_t, c->n_tree + 1);
    memcpy(g->residual, y, binned->n * sizeof(float));
    forest->base = nth(g->residual, binned->n, (size_t)(c->level * (double)(binned->n - 1)));
    for (size_t r = 0; r < binned->n; r++) {
        g->forecast[r] = forest->base;
        g->above[r] = y[r] > forest->base;
    }
    for (unsigned t = 0; t < c->n_tree; t++) {
        grow_tree(g, &rng);
        forest->root[t + 1] = g->nodes->len;
    }
    forest->node = (ForeTreeNode *)(void *)g_array_free(g->nodes, FALSE);
    grower_done(g);
    return forest;
}

void fore_forest_free(ForeForest *forest)
{
    if (forest == NULL) {
        return;
    }
    g_free(forest->root);
    g_free(forest->node);
    g_free(forest);
}

double fore_forest_predict(const ForeForest *forest, const float *x)
{
    double sum = (double)forest->base;

    for (unsigned t = 0; t < forest->n_tree; t++) {
        const ForeTreeNode *tree = forest->node + forest->root[t];
        const ForeTreeNode *at = tree;

        while (at->feature != FORE_FOREST_LEAF) {
            at = tree + at->left + (x[at->feature] > at->value);
        }
        sum += (double)at->value;
    }
    return sum;
}

static bool tree_is_valid(const ForeForest *forest, unsigned t)
{
    const ForeTreeNode *tree = forest->node + forest->root[t];
    uint32_t n = forest->root[t + 1] - forest->root[t];

    for (uint32_t i = 0; i < n; i++) {
        bool leaf = tree[i].feature == FORE_FOREST_LEAF;

        if (!(fabsf(tree[i].value) <= MAX_STEP) ||
            (!leaf && (tree[i].feature >= forest->n_feature || tree[i].left <= i ||
                       (uint32_t)tree[i].left + 1 >= n))) {
            return false;
        }
    }
    return true;
}

bool fore_forest_is_valid(const ForeForest *forest)
{
    if (forest->n_feature == 0 || forest->n_feature > FORE_FOREST_MAX_FEATURE ||
        forest->n_tree == 0 || forest->n_tree > FORE_FOREST_MAX_TREE ||
        !(fabsf(forest->base) <= MAX_STEP) || forest->root[0] != 0) {
        return false;
    }
    for (unsigned t = 0; t < forest->n_tree; t++) {
        uint32_t end = forest->root[t + 1];

        if (end <= forest->root[t] || end - forest->root[t] > 2 * FORE_FOREST_MAX_LEAF ||
            !tree_is_valid(forest, t)) {
            return false;
        }
    }
    return true;
}
