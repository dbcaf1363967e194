/* A nested function's address is a piece of code on the stack. */
#include <stdio.h>

static int apply(int (*f)(int), int x) { return f(x); }

int main(int argc, char **argv)
{
    int add(int x) { return x + argc; }
    printf("%d\n", apply(add, 41));
    return 0;
}
