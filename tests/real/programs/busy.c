/* Works for a while, half of it in its own function, half in the C library's random(). */
#include <stdlib.h>

__attribute__((noinline)) unsigned long mix(unsigned long sum, long more)
{
    for (int n = 0; n < 20; n++) sum = sum * 31 + more;
    return sum;
}

int main(void)
{
    unsigned long sum = 0;
    for (int n = 0; n < 10000000; n++) sum = mix(sum, random());
    return sum == 1;
}
