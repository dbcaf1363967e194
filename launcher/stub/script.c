/* The launcher that stands in a script's place: run the script, which lies elsewhere in the artifact under the same
 * name, with the interpreter that the configuration names, both found from this program's own directory. */

#include "launch.h"

enum { MOST_STAT = 144 };

/* Two names of one file: the same device and number, which are the first two words of struct stat. */
static int same_file(const char *a, const char *b)
{
    uint64_t first[MOST_STAT / 8], second[MOST_STAT / 8];
    return !system_call4(SYS_newfstatat, HERE, (long)a, (long)first, 0) &&
           !system_call4(SYS_newfstatat, HERE, (long)b, (long)second, 0) && first[0] == second[0] && first[1] == second[1];
}

__attribute__((used)) uint64_t launch(long *from, long *to)
{
    char path[3 * PATH], name_bytes[2 * PATH], *other = name_bytes;
    struct self self = { .config = &config, .directory = path };
    char *interpreter = begin(&self, from);
    char *script = expand(&self, string_at(&self, config.script));

    /* The interpreter is given its own name, its arguments, the script, and what the user gave. The first two words,
     * argc and the launcher's name, make way; for the other words there is room in front. */
    long before = 0;
    for (const char *s = string_at(&self, config.arguments); *s; before++) while (*s++) ;
    long *block = to + before + 1;
    const char *invoked = (const char *)*value_of(self.aux, AT_EXECFN);
    set_defaults(&self, from, block);
    char **environment = (char **)(block + 1 + *block + 1);
    const char **rest = (const char **)(block + 1 + (*block > 0)), **argv = rest - before - 2, **next = argv;

    /* A script that was started through a symlink beside it may want to know the symlink's name. */
    const char *name = invoked;
    for (const char *c = invoked; *c; c++) if (*c == '/') name = c + 1;
    add(other, script);
    char *end = other;
    while (*end) end++;
    add(before_name(other, end) + 1, name);

    *next++ = interpreter;
    for (const char *s = string_at(&self, config.arguments); *s; ) {
        *next++ = s;
        while (*s++) ;
    }
    *next = same_file(script, other) ? other : script;
    die(interpreter, ": cannot be started, error ", system_call4(SYS_execve, (long)interpreter, (long)argv, (long)environment, 0));
}
#pragma clang attribute pop
