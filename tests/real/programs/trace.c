/* A backtrace through a library's callback (qsort's), by name; and where each of its own frames is in its file. */
#define _GNU_SOURCE
#include <execinfo.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "link_address.h"

int compare(const void *a, const void *b)
{
    static int done;
    if (!done++) {
        void *frames[32];
        int count = backtrace(frames, 32);
        char **names = backtrace_symbols(frames, count);
        for (int n = 0; n < count; n++) {
            char *open = strchr(names[n], '('), *plus = strchr(names[n], '+'), *slash;
            if (!open) continue;
            *open = 0;
            slash = strrchr(names[n], '/');
            if (plus) *plus = 0;
            printf("%s: %s\n", slash ? slash + 1 : names[n], open + 1);
            Dl_info info;
            if (dladdr(frames[n], &info) && (info.dli_fbase == own_base()))
                printf("own %#lx\n", (unsigned long)frames[n] - 1 - own_bias());
        }
    }
    return *(const int *)a - *(const int *)b;
}

int sorted(int *values) { qsort(values, 2, sizeof *values, compare); return values[0]; }

int main(void)
{
    int values[] = { 2, 1 };
    return sorted(values) + 2;
}
