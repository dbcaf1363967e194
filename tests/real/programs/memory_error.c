/* Mistakes for sanitizers and valgrind to find. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int shared;
static void *volatile leaked;

static void *write_it(void *argument)
{
    for (int n = 0; n < 1000; n++) shared++;
    return argument;
}

__attribute__((noinline)) static int overrun(char *bytes, int n) { return bytes[n]; }

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    char *bytes = malloc(10);
    memset(bytes, 1, 10);
    puts("begun");
    fflush(stdout);
    if (!strcmp(what, "overrun")) printf("%d\n", overrun(bytes, 12));
    if (!strcmp(what, "overflow")) printf("%d\n", 0x7fffffff + argc);
    if (!strcmp(what, "leak")) leaked = malloc(1234), leaked = NULL;
    if (!strcmp(what, "race")) {
        pthread_t a, b;
        pthread_create(&a, NULL, write_it, NULL), pthread_create(&b, NULL, write_it, NULL);
        pthread_join(a, NULL), pthread_join(b, NULL);
    }
    free(bytes);
    puts("ended");
    return 0;
}
