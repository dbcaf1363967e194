/* One GiB of zeroed memory, of which a few pages are used. */
#include <stdio.h>

static char zeroed[1 << 30];

int main(void)
{
    int sum = 0;
    for (long n = 0; n < 1 << 30; n += 1 << 24) sum += zeroed[n]++;
    printf("%d %d\n", sum, zeroed[1 << 24]);
    return 0;
}
