/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fore-tamper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EVIL_PROGRAM  "/tmp/evil" /* on the root file system: IMA's tcb policy skips tmpfs */
#define BUSY_TRIES    40
#define BUSY_PAUSE_NS 50000000L

/* Copies @from to @to and appends one zero byte; false with errno set. */
static bool copy_and_append(const char *from, const char *to)
{
    static char bytes[65536];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    bool ok = in >= 0 && out >= 0;
    ssize_t n = 0;

    while (ok && (n = read(in, bytes, sizeof bytes)) > 0) {
        ok = write(out, bytes, (size_t)n) == n;
    }
    ok = ok && n == 0 && write(out, "", 1) == 1;
    if (in >= 0) {
        close(in);
    }
    if (out >= 0) {
        ok = close(out) == 0 && ok;
    }
    return ok;
}

bool fore_tamper_ima(char *ret_text, size_t size)
{
    int status = 0;
    pid_t pid;

    if (!copy_and_append("/bin/busybox", EVIL_PROGRAM)) {
        snprintf(ret_text, size, "cannot write %s: %s", EVIL_PROGRAM, strerror(errno));
        return false;
    }
    pid = fork();
    if (pid == 0) {
        execl(EVIL_PROGRAM, "busybox", "true", (char *)NULL);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
        WEXITSTATUS(status) != 0) {
        snprintf(ret_text, size, "%s did not run (status %d)", EVIL_PROGRAM, status);
        return false;
    }
    snprintf(ret_text, size, "ran %s", EVIL_PROGRAM);
    return true;
}

/* Sends @command and reads the answer; its length, or -1 with errno set. */
static ssize_t transceive(const char *device, const uint8_t *command, size_t n, uint8_t *answer,
                          size_t size)
{
    for (int i = 0; i < BUSY_TRIES; i++) {
        int fd = open(device, O_RDWR | O_CLOEXEC);
        ssize_t got = -1;
        int err;

        if (fd >= 0 && write(fd, command, n) == (ssize_t)n) {
            got = read(fd, answer, size);
        }
        err = errno;
        if (fd >= 0) {
            close(fd);
        }
        if (got >= 0 || err != EBUSY) {
            errno = err;
            return got;
        }
        nanosleep(&(struct timespec){.tv_nsec = BUSY_PAUSE_NS}, NULL);
    }
    errno = EBUSY;
    return -1;
}

bool fore_tamper_pcr(char *ret_text, size_t size)
{
    /* TPM 2.0 Library, Part 3, TPM2_PCR_Extend; Part 2 for the tags and the algorithm. */
    static const uint8_t command[65] = {
        0x80, 0x02,             /* TPM_ST_SESSIONS */
        0x00, 0x00, 0x00, 0x41, /* 65 bytes */
        0x00, 0x00, 0x01, 0x82, /* TPM_CC_PCR_Extend */
        0x00, 0x00, 0x00, 0x08, /* PCR 8 */
        0x00, 0x00, 0x00, 0x09, /* size of the authorisation area */
        0x40, 0x00, 0x00, 0x09, /* TPM_RS_PW */
        0x00, 0x00,             /* no nonce */
        0x00,                   /* session attributes */
        0x00, 0x00,             /* empty password */
        0x00, 0x00, 0x00, 0x01, /* one digest */
        0x00, 0x0b,             /* TPM_ALG_SHA256; its 32 bytes follow */
        'f',  'o',  'r',  'e',  's', 'e', 'e', ' ', 't', 'a', 'm', 'p', 'e', 'r',
    };
    static const char *const devices[] = {"/dev/tpmrm0", "/dev/tpm0"};
    uint8_t answer[256];

    snprintf(ret_text, size, "no TPM device");
    for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++) {
        ssize_t n = transceive(devices[i], command, sizeof command, answer, sizeof answer);

        if (n >= 10 && memcmp(answer + 6, "\0\0\0\0", 4) == 0) {
            snprintf(ret_text, size, "extended PCR 8 through %s", devices[i]);
            return true;
        }
        if (n >= 10) {
            snprintf(ret_text, size, "%s answers %02x%02x%02x%02x", devices[i], answer[6],
                     answer[7], answer[8], answer[9]);
        } else if (errno != ENOENT) {
            snprintf(ret_text, size, "%s: %s", devices[i], strerror(errno));
        }
    }
    return false;
}
