/* A library with thread-local storage, as MODEL says. */
#define _GNU_SOURCE
static __thread int value __attribute__((tls_model(MODEL))) = 41;
static __thread char large[3000];

void *address(void)
{
    large[0]++;
    value = 42;
    return &value;
}

const char *speak(void) { return large[0] ? "used" : "zeroed"; }
