/* Opens each library that it is told, by soname or path, and calls what is in it. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <link.h>

int main(int argc, char **argv)
{
    for (int n = 1; n < argc; n++) {
        void *library = dlopen(argv[n], RTLD_NOW);
        if (!library) {
            printf("%s\n", dlerror());
            continue;
        }
        const char *(*speak)(void) = (const char *(*)(void))dlsym(library, "speak");
        void *(*address)(void) = (void *(*)(void))dlsym(library, "address");
        printf("%s: %s\n", argv[n], speak ? speak() : "opened");
        if (address && *(int *)address() != 42) puts("its thread-local storage is wrong");
        void *again = dlopen(argv[n], RTLD_NOW | RTLD_NOLOAD);
        if (again != library) puts("loaded twice");
        dlclose(again);
        if (dlclose(library)) puts(dlerror());
    }
    return 0;
}
