/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The options of QEMU that bring in code that runs before or beside the guest's own.  What this
 * file does not follow it refuses, rather than leave it out of the measurement.
 *
 * Order of recording: the line is made durable, then the TPM is extended.  A crash in between
 * leaves a line behind the head, which a verifier does not look at; the next record removes it.
 */
#include "vtpm/host/fore-measure.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/fore-error.h"

G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_MD_CTX, EVP_MD_CTX_free)

static bool hash_fd(int fd, const char *path, uint8_t ret[32], GError **error)
{
    g_autoptr(EVP_MD_CTX) ctx = EVP_MD_CTX_new();
    g_autofree uint8_t *buffer = g_malloc(1 << 20);
    ssize_t n = -1;

    if (EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1) {
        while ((n = read(fd, buffer, 1 << 20)) > 0) {
            EVP_DigestUpdate(ctx, buffer, (size_t)n);
        }
    }
    if (n < 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND, "cannot read '%s' to measure it: %s",
                    path, g_strerror(errno));
        return false;
    }
    return EVP_DigestFinal_ex(ctx, ret, NULL) == 1;
}

static int open_file(const char *path, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND, "cannot open '%s' to measure it: %s",
                    path, g_strerror(errno));
    }
    return fd;
}

static void fold(ForeLaunch *l, ForeLaunchPart part, const uint8_t digest[32])
{
    uint8_t both[64];

    if (!(l->have >> part & 1u)) {
        memcpy(l->digest[part], digest, 32);
        l->have |= 1u << part;
        return;
    }
    memcpy(both, l->digest[part], 32);
    memcpy(both + 32, digest, 32);
    SHA256(both, sizeof(both), l->digest[part]);
}

static bool measure_file(ForeLaunch *l, ForeLaunchPart part, const char *path, GError **error)
{
    uint8_t digest[32];
    int fd = open_file(path, error);
    bool ok = fd >= 0 && hash_fd(fd, path, digest, error);

    if (fd >= 0) {
        close(fd);
    }
    if (ok) {
        fold(l, part, digest);
    }
    return ok;
}

/* Value of @key in QEMU's "a=b,c=d" spelling (",," is a comma); NULL when it is not there. */
static char *option_value(const char *text, const char *key)
{
    gsize n = strlen(key);

    while (*text != '\0') {
        g_autoptr(GString) word = g_string_new(NULL);

        for (; *text != '\0' && !(text[0] == ',' && text[1] != ','); text++) {
            text += text[0] == ',';
            g_string_append_c(word, *text);
        }
        text += *text == ',';
        if (strncmp(word->str, key, n) == 0 && word->str[n] == '=') {
            return g_strdup(word->str + n + 1);
        }
    }
    return NULL;
}

/* The file behind "-blockdev driver=file,node-name=X,filename=Y" or its JSON; NULL: none. */
static const char *blockdev_of(char **argv, const char *node)
{
    for (char **a = argv + 1; a[0] != NULL && a[1] != NULL; a++) {
        g_autofree char *name = NULL;

        if (strcmp(*a, "-blockdev") != 0) {
            continue;
        }
        name = option_value(a[1], "node-name");
        if (name != NULL && strcmp(name, node) == 0) {
            return a[1];
        }
    }
    return NULL;
}

static bool measure_blockdev(ForeLaunch *l, char **argv, const char *node, GError **error)
{
    const char *option = blockdev_of(argv, node);
    g_autofree char *file = option != NULL ? option_value(option, "filename") : NULL,
                    *below = option != NULL ? option_value(option, "file") : NULL;

    if (file == NULL && option != NULL) {
        g_autofree char *nested = option_value(option, "file.filename");
        file = g_steal_pointer(&nested);
    }
    if (file == NULL && below != NULL && strcmp(below, node) != 0) {
        return measure_blockdev(l, argv, below, error);
    }
    if (file == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "firmware in block node '%s' cannot be measured: give it as a plain file "
                    "(-blockdev driver=file,node-name=%s,filename=PATH, or -drive if=pflash)",
                    node, node);
        return false;
    }
    return measure_file(l, FORE_LAUNCH_FIRMWARE, file, error);
}

static bool measure_machine(ForeLaunch *l, char **argv, const char *value, GError **error)
{
    static const char *const flashes[] = {"pflash0", "pflash1"};

    for (unsigned i = 0; i < G_N_ELEMENTS(flashes); i++) {
        g_autofree char *node = option_value(value, flashes[i]);

        /* The second unit holds variables: it changes with every boot and is the vTPM's to log. */
        if (node != NULL && i == 0 && !measure_blockdev(l, argv, node, error)) {
            return false;
        }
    }
    return true;
}

static bool measure_drive(ForeLaunch *l, const char *value, GError **error)
{
    g_autofree char *interface = option_value(value, "if"), *unit = option_value(value, "unit"),
                    *file = option_value(value, "file");

    if (interface == NULL || strcmp(interface, "pflash") != 0 ||
        (unit != NULL && strcmp(unit, "0") != 0) ||
        (unit == NULL && (l->have >> FORE_LAUNCH_FIRMWARE & 1u))) {
        return true;
    }
    if (file == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "-drive %s: firmware without file= cannot be measured", value);
        return false;
    }
    return measure_file(l, FORE_LAUNCH_FIRMWARE, file, error);
}

static bool measure_plugin(ForeLaunch *l, const char *value, GError **error)
{
    g_autofree char *file = option_value(value, "file"), *bare = NULL;

    if (file == NULL) {
        bare = g_strndup(value, strcspn(value, ","));
    }
    return measure_file(l, FORE_LAUNCH_PLUGIN, file != NULL ? file : bare, error);
}

static bool measure_option(ForeLaunch *l, char **argv, const char *name, const char *value,
                           GError **error)
{
    if (strcmp(name, "plugin") == 0) {
        return measure_plugin(l, value, error);
    }
    if (strcmp(name, "kernel") == 0) {
        return measure_file(l, FORE_LAUNCH_KERNEL, value, error);
    }
    if (strcmp(name, "initrd") == 0) {
        return measure_file(l, FORE_LAUNCH_INITRD, value, error);
    }
    if (strcmp(name, "bios") == 0) {
        return measure_file(l, FORE_LAUNCH_FIRMWARE, value, error);
    }
    if (strcmp(name, "drive") == 0) {
        return measure_drive(l, value, error);
    }
    if (strcmp(name, "machine") == 0 || strcmp(name, "M") == 0) {
        return measure_machine(l, argv, value, error);
    }
    if (strcmp(name, "readconfig") == 0 || strcmp(name, "pflash") == 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "-%s cannot be measured; give the options on the command line%s", name,
                    strcmp(name, "pflash") == 0 ? " (-drive if=pflash,unit=0,file=...)" : "");
        return false;
    }
    return true;
}

static void measure_arguments(ForeLaunch *l, char **argv)
{
    g_autoptr(EVP_MD_CTX) ctx = EVP_MD_CTX_new();
    uint8_t digest[32];

    EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);
    for (char **a = argv; *a != NULL; a++) {
        EVP_DigestUpdate(ctx, *a, strlen(*a) + 1);
    }
    EVP_DigestFinal_ex(ctx, digest, NULL);
    fold(l, FORE_LAUNCH_CMDLINE, digest);
}

bool fore_measure_qemu(char **argv, const char *vm, const uint8_t vtpm[32], ForeLaunch *ret,
                       int *ret_binary, GError **error)
{
    g_autofree char *program = argv[0] != NULL ? g_find_program_in_path(argv[0]) : NULL;
    ForeLaunch l = {0};
    uint8_t digest[32];
    bool ok;
    int fd;

    if (program == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND, "no program '%s' to launch",
                    argv[0] != NULL ? argv[0] : "");
        return false;
    }
    fd = open_file(program, error);
    ok = fd >= 0 && hash_fd(fd, program, digest, error);
    if (ok) {
        fold(&l, FORE_LAUNCH_QEMU, digest);
    }
    for (char **a = argv + 1; ok && a[0] != NULL; a++) {
        const char *name = a[0] + (g_str_has_prefix(a[0], "--") ? 2 : 1);

        if (a[0][0] == '-' && a[1] != NULL) {
            ok = measure_option(&l, argv, name, a[1], error);
        }
    }
    if (!ok) {
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    measure_arguments(&l, argv);
    g_strlcpy(l.vm, vm, sizeof(l.vm));
    fold(&l, FORE_LAUNCH_VTPM, vtpm);
    *ret = l;
    *ret_binary = fd;
    return true;
}

/* Keeps of @text what leads to @head; false when nothing does and @head is not empty. */
static bool cut_to_head(GString *text, const uint8_t head[32])
{
    static const uint8_t zeros[32] = {0};
    uint8_t now[32] = {0}, both[64];
    gsize at = 0;

    while (memcmp(now, head, sizeof(now)) != 0) {
        const char *end = memchr(text->str + at, '\n', text->len - at);

        if (end == NULL) {
            return memcmp(head, zeros, sizeof(zeros)) == 0;
        }
        memcpy(both, now, 32);
        fore_launch_entry(text->str + at, (gsize)(end - text->str) - at, both + 32);
        SHA256(both, sizeof(both), now);
        at = (gsize)(end - text->str) + 1;
    }
    g_string_truncate(text, at);
    return true;
}

static bool read_log(const char *path, const uint8_t head[32], GString *ret, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;
    gsize size = 0;

    if (!g_file_get_contents(path, &text, &size, &why) &&
        !g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "launch log: %s", why->message);
        return false;
    }
    g_string_append_len(ret, text != NULL ? text : "", (gssize)size);
    if (!cut_to_head(ret, head)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "the launch log '%s' does not lead to the head that the host TPM keeps: it was "
                    "changed or is gone; it starts anew when the host boots",
                    path);
        return false;
    }
    return true;
}

static bool append(ForeTpm *tpm, const char *path, const ForeLaunch *launch, GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GError) why = NULL;
    g_autofree char *line = fore_launch_line(launch);
    uint8_t head[FORE_TPM_LOG_BYTES] = {0}, entry[32];

    if (!fore_tpm_log_head(tpm, FORE_TPM_LAUNCH_INDEX, FORE_TPM_LOG_BOOT, head, &why) &&
        !g_error_matches(why, FORE_ERROR, FORE_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    g_clear_error(&why);
    if (!read_log(path, head, text, error)) {
        return false;
    }
    fore_launch_entry(line, strlen(line), entry);
    g_string_append_printf(text, "%s\n", line);
    if (text->len > FORE_LAUNCH_LOG_MAX) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "the launch log '%s' is full (%d bytes); it starts anew when the host boots",
                    path, FORE_LAUNCH_LOG_MAX);
        return false;
    }
    if (!g_file_set_contents_full(path, text->str, (gssize)text->len,
                                  G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
                                  0644, &why)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "launch log: %s", why->message);
        return false;
    }
    return fore_tpm_log_extend(tpm, FORE_TPM_LAUNCH_INDEX, FORE_TPM_LOG_BOOT, entry, error);
}

bool fore_measure_record(ForeTpm *tpm, const char *path, const ForeLaunch *launch, GError **error)
{
    g_autofree char *lock_path = g_strconcat(path, ".lock", NULL);
    int lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok;

    if (lock < 0 || flock(lock, LOCK_EX) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot lock '%s': %s", lock_path,
                    g_strerror(errno));
        if (lock >= 0) {
            close(lock);
        }
        return false;
    }
    ok = append(tpm, path, launch, error);
    close(lock);
    return ok;
}
