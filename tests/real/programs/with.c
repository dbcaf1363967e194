/* Static: starts a program in an unusual way, with no environment but what it is told. with WORD... -- PATH ARGUMENT... */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

static void limit(int which, const char *value)
{
    struct rlimit l;
    getrlimit(which, &l);
    l.rlim_cur = strcmp(value, "max") ? strtoul(value, NULL, 0) : l.rlim_max;
    if (setrlimit(which, &l)) perror("setrlimit"), exit(98);
}

int main(int argc, char **argv)
{
    const char *name = NULL;
    int none = 0, many = 0, fd = -1, memory = 0, open_it = 0, search = 0;
    clearenv();
    for (argv++; *argv && strcmp(*argv, "--"); argv++) {
        char *word = *argv, *value = strchr(word, '=');
        if (value) *value++ = 0;
        if (!strcmp(word, "name")) name = value;
        else if (!strcmp(word, "no-arguments")) none = 1;
        else if (!strcmp(word, "descriptor")) open_it = 1;
        else if (!strcmp(word, "memory")) memory = 1;
        else if (!strcmp(word, "search")) search = 1;
        else if (!strcmp(word, "stack")) limit(RLIMIT_STACK, value);
        else if (!strcmp(word, "space")) limit(RLIMIT_AS, value);
        else if (!strcmp(word, "files")) limit(RLIMIT_NOFILE, value);
        else if (!strcmp(word, "set")) putenv(value);
        else if (!strcmp(word, "arguments")) many = atoi(value);
        else if (!strcmp(word, "large-environment"))
            for (int n = 0; n < 20; n++) {
                char variable[16], *text = malloc(100001);
                memset(text, 'x', 100000), text[100000] = 0;
                sprintf(variable, "LARGE%d", n);
                setenv(variable, text, 1);
            }
        else if (!strcmp(word, "fixed")) personality(ADDR_NO_RANDOMIZE);
        else if (!strcmp(word, "blocked")) {
            sigset_t set;
            sigemptyset(&set), sigaddset(&set, SIGUSR1), sigprocmask(SIG_BLOCK, &set, NULL);
            signal(SIGUSR2, SIG_IGN);
        }
        else if (!strcmp(word, "mdwe")) {
            if (prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0)) printf("mdwe: %s\n", strerror(errno)), fflush(stdout);
        }
        else return fprintf(stderr, "with: %s?\n", word), 97;
    }
    char *path = *++argv;
    if (name) argv[0] = (char *)name;
    if (many) {
        char **more = calloc(many + 2, sizeof *more);
        more[0] = argv[0];
        for (int n = 1; n <= many; n++) sprintf(more[n] = malloc(32), "argument %d", n);
        argv = more;
    }
    if (none) argv[0] = NULL;
    if (open_it || memory) fd = open(path, O_RDONLY | O_CLOEXEC);
    if (memory) {
        int copy = memfd_create("copy", 0);
        char bytes[65536];
        for (ssize_t n; (n = read(fd, bytes, sizeof bytes)) > 0; ) if (write(copy, bytes, n) != n) return 96;
        fd = copy;
    }
    if (search) execvp(path, argv);
    else if (fd >= 0) execveat(fd, "", argv, environ, AT_EMPTY_PATH);
    else execve(path, argv, environ);
    perror(path);
    return 95;
}
