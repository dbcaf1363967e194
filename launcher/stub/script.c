/* The launcher that stands in a script's place: run the script, which lies elsewhere in the artifact under the same
 * name, with the interpreter that the configuration names, both found from this program's own directory. */

#include "launch.h"

enum { MOST_STAT = 144 };

/* Two names of one file: the same device and number, which are the first two words of struct stat. */
static int same_file(const char *a, const char *b)
{
    uint64_t first[MOST_STAT / 8], second[MOST_STAT / 8];
    return !system_call(SYS_newfstatat, HERE, (long)a, (long)first, 0, 0, 0) &&
           !system_call(SYS_newfstatat, HERE, (long)b, (long)second, 0, 0, 0) && first[0] == second[0] && first[1] == second[1];
}

static long count(const char *list)
{
    long n = 0;
    for (; *list; list += length(list) + 1) n++;
    return n;
}

__attribute__((used)) uint64_t launch(long *from, long *to)
{
    uint64_t bias = (uint64_t)&config - config.address;
    char *buffer = (char *)(config.buffer + bias), other_bytes[PATH], directory_bytes[PATH];
    struct text script = { buffer, 0, PATH }, other = { other_bytes, 0, PATH }, directory = { directory_bytes, 0, PATH };
    struct aux *aux = auxiliary(from);
    const char *invoked = (const char *)*value_of(aux, AT_EXECFN);
    if (!invoked) invoked = "";
    if (*value_of(aux, AT_SECURE)) die(invoked, "is not to be started with more rights than its user has", 0);
    int known = find_directory(&directory, invoked);

    /* The interpreter is given its own name, its arguments, the script, and what the user gave. The first two words,
     * argc and the launcher's name, make way; for the other words there is room in front. */
    const char *arguments = string_at(config.arguments);
    long before = count(arguments);
    long *block = to + before + 1;
    move_block(from, block, &directory, known, buffer + PATH);
    char **environment = (char **)(block + 1 + *block + 1);
    const char **rest = (const char **)(block + 1 + (*block > 0)), **argv = rest - before - 2, **next = argv;

    add_bytes(&script, directory.bytes, directory.length);
    join(&script, string_at(config.script), known);
    join(&directory, string_at(config.interpreter), known);

    /* A script that was started through a symlink beside it may want to know the symlink's name. */
    const char *name = invoked;
    for (const char *c = invoked; *c; c++) if (*c == '/') name = c + 1;
    add(&other, script.bytes);
    cut(&other, 1);
    add(&other, name);

    *next++ = directory.bytes;
    for (; *arguments; arguments += length(arguments) + 1) *next++ = arguments;
    *next = same_file(script.bytes, other.bytes) ? other.bytes : script.bytes;
    die(directory.bytes, "cannot be started",
        system_call(SYS_execve, (long)directory.bytes, (long)argv, (long)environment, 0, 0, 0));
}
