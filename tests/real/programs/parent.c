/* Prints its parent's process id: a library that was preloaded answers. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    printf("%d\n", getppid() == 12345);
    return 0;
}
