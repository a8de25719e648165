/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Training that is interrupted ends in the same weights, bit for bit, as training that is not.
 */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "forecast/fore-forecaster.h"
#include "forecast/fore-lstm.h"
#include "tests/lib/synthetic-bursts.h"

#define EPOCHS 12

typedef struct {
    unsigned at; /* keep the checkpoint of this epoch */
    GBytes *kept;
    const char *path; /* write each checkpoint here */
    int told;         /* and a byte here */
} Keeper;

static bool on_epoch(const ForeTrainProgress *progress, gpointer data)
{
    Keeper *keeper = data;

    if (progress->epoch == keeper->at) {
        keeper->kept = fore_train_checkpoint(progress->trainer);
    }
    if (keeper->path != NULL) {
        g_autoptr(GBytes) now = fore_train_checkpoint(progress->trainer);

        g_assert_true(g_file_set_contents(keeper->path, g_bytes_get_data(now, NULL),
                                          (gssize)g_bytes_get_size(now), NULL));
        g_assert_cmpint(write(keeper->told, ".", 1), ==, 1);
    }
    return true;
}

static GBytes *train(uint64_t history, uint64_t seed, GBytes *from, Keeper *keeper, GError **error)
{
    SyntheticConfig process = {.seed = history, .n = 150};
    g_autoptr(Synthetic) s = synthetic_new(&process);
    ForeWindow window = {.samples = s->samples, .n = s->n, .step_ns = FORE_NS_PER_S};
    ForeTrainConfig config = {.seed = seed, .max_epochs = EPOCHS, .hidden = 8};
    g_autoptr(ForeModel) model = NULL;

    if (from != NULL) {
        config.resume = g_bytes_get_data(from, &config.resume_size);
    }
    model = fore_model_train(&window, 1, &config, on_epoch, keeper, error);
    return model != NULL ? fore_model_encode(model) : NULL;
}

static void test_resume(void)
{
    static const unsigned at[] = {1, 5, EPOCHS};
    Keeper none = {0};
    g_autoptr(GBytes) whole = train(3, 1, NULL, &none, NULL);

    for (unsigned i = 0; i < G_N_ELEMENTS(at); i++) {
        Keeper keeper = {.at = at[i]};
        g_autoptr(GBytes) first = train(3, 1, NULL, &keeper, NULL);
        g_autoptr(GError) error = NULL;
        g_autoptr(GBytes) second = train(3, 1, keeper.kept, &none, &error);

        g_assert_no_error(error);
        g_assert_true(g_bytes_equal(first, whole));
        g_assert_true(g_bytes_equal(second, whole));
        g_bytes_unref(keeper.kept);
    }
}

static void refused(GBytes *from, uint64_t history, uint64_t seed, const char *because)
{
    g_autoptr(GError) error = NULL;
    Keeper none = {0};

    g_assert_null(train(history, seed, from, &none, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    g_assert_nonnull(strstr(error->message, because));
    g_assert_nonnull(strstr(error->message, "--resume"));
}

static void test_refused(void)
{
    Keeper keeper = {.at = 2};
    g_autoptr(GBytes) whole = train(3, 1, NULL, &keeper, NULL);
    g_autoptr(GByteArray) file = g_bytes_unref_to_array(keeper.kept);

    g_assert_nonnull(whole);
    {
        g_autoptr(GBytes) same = g_bytes_new(file->data, file->len);

        refused(same, 4, 1, "another history");
        refused(same, 3, 2, "another history");
    }
    for (guint i = 0; i < file->len; i += 97) {
        g_autoptr(GBytes) bad = NULL, cut = g_bytes_new(file->data, i + 1);

        file->data[i] ^= 0x20;
        bad = g_bytes_new(file->data, file->len);
        refused(bad, 3, 1, "checkpoint");
        refused(cut, 3, 1, "checkpoint");
        file->data[i] ^= 0x20;
    }
}

/* A child trains, from the checkpoint when there is one, and is killed after @epochs of them. */
static bool child_trains(const char *path, const char *result, unsigned epochs)
{
    int told[2], status;
    char byte;
    pid_t pid;

    g_assert_cmpint(pipe(told), ==, 0);
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        Keeper keeper = {.path = path, .told = told[1]};
        g_autofree char *data = NULL;
        gsize size = 0;
        g_autoptr(GBytes) from = NULL, file = NULL;

        if (g_file_get_contents(path, &data, &size, NULL)) {
            from = g_bytes_new(data, size);
        }
        file = train(3, 1, from, &keeper, NULL);
        g_assert_true(g_file_set_contents(result, g_bytes_get_data(file, NULL),
                                          (gssize)g_bytes_get_size(file), NULL));
        _exit(0);
    }
    close(told[1]);
    for (unsigned e = 0; e < epochs && read(told[0], &byte, 1) == 1; e++) {
    }
    kill(pid, SIGKILL); /* wherever it is: computing, writing, renaming */
    close(told[0]);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    return WIFEXITED(status);
}

#define KILLS 100

static void test_killed(void)
{
    g_autofree char *dir = g_dir_make_tmp("fore-checkpoint-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "checkpoint", NULL);
    g_autofree char *result = g_build_filename(dir, "weights", NULL);
    unsigned kills = 0;
    Keeper none = {0};
    g_autoptr(GBytes) whole = train(3, 1, NULL, &none, NULL);
    ForeRandom rng = {.state = 17};

    while (kills < KILLS) {
        g_autofree char *data = NULL;
        gsize size = 0;

        while (!child_trains(path, result, (unsigned)fore_random_below(&rng, 5))) {
            kills++;
            g_assert_cmpuint(kills, <, KILLS + 1000);
        }
        g_assert_true(g_file_get_contents(result, &data, &size, NULL));
        g_assert_cmpmem(data, size, g_bytes_get_data(whole, NULL), g_bytes_get_size(whole));
        unlink(path);
        unlink(result);
    }
    g_test_message("killed %u times", kills);
    rmdir(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/forecast/checkpoint/resumed-ends-in-the-same-weights", test_resume);
    g_test_add_func("/forecast/checkpoint/damaged-or-foreign-is-refused", test_refused);
    g_test_add_func("/forecast/checkpoint/killed-anywhere-ends-in-the-same-weights", test_killed);
    return g_test_run();
}
