/* Recursion that takes as many megabytes of stack as it is told. */
#include <stdio.h>
#include <stdlib.h>

static __attribute__((noinline)) int down(int kilobytes)
{
    volatile char frame[1000];
    frame[0] = frame[999] = 1;
    return kilobytes ? down(kilobytes - 1) + frame[0] : 0;
}

int main(int argc, char **argv)
{
    printf("%d\n", down(atoi(argv[1]) * 1024));
    return 0;
}
