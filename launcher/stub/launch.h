/* What both kinds of launcher do: find their own directory, give the environment its defaults, say what went wrong. */

#pragma once
#include "config.h"
#if defined(__x86_64__)
#include "x86_64.h"
#endif

enum { AT_NULL = 0, AT_PHDR = 3, AT_PHENT = 4, AT_PHNUM = 5, AT_PAGESZ = 6, AT_BASE = 7, AT_ENTRY = 9, AT_SECURE = 23,
       AT_EXECFN = 31 };
enum { FAILED = 121, HERE = -100 /* AT_FDCWD */, MOST_LINKS = 40 };

struct aux { long kind, value; };

/* A string that grows in memory which is there already. There is always a NUL behind it. */
struct text { char *bytes; long length, limit; };

static long length(const char *s)
{
    long n = 0;
    while (s[n]) n++;
    return n;
}

static void say(const char *s) { system_call(SYS_write, 2, (long)s, length(s), 0, 0, 0); }

__attribute__((noreturn)) static void die(const char *path, const char *what, long error)
{
    char digits[24], *p = digits + sizeof digits;
    *--p = 0;
    for (error = error < 0 ? -error : error; error; error /= 10) *--p = '0' + error % 10;
    say("launcher: "), say(path), say(": "), say(what);
    if (*p) say(", error "), say(p);
    say("\n");
    for (;;) system_call(SYS_exit_group, FAILED, 0, 0, 0, 0, 0);
}

static void add_bytes(struct text *t, const char *s, long n)
{
    if (n >= t->limit - t->length) die(t->bytes, "the path is too long", 0);
    for (long i = 0; i < n; i++) t->bytes[t->length++] = s[i];
    t->bytes[t->length] = 0;
}

static void add(struct text *t, const char *s) { add_bytes(t, s, length(s)); }

/* Cut the last name off, with the slash before it unless that is to stay. */
static void cut(struct text *t, int keep_slash)
{
    while (t->length && t->bytes[t->length - 1] != '/') t->length--;
    if (t->length && !keep_slash) t->length--;
    t->bytes[t->length] = 0;
}

/* Go on with a path that is seen from the directory in `t`. One that goes through no symlink is shortened by each `..`. */
static void join(struct text *t, const char *path, int known)
{
    while (known && path[0] == '.' && path[1] == '.' && path[2] == '/') {
        cut(t, 0);
        path += 3;
    }
    add(t, "/");
    add(t, path);
}

static const char *string_at(uint32_t place) { return (const char *)&config + place; }

static struct aux *auxiliary(long *block)
{
    long *word = block + 1 + *block + 1;
    while (*word) word++;
    return (struct aux *)(word + 1);
}

static long *value_of(struct aux *aux, long kind)
{
    while (aux->kind != kind && aux->kind != AT_NULL) aux++;
    return &aux->value; /* AT_NULL has the value 0 */
}

static long read_link(const char *path, char *to)
{
    long n = system_call(SYS_readlinkat, HERE, (long)path, (long)to, PATH - 1, 0, 0);
    if (n >= 0) to[n] = 0;
    return n;
}

/* Put the directory of this program into the empty path. The answer says whether /proc knew it. If it did not, the path
 * may go through symlinks, and the interpreter is not able to expand $ORIGIN. */
static int find_directory(struct text *path, const char *invoked)
{
    path->length = read_link("/proc/self/exe", path->bytes);
    if (path->length > 0 && path->bytes[0] == '/') {
        cut(path, 0);
        return 1;
    }
    path->length = 0;
    if (invoked[0] != '/') {
        long n = system_call(SYS_getcwd, (long)path->bytes, PATH, 0, 0, 0, 0);
        if (n <= 0 || path->bytes[0] != '/') die(invoked, "without /proc, and in no directory that can be named", n);
        path->length = n - 1;
        add(path, "/");
    }
    add(path, invoked);
    for (int links = 0; links < MOST_LINKS; links++) {
        char target[PATH];
        if (read_link(path->bytes, target) < 0) {
            cut(path, 0);
            return 0;
        }
        if (target[0] == '/') path->length = 0;
        cut(path, 1);
        add(path, target);
    }
    die(invoked, "too many symlinks", 0);
}

/* The artifact's own directory. A path that may go through symlinks has to go up by `..`. */
static void add_root(struct text *t, const struct text *directory, int known, char next)
{
    long n = directory->length;
    for (uint32_t i = 0; known && i < config.depth; i++)
        while (n && directory->bytes[--n] != '/') ;
    add_bytes(t, directory->bytes, n);
    for (uint32_t i = 0; !known && i < config.depth; i++) add(t, "/..");
    if (!t->length && next != '/') add(t, "/");
}

static int is_set(char **environment, char **end, const char *setting)
{
    for (; environment < end; environment++)
        for (const char *a = *environment, *b = setting; *a == *b; a++, b++)
            if (*a == '=') return 1;
    return 0;
}

/* Copy what the kernel left on the stack to its place further down, with the defaults behind the environment. A program
 * without defaults has both in one place. The strings go where `text` ends. */
static struct aux *move_block(long *from, long *to, const struct text *directory, int known, char *text)
{
    *to++ = *from++;
    while ((*to++ = *from++)) ;
    char **environment = (char **)to;
    while (*from) *to++ = *from++;
    from++;
    for (const char *s = string_at(config.defaults); *s; s += length(s) + 1) {
        if (is_set(environment, (char **)to, s)) continue;
        struct text setting = { text, 0, 1 << 30 };
        for (const char *c = s; *c; c++) {
            struct text value = { setting.bytes + setting.length, 0, PATH };
            if (*c == ROOT) add_root(&value, directory, known, c[1]), setting.length += value.length;
            else add_bytes(&setting, c, 1);
        }
        *to++ = (long)text;
        text += setting.length + 1;
    }
    *to++ = 0;
    struct aux *aux = (struct aux *)to;
    do to[0] = from[0], to[1] = from[1], to += 2, from += 2;
    while (to[-2] != AT_NULL);
    return aux;
}
