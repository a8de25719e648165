/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Jobs run one after the other, are answered once each, and none outlives its worker. */
#include "guest-agent/fore-sea-worker.h"

typedef struct {
    ForeSeaJob job;
    GMutex *gate; /* the job passes it; NULL: runs through */
    int number;
    GArray *order; /* numbers in the order of done */
    unsigned *not_run;
} Numbered;

static void run(ForeSeaJob *job)
{
    GMutex *gate = ((Numbered *)job)->gate;

    if (gate) {
        g_mutex_lock(gate);
        g_mutex_unlock(gate);
    }
}

static void done(ForeSeaJob *job, bool ran)
{
    Numbered *n = (Numbered *)job;

    if (ran) {
        g_array_append_val(n->order, n->number);
    } else {
        (*n->not_run)++;
    }
    g_free(n);
}

static Numbered *numbered(int number, GMutex *gate, GArray *order, unsigned *not_run)
{
    Numbered *n = g_new0(Numbered, 1);

    *n = (Numbered){{run, done}, gate, number, order, not_run};
    return n;
}

static void in_order(void)
{
    g_autoptr(GMainContext) context = g_main_context_new();
    g_autoptr(GArray) order = g_array_new(FALSE, FALSE, sizeof(int));
    ForeSeaWorker *worker = fore_sea_worker_new(context);
    unsigned not_run = 0;

    for (int i = 0; i < 50; i++) {
        Numbered *n = numbered(i, NULL, order, &not_run);
        while (!fore_sea_worker_push(worker, &n->job)) {
            g_main_context_iteration(context, TRUE);
        }
    }
    while (order->len < 50) {
        g_main_context_iteration(context, TRUE);
    }
    for (int i = 0; i < 50; i++) {
        g_assert_cmpint(g_array_index(order, int, i), ==, i);
    }
    fore_sea_worker_free(worker);
    g_assert_cmpuint(not_run, ==, 0);
}

static void bounded_and_freed(void)
{
    g_autoptr(GMainContext) context = g_main_context_new();
    g_autoptr(GArray) order = g_array_new(FALSE, FALSE, sizeof(int));
    ForeSeaWorker *worker = fore_sea_worker_new(context);
    unsigned not_run = 0, taken = 0;
    Numbered *n;
    GMutex gate;

    g_mutex_init(&gate);
    g_mutex_lock(&gate);
    while (fore_sea_worker_push(worker, &(n = numbered(0, &gate, order, &not_run))->job)) {
        taken++;
    }
    g_free(n);
    /* One more when the thread had taken the first one out already. */
    g_assert_cmpuint(taken, >=, FORE_SEA_JOBS_MAX);
    g_assert_cmpuint(taken, <=, FORE_SEA_JOBS_MAX + 1);
    g_mutex_unlock(&gate);
    fore_sea_worker_free(worker);
    g_assert_cmpuint(not_run + order->len, ==, taken);
    g_assert_cmpuint(order->len, ==, 0);
    g_mutex_clear(&gate);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guest-agent/worker/jobs-end-in-the-order-given", in_order);
    g_test_add_func("/guest-agent/worker/the-queue-is-bounded-and-freeing-answers-it",
                    bounded_and_freed);
    return g_test_run();
}
