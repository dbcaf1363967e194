/* Stands in for an interpreter (as ld.so), or for a script's: prints what it was started with, and ends with 7. */

#include <stddef.h>
#include <stdint.h>

struct segment { uint32_t type, flags; uint64_t offset, address, physical, file_size, memory_size, align; };

static long call(long number, long a, long b, long c)
{
    __asm__ volatile("syscall" : "+a"(number) : "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return number;
}

static void text(const char *s)
{
    long n = 0;
    while (s[n]) n++;
    call(1, 1, (long)s, n);
}

static void line(const char *name, const char *value) { text(name), text("="), text(value), text("\n"); }

static void number(const char *name, uint64_t value)
{
    char digits[20], *p = digits + 20;
    *--p = 0;
    do *--p = "0123456789abcdef"[value % 16]; while (value /= 16);
    line(name, p);
}

static volatile char zeroed[5000]; /* of which the last pages are not in the file */

__attribute__((used)) static void probe(long *stack)
{
    char **argv = (char **)(stack + 1), **env = argv + stack[0] + 1;
    number("aligned", (uint64_t)stack % 16);
    number("argc", stack[0]);
    for (char **a = argv; *a; a++) line("argv", *a);
    long *word = (long *)env;
    for (; *word; word++) line("env", (char *)*word);
    static uint64_t aux[64];
    for (word++; *word; word += 2) if (*word < 64) aux[*word] = word[1];
    if (aux[31]) line("execfn", (char *)aux[31]);
    for (size_t i = 0; i < sizeof zeroed; i++) if (zeroed[i]) text("dirty\n");
    if (!aux[7]) call(231, 7, 0, 0);
    struct segment *s = (struct segment *)aux[3];
    uint64_t bias = aux[3] - s->address, *dynamic = 0;
    number("first", s->type);
    for (uint64_t i = 0; i < aux[5]; i++) {
        if (s[i].type == 3) line("interp", (char *)(bias + s[i].address));
        if (s[i].type == 2) dynamic = (uint64_t *)(bias + s[i].address);
    }
    number("entry", aux[9] - bias);
    uint64_t strings = 0;
    for (uint64_t *d = dynamic; *d; d += 2) if (*d == 5) strings = bias + d[1];
    for (uint64_t *d = dynamic; *d; d += 2) {
        if (*d == 1) line("needed", (char *)(strings + d[1]));
        if (*d == 15) line("rpath", (char *)(strings + d[1]));
        if (*d == 29) line("runpath", (char *)(strings + d[1]));
    }
    call(231, 7, 0, 0);
}

__asm__(".globl _start\n_start: mov %rsp, %rdi\ncall probe\n");
