/* Thread-local storage of the program and of a library that it is linked with, in many threads; locks; cancellation. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

extern void *address(void);
static __thread int own = 7, zero;
static __thread struct { long a; char b[5000]; } large __attribute__((aligned(64))) = { 3, "x" };
static int total;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *run(void *argument)
{
    int n = (int)(long)argument;
    if (own != 7 || zero || large.a != 3 || (long)&large % 64 || *(int *)address() != 42) return (void *)1;
    own = n, zero = n;
    usleep(1000);
    pthread_mutex_lock(&lock);
    total += own == n && zero == n;
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void *wait_forever(void *argument)
{
    pause();
    return argument;
}

int main(void)
{
    pthread_t threads[40], waiting;
    for (long n = 0; n < 40; n++) if (pthread_create(&threads[n], NULL, run, (void *)n)) return 2;
    for (int n = 0; n < 40; n++) {
        void *result;
        pthread_join(threads[n], &result);
        if (result) return 3;
    }
    void *result;
    pthread_create(&waiting, NULL, wait_forever, NULL);
    pthread_cancel(waiting);
    pthread_join(waiting, &result);
    pthread_attr_t attributes;
    size_t size;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstacksize(&attributes, &size);
    printf("%d %s %s\n", total, result == PTHREAD_CANCELED ? "cancelled" : "not cancelled", size > 1000000 ? "stack" : "no stack");
    pthread_getattr_default_np(&attributes);
    pthread_attr_getstacksize(&attributes, &size);
    printf("new threads have %zu bytes\n", size);
    return 0;
}
