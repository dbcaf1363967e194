/* Starts programs in turns and tells how long each took, from the call that makes the process until it has ended:
 *   start ROUNDS COMMAND...
 * where a COMMAND is words with the byte 1 between them. Prints a line a round: nanoseconds for each command. Each round has
 * an order of its own, for what runs after something else finds other caches. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_COMMANDS = 64, MOST_WORDS = 64 };

static long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static long run(char **words)
{
    long start = now();
    pid_t child = vfork();
    if (child == 0) {
        execv(words[0], words);
        _exit(127);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || status) {
        fprintf(stderr, "%s: status %x\n", words[0], status);
        exit(1);
    }
    return now() - start;
}

int main(int argc, char **argv)
{
    static char *words[MOST_COMMANDS][MOST_WORDS];
    static long taken[MOST_COMMANDS];
    static int order[MOST_COMMANDS];
    int rounds = atoi(argv[1]), count = argc - 2;
    if (count > MOST_COMMANDS) return 1;
    for (int c = 0; c < count; c++) {
        int n = 0;
        order[c] = c;
        for (char *word = strtok(argv[c + 2], "\1"); word && n < MOST_WORDS - 1; word = strtok(NULL, "\1")) words[c][n++] = word;
    }
    int null = open("/dev/null", O_RDWR), out = dup(1);
    dup2(null, 0), dup2(null, 1);
    for (int round = 0; round < rounds; round++) {
        for (int n = count - 1; n > 0; n--) {
            int other = random() % (n + 1), command = order[n];
            order[n] = order[other], order[other] = command;
        }
        for (int n = 0; n < count; n++) taken[order[n]] = run(words[order[n]]);
        for (int c = 0; c < count; c++) dprintf(out, "%ld%c", taken[c], c < count - 1 ? ' ' : '\n');
    }
}
