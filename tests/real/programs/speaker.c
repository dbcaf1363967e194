/* A library that says its NAME, and what the library that it needs (or opens) says. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

static char text[300];
#ifdef NEEDS
extern const char *inner(void);
#endif

const char *speak(void)
{
#ifdef NEEDS
    snprintf(text, sizeof text, "%s with %s", NAME, inner());
#elif defined(OPENS)
    void *library = dlopen(OPENS, RTLD_NOW);
    const char *(*inner)(void) = library ? (const char *(*)(void))dlsym(library, "inner") : NULL;
    snprintf(text, sizeof text, "%s with %s", NAME, inner ? inner() : dlerror());
#else
    snprintf(text, sizeof text, "%s", NAME);
#endif
    return text;
}
