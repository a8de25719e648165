/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the benchmark's guest does, as its host tells it over the second serial port, a line a
 * command: "WORK AMOUNT".  It answers "done WORK CHECK" when that is through, CHECK being the same
 * number whenever WORK and AMOUNT are.  Between commands it sleeps, so the host's clocks of QEMU
 * stand nearly still.  "shell COMMAND" runs a command to its end; CHECK is then its exit status.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define PORT         "/dev/ttyS1"
#define SMALL_WORDS  (4u << 20) /* of 8 bytes: 32 MiB */
#define STRIDE_WORDS 520        /* 4160 bytes: another page and another cache set each time */
#define TEXT_BYTES   (4u << 20)
#define LINE_MAX_LEN 4096

static uint64_t memory[SMALL_WORDS];

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* @amount million rounds of shifts, additions and a branch that is hard to predict. */
static uint64_t work_integer(uint64_t amount)
{
    uint64_t state = 88172645463325252u, sum = 0;

    for (uint64_t i = 0; i < amount * 1000000; i++) {
        uint64_t r = next_random(&state);
        sum = (r & 1) != 0 ? sum + (r >> 3) : sum ^ r;
    }
    return sum;
}

/* @amount times 32 MiB read and written from front to end. */
static uint64_t work_sequential(uint64_t amount)
{
    uint64_t sum = 0;

    for (uint64_t round = 0; round < amount; round++) {
        for (size_t i = 0; i < SMALL_WORDS; i++) {
            memory[i] += i ^ round;
            sum += memory[i];
        }
    }
    return sum;
}

/* @amount million words read and written, each in another page than the one before. */
static uint64_t work_strided(uint64_t amount)
{
    uint64_t sum = 0;
    size_t at = 0;

    for (uint64_t i = 0; i < amount * 1000000; i++) {
        memory[at] += i;
        sum += memory[at];
        at = (at + STRIDE_WORDS) & (SMALL_WORDS - 1);
    }
    return sum;
}

/* @amount thousand times: one call that does nothing, one that copies a page. */
static uint64_t work_syscalls(uint64_t amount)
{
    static char page[4096];
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    uint64_t sum = 0;

    for (uint64_t i = 0; i < amount * 1000; i++) {
        sum += (uint64_t)syscall(SYS_getppid);
        sum += (uint64_t)pread(fd, page, sizeof(page), 0);
    }
    close(fd);
    return sum;
}

/* Runs a program to its end.  Returns: its exit status, 255 when it did not end by itself. */
static unsigned run_program(const char *path, char *const *argv)
{
    pid_t pid = fork();
    int status = -1;

    if (pid == 0) {
        execv(path, argv);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) {
        return 255;
    }
    return (unsigned)WEXITSTATUS(status);
}

/* @amount processes made, another program run in each, and waited for. */
static uint64_t work_processes(uint64_t amount)
{
    char *argv[] = {"true", NULL};
    uint64_t ended = 0;

    for (uint64_t i = 0; i < amount; i++) {
        ended += run_program("/bin/busybox", argv) == 0 ? 1 : 0;
    }
    return ended;
}

/* A text of words that repeat as those of a language do: input of the real programs. */
static uint64_t work_text(uint64_t amount)
{
    static const char letters[] = "etaoinshrdlucmfwypvbgkjqxz";
    FILE *out = fopen("/tmp/text", "w");
    uint64_t state = 424242 + amount, written = 0;

    while (out != NULL && written < amount * TEXT_BYTES) {
        uint64_t r = next_random(&state);
        uint64_t word = (r & 0xffff) * (r >> 16 & 0xffff) >> 20; /* small numbers are frequent */
        int n = 0;
        do {
            fputc(letters[word % 26], out);
            word = word / 26 + (n == 0 ? 7 : 0);
            n++;
        } while (word > 0 && n < 8);
        fputc((r >> 32) % 11 == 0 ? '\n' : ' ', out);
        written += (uint64_t)n + 1;
    }
    return out != NULL && fclose(out) == 0 ? written : 0;
}

static uint64_t work_shell(char *command)
{
    char *argv[] = {"sh", "-c", command, NULL};

    return run_program("/bin/busybox", argv);
}

static const struct {
    const char *name;
    uint64_t (*run)(uint64_t amount);
} works[] = {
    {"integer", work_integer},   {"sequential", work_sequential}, {"strided", work_strided},
    {"syscalls", work_syscalls}, {"processes", work_processes},   {"text", work_text},
};

static void answer(FILE *port, char *line)
{
    char *rest = strchr(line, ' ');

    if (rest != NULL) {
        *rest++ = '\0';
    }
    if (rest != NULL && strcmp(line, "shell") == 0) {
        fprintf(port, "done shell %" PRIu64 "\n", work_shell(rest));
        return;
    }
    for (size_t i = 0; rest != NULL && i < sizeof(works) / sizeof(works[0]); i++) {
        if (strcmp(line, works[i].name) == 0) {
            fprintf(port, "done %s %" PRIu64 "\n", line, works[i].run(strtoull(rest, NULL, 10)));
            return;
        }
    }
    fprintf(port, "unknown %s\n", line);
}

int main(void)
{
    static char line[LINE_MAX_LEN];
    struct termios raw;
    int fd = open(PORT, O_RDWR | O_NOCTTY | O_CLOEXEC);
    FILE *in = fd >= 0 ? fdopen(fd, "r") : NULL, *out = fd >= 0 ? fdopen(dup(fd), "w") : NULL;

    if (in == NULL || out == NULL || tcgetattr(fd, &raw) != 0) {
        fprintf(stderr, "guest-work: %s: %s\n", PORT, strerror(errno));
        return 1;
    }
    cfmakeraw(&raw);
    tcsetattr(fd, TCSANOW, &raw);
    memset(memory, 1, sizeof(memory)); /* its pages are there before anything is measured */
    fputs("ready\n", out);
    fflush(out);
    while (fgets(line, sizeof(line), in) != NULL) {
        line[strcspn(line, "\r\n")] = '\0';
        answer(out, line);
        fflush(out);
    }
    return 0;
}
