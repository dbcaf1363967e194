/* The bootstrap that is grafted into a program. The kernel has mapped the program and takes it for a static one, for its
 * headers name no interpreter. Map the one that the configuration names, as the kernel would have, tell it through the
 * auxiliary vector what the kernel would have told it, and go there. */

#include "launch.h"

enum { PT_LOAD = 1, PF_X = 1, PF_W = 2, PF_R = 4, ET_DYN = 3, MOST_HEADERS = 16 };
enum { PROT_READ = 1, PROT_WRITE = 2, PROT_EXEC = 4, MAP_PRIVATE = 2, MAP_FIXED = 16, MAP_ANONYMOUS = 32, O_CLOEXEC = 02000000 };
enum { DT_NULL = 0, DT_NEEDED = 1, DT_STRTAB = 5, DT_RPATH = 15 };

struct header { /* Elf64_Ehdr */
    unsigned char ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, phoff, shoff;
    uint32_t flags;
    uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};

struct segment { /* Elf64_Phdr */
    uint32_t type, flags;
    uint64_t offset, address, physical, file_size, memory_size, align;
};

struct dynamic { uint64_t tag, value; }; /* Elf64_Dyn */

struct image { struct header header; struct segment segments[MOST_HEADERS]; };

static uint64_t map(const char *path, uint64_t address, uint64_t size, long protection, long flags, long fd, uint64_t offset)
{
    long at = system_call(SYS_mmap, address, size, protection, flags, fd, offset);
    if (at < 0 && at > -4096) die(path, "cannot be mapped", at);
    return at;
}

/* Whether the file's headers are those of an interpreter: one for this machine, whose segments ascend without overlap
 * and do not wrap around. `size` is set to the end of the last one. */
static int is_interpreter(const struct image *i, long bytes, uint64_t page, uint64_t *size)
{
    const struct header *h = &i->header;
    static const unsigned char ident[6] = { 0x7f, 'E', 'L', 'F', 2, 1 };
    if (bytes < (long)sizeof *h) return 0;
    for (int n = 0; n < 6; n++) if (h->ident[n] != ident[n]) return 0;
    if (h->type != ET_DYN || h->machine != MACHINE || h->phoff != sizeof *h || h->phentsize != sizeof *i->segments) return 0;
    if (h->phnum > MOST_HEADERS || bytes < (long)(sizeof *h + h->phnum * sizeof *i->segments)) return 0;
    *size = 0;
    for (const struct segment *s = i->segments; s < i->segments + h->phnum; s++) {
        if (s->type != PT_LOAD) continue;
        if (s->address < *size || s->address >> 40 || s->memory_size >> 40) return 0;
        if (!s->file_size && (!*size || !s->memory_size)) return 0;
        if (s->file_size > s->memory_size || (s->address - s->offset) % page) return 0;
        if (s->file_size < s->memory_size && !(s->flags & PF_W)) return 0;
        *size = (s->address + s->memory_size + page - 1) & -page;
    }
    return h->entry < *size;
}

/* Map the interpreter, and return where its address 0 is. */
static uint64_t map_interpreter(const char *path, uint64_t page, uint64_t *entry)
{
    struct image image;
    uint64_t size, base = 0;
    long fd = system_call(SYS_openat, HERE, (long)path, O_CLOEXEC, 0, 0, 0);
    if (fd < 0) die(path, "cannot be opened", fd);
    long bytes = system_call(SYS_pread64, fd, (long)&image, sizeof image, 0, 0, 0);
    if (bytes < 0) die(path, "cannot be read", bytes);
    if (!is_interpreter(&image, bytes, page, &size)) die(path, "is no interpreter for this program", 0);
    int first = 1;
    for (struct segment *s = image.segments; s < image.segments + image.header.phnum; s++) {
        if (s->type != PT_LOAD) continue;
        long protection = (s->flags & PF_R ? PROT_READ : 0) | (s->flags & PF_W ? PROT_WRITE : 0) | (s->flags & PF_X ? PROT_EXEC : 0);
        uint64_t skew = s->address % page, start = s->address - skew;
        if (first) {
            /* The first mapping is as large as all of them together, so that nothing else gets between. */
            base = map(path, 0, size - start, protection, MAP_PRIVATE, fd, s->offset - skew) - start;
            first = 0;
        } else if (s->file_size) {
            map(path, base + start, s->file_size + skew, protection, MAP_PRIVATE | MAP_FIXED, fd, s->offset - skew);
        }
        if (s->file_size < s->memory_size) {
            /* All of the last page: glibc's first allocations lie behind the segment's end, and have to be zero. */
            uint64_t end = s->file_size ? s->address + s->file_size : start, pages = (end + page - 1) & -page, last = s->address + s->memory_size;
            for (char *p = (char *)(base + end); p < (char *)(base + pages); p++) *p = 0;
            if (last > pages) map(path, base + pages, last - pages, protection, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
        }
    }
    system_call(SYS_close, fd, 0, 0, 0, 0, 0);
    *entry = base + image.header.entry;
    return base;
}

/* Without /proc the interpreter cannot expand $ORIGIN. Give it the names that the graft added with the directory in
 * its place. The dynamic section tells by how much a name is behind the string table, and that may be any distance. */
static void expand_origin(const char *directory, uint64_t bias)
{
    static const char origin[] = "$ORIGIN";
    for (const char *c = directory; *c; c++)
        if (*c == '$' || *c == ':') die(directory, "without /proc, and $ or : in the name of the directory", 0);
    uint64_t size = config.names_size + config.origins * length(directory) + 1;
    char *memory = (char *)map(directory, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct dynamic *d, *section = (struct dynamic *)(config.dynamic + bias);
    uint64_t strings = 0;
    for (d = section; d->tag != DT_NULL; d++) if (d->tag == DT_STRTAB) strings = d->value + bias;
    struct text text = { memory, 0, size };
    for (d = section; d->tag != DT_NULL; d++) {
        const char *name = (const char *)(strings + d->value), *first = (const char *)(config.names + bias);
        if ((d->tag != DT_NEEDED && d->tag != DT_RPATH) || name < first || name >= first + config.names_size) continue;
        d->value = (uint64_t)(text.bytes + text.length) - strings;
        while (*name) {
            int n = 0;
            while (origin[n] && name[n] == origin[n]) n++;
            if (origin[n]) add_bytes(&text, name++, 1);
            else add(&text, directory), name += n;
        }
        text.length++;
    }
}

__attribute__((used)) uint64_t launch(long *from, long *to)
{
    uint64_t bias = (uint64_t)&config - config.address, start;
    struct text path = { (char *)(config.buffer + bias), 0, PATH };
    struct aux *aux = auxiliary(from);
    const char *invoked = (const char *)*value_of(aux, AT_EXECFN);
    if (!invoked) invoked = "";
    if (*value_of(aux, AT_SECURE)) die(invoked, "is not to be started with more rights than its user has", 0);
    int known = find_directory(&path, invoked);
    aux = move_block(from, to, &path, known, path.bytes + PATH);
    if (!known) expand_origin(path.bytes, bias);
    join(&path, string_at(config.interpreter), known);
    *value_of(aux, AT_BASE) = map_interpreter(path.bytes, *value_of(aux, AT_PAGESZ), &start);
    *value_of(aux, AT_PHDR) = config.table + bias;
    *value_of(aux, AT_PHNUM) = config.headers;
    *value_of(aux, AT_ENTRY) = config.entry + bias;
    return start;
}
