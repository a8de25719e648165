/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs a fuzz target without libFuzzer: every file of a corpus folder as it is, then seeded
 * mutations of them (bit flips, truncation, splices, interesting integers).  Deterministic, so a
 * failure repeats.
 */
#include <glib.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void mutate(GRand *rand, GByteArray *buf, const GPtrArray *seeds)
{
    static const uint8_t interesting[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0x40, 0x20, '"', '{', '\n'};
    unsigned rounds = 1 + g_rand_int_range(rand, 0, 6);

    while (rounds-- > 0) {
        unsigned at = buf->len > 0 ? (unsigned)g_rand_int_range(rand, 0, (int)buf->len) : 0;

        switch (g_rand_int_range(rand, 0, 5)) {
        case 0:
            if (buf->len > 0) {
                buf->data[at] ^= (uint8_t)(1u << g_rand_int_range(rand, 0, 8));
            }
            break;
        case 1:
            g_byte_array_set_size(buf, at);
            break;
        case 2:
            if (buf->len > 0) {
                buf->data[at] = interesting[g_rand_int_range(rand, 0, G_N_ELEMENTS(interesting))];
            }
            break;
        case 3: {
            GBytes *other = seeds->pdata[g_rand_int_range(rand, 0, (int)seeds->len)];
            gsize n = 0;
            const uint8_t *from = g_bytes_get_data(other, &n);
            if (n > 0) {
                unsigned start = (unsigned)g_rand_int_range(rand, 0, (int)n);
                unsigned take = MIN((unsigned)(n - start), 64u);
                g_byte_array_append(buf, from + start, take);
            }
            break;
        }
        default:
            for (unsigned i = at; i < buf->len && i < at + 4; i++) {
                buf->data[i] = 0xff;
            }
            break;
        }
    }
}

int main(int argc, char **argv)
{
    g_autoptr(GPtrArray) seeds = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_autoptr(GRand) rand = g_rand_new_with_seed(20240229);
    unsigned long rounds = argc > 2 ? g_ascii_strtoull(argv[2], NULL, 10) : 0;
    const char *name;
    GDir *dir = argc > 1 ? g_dir_open(argv[1], 0, NULL) : NULL;

    if (dir == NULL) {
        fprintf(stderr, "usage: %s CORPUS-DIR [ROUNDS]: cannot open the folder\n", argv[0]);
        return 2;
    }
    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(argv[1], name, NULL);
        char *text = NULL;
        gsize size = 0;
        if (g_file_get_contents(path, &text, &size, NULL)) {
            g_ptr_array_add(seeds, g_bytes_new_take(text, size));
        }
    }
    g_dir_close(dir);
    if (seeds->len == 0) {
        fprintf(stderr, "%s: no seed in %s\n", argv[0], argv[1]);
        return 2;
    }
    for (unsigned i = 0; i < seeds->len; i++) {
        gsize n = 0;
        const uint8_t *data = g_bytes_get_data(seeds->pdata[i], &n);
        LLVMFuzzerTestOneInput(data, n);
    }
    for (unsigned long r = 0; r < rounds; r++) {
        g_autoptr(GByteArray) buf = g_byte_array_new();
        GBytes *seed = seeds->pdata[g_rand_int_range(rand, 0, (int)seeds->len)];
        gsize n = 0;
        const uint8_t *data = g_bytes_get_data(seed, &n);
        g_byte_array_append(buf, data, (guint)n);
        mutate(rand, buf, seeds);
        LLVMFuzzerTestOneInput(buf->data, buf->len);
    }
    printf("%u seeds, %lu mutations\n", seeds->len, rounds);
    return 0;
}
