/* What all kinds of launchers do: find their own directory, give the environment its defaults, say what went wrong. */

#pragma once
#pragma clang attribute push(__attribute__((minsize)), apply_to = function)
#include "config.h"
#if defined(__x86_64__)
#include "x86_64.h"
#elif defined(__aarch64__)
#include "aarch64.h"
#endif

enum { AT_NULL = 0, AT_PHDR = 3, AT_PHNUM = 5, AT_PAGESZ = 6, AT_BASE = 7, AT_ENTRY = 9, AT_SECURE = 23, AT_EXECFN = 31 };
enum { FAILED = 121, HERE = -100 /* AT_FDCWD */, NOT_A_LINK = -22 /* EINVAL */, MOST_LINKS = 40, MOST_SCRIPTS = 10 };

/* A function that is to be there once: the compiler would save calls at the price of bytes. */
#define ONCE __attribute__((noinline)) static

struct aux { long kind, value; };

/* What a launcher knows once it has found itself. `directory` is its own, without a slash at the end, and `known` if its
 * name goes through no symlink. Strings are put at `memory`, which is large enough for all of them. */
struct self {
    const struct config *config;
    struct aux *aux;
    char *memory, *directory;
    long known;
};

ONCE void say(const char *s)
{
    long n = 0;
    while (s[n]) n++;
    system_call4(SYS_write, 2, (long)s, n, 0);
}

__attribute__((noreturn)) ONCE void die(const char *path, const char *what, int error)
{
    char digits[16], *p = digits + sizeof digits - 1;
    *p = 0;
    for (unsigned n = -error; n; n /= 10) *--p = '0' + n % 10;
    say("launcher: "), say(path), say(what), say(p), say("\n");
    for (;;) system_call4(SYS_exit_group, FAILED, 0, 0, 0);
}

/* Copy a string, and return where its NUL is. */
ONCE char *add(char *to, const char *s)
{
    while ((*to = *s)) to++, s++;
    return to;
}

/* What stands in `s` behind a beginning that it has, or NULL. */
ONCE const char *after(const char *s, const char *beginning)
{
    while (*beginning) if (*s++ != *beginning++) return 0;
    return s;
}

static char *string_at(struct self *self, int32_t place) { return (char *)self->config + place; }

ONCE long *value_of(struct aux *aux, long kind)
{
    while (aux->kind != kind && aux->kind != AT_NULL) aux++;
    return &aux->value; /* AT_NULL has the value 0 */
}

ONCE long read_link(const char *path, char *to)
{
    long n = system_call4(SYS_readlinkat, HERE, (long)path, (long)to, PATH - 1);
    if (n >= 0) to[n] = 0;
    return n;
}

/* Where the slash before the last name of a path is. */
ONCE char *before_name(const char *start, char *end)
{
    while (end > start && *--end != '/') ;
    return end;
}

/* Whether AT_EXECFN cannot be the name of this program: for a script it is the script's name, which is among the
 * arguments of its interpreter; and a descriptor's name may lead elsewhere once the program runs. */
static int is_doubtful(const char *name, char **argv)
{
    if (after(name, "/dev/fd/")) return 1;
    for (int n = 0; n < MOST_SCRIPTS && *argv && *++argv; n++) {
        const char *rest = after(*argv, name);
        if (rest && !*rest) return 1;
    }
    return 0;
}

/* Find the directory of this program. Mostly it is in the name that the program was started by. /proc/self/exe always
 * knows it, but the kernel makes that file for each process that asks, which takes longer than all else that a launcher
 * does. Defaults are for people to read, and lead up from the directory by its name: they are worth it. */
static void find_directory(struct self *self, const char *name, char **argv)
{
    /* Nothing longer than a path behind another can come about, for what is longer than PATH is no symlink. */
    char *directory = self->directory, *end = directory, *target = directory + 2 * PATH;
    int doubtful = is_doubtful(name, argv);
    if (doubtful && *argv) name = *argv;
    if (*name != '/' && system_call4(SYS_getcwd, (long)directory, PATH, 0, 0) > 0) {
        while (*end) end++;
        *end++ = '/';
    }
    end = add(end, name);
    if (doubtful || DEFAULTS || read_link(directory, target) != NOT_A_LINK) {
        self->known = read_link("/proc/self/exe", target) > 0 && *target == '/';
        if (self->known) end = add(directory, target);
        else for (int links = MOST_LINKS; links-- && read_link(directory, target) >= 0; )
            end = add(*target == '/' ? directory : before_name(directory, end) + 1, target);
    }
    *before_name(directory, end) = 0;
}

/* Put a string into the memory, with the directory wherever it has ORIGIN. */
ONCE char *expand(struct self *self, const char *s)
{
    char *start = self->memory, *to = start;
    for (;;) {
        const char *rest = after(s, ORIGIN);
        if (rest) {
            char *top = to;
            to = add(to, self->directory);
            for (s = rest; DEFAULTS && self->known && (rest = after(s, "/..")); s = rest) to = before_name(top, to);
            if (DEFAULTS && to == top && *s != '/') *to++ = '/';
        }
        if (!(*to++ = *s++)) break;
    }
    self->memory = to;
    return start;
}

/* Find out what there is to know. The answer is the interpreter's path. */
static char *begin(struct self *self, long *block)
{
    long *word = block + 1 + *block + 1;
    while (*word++) ;
    self->aux = (struct aux *)word;
    self->known = 0;
    self->memory = string_at(self, self->config->memory);
    const char *name = (const char *)*value_of(self->aux, AT_EXECFN);
    if (*value_of(self->aux, AT_SECURE)) die(name, ": must not have more rights than its user", 0);
    find_directory(self, name, (char **)block + 1);
    return expand(self, string_at(self, self->config->interpreter));
}

/* Copy what the kernel left on the stack to its place further down, with the defaults behind the environment. */
static inline void set_defaults(struct self *self, long *from, long *to)
{
    while ((*to++ = *from++)) ;
    char **environment = (char **)to;
    while (*from) *to++ = *from++;
    from++;
    for (const char *s = string_at(self, self->config->defaults); *s; ) {
        char **set = environment;
        for (; set < (char **)to; set++) {
            const char *a = s, *b = *set;
            while (*a == *b && *a != '=') a++, b++;
            if (*a == *b) break;
        }
        if (set == (char **)to) *to++ = (long)expand(self, s);
        while (*s++) ;
    }
    *to++ = 0;
    self->aux = (struct aux *)to;
    do to[0] = from[0], to[1] = from[1], to += 2, from += 2;
    while (to[-2] != AT_NULL);
}
