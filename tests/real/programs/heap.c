/* 900 MB from sbrk(2), and every page of it used at its edges. */
#define _GNU_SOURCE
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    char *first = sbrk(0);
    for (int n = 0; n < 900; n++) {
        char *piece = sbrk(1 << 20);
        if (piece == (void *)-1) return printf("only %d MB\n", n), 1;
        piece[0] = piece[(1 << 20) - 1] = 1;
    }
    printf("%ld\n", (long)((char *)sbrk(0) - first));
    return 0;
}
