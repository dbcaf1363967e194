/* Ends by the signal that it is told, or as the word says. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (!strcmp(argv[1], "null")) *(volatile int *)0 = 1;
    if (!strcmp(argv[1], "abort")) abort();
    if (!strcmp(argv[1], "code")) *(volatile char *)main = 0;
    return raise(atoi(argv[1]));
}
