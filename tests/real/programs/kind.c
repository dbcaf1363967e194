/* For programs that are linked in unusual ways: constructors, thread-local storage, IFUNC, copied and relocated data. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static __thread int local = 5;
static int constructed;
static char zeroed[100000];
const char *const names[] = { "one", "two", "three" };
FILE **const copied = &stdout;

__attribute__((constructor)) static void construct(void) { constructed++; }
__attribute__((destructor)) static void destruct(void) { fputs("destructed\n", stdout); }

#ifndef NO_IFUNC
static int chosen(void) { return 6; }
static int (*choose(void))(void) { return chosen; }
int indirect(void) __attribute__((ifunc("choose")));
#else
static int indirect(void) { return 6; }
#endif

int main(int argc, char **argv)
{
    int sum = 0;
    for (unsigned n = 0; n < sizeof zeroed; n++) sum += zeroed[n];
    fprintf(*copied, "%d %d %d %d %s %.3f\n", local, constructed, indirect(), sum, names[argc], sqrt(argc + 1));
    return argc > 1 ? 9 : 8;
}
