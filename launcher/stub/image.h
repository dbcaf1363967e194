/* Mapping an ELF file as the kernel would. */

#pragma once
#include "launch.h"

enum { MAP_PRIVATE = 2, MAP_FIXED = 16, MAP_ANONYMOUS = 32, O_CLOEXEC = 02000000 };
enum { PT_LOAD = 1, ET_EXEC = 2, ET_DYN = 3, MOST_HEADERS = 24, MAP_FIXED_NOREPLACE = 0x100000 };

#define ELF 0x00010102464c457fUL /* 64 bits, little-endian, version 1; the byte above that says for which system */

struct segment { /* Elf64_Phdr */
    uint32_t type, flags;
    uint64_t offset, address, physical, file_size, memory_size, align;
};

struct image { /* Elf64_Ehdr, and what mostly stands right behind it */
    uint64_t ident[2];
    uint32_t kind, version; /* e_type and e_machine in one */
    uint64_t entry, phoff, shoff;
    uint32_t flags;
    uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
    struct segment segments[MOST_HEADERS];
};

/* Map a file whose segments ascend without overlap, and return where its address 0 is. */
static uint64_t map_image(const char *path, struct image *i, uint64_t page)
{
    static const char protections[] = { 0, 4, 2, 6, 1, 5, 3, 7 }; /* from PF_R 4, PF_W 2, PF_X 1 to PROT_ 1, 2, 4 */
    struct segment *s, *behind;
    long base = 0, at, mapped = 0, fd = system_call4(SYS_openat, HERE, (long)path, O_CLOEXEC, 0);
    if (fd < 0) die(path, ": cannot be opened, error ", fd);
    if (system_call4(SYS_pread64, fd, (long)i, sizeof *i, 0) < (long)sizeof *i) goto bad;
    int fixed = APART && i->kind == (ET_EXEC | MACHINE << 16);
    if (i->ident[0] << 8 != ELF << 8 || (i->kind != (ET_DYN | MACHINE << 16) && !fixed)) goto bad;
    if (i->phoff != offsetof(struct image, segments) || i->phnum > MOST_HEADERS) goto bad;
    behind = i->segments + i->phnum;
    uint64_t size = 0;
    for (s = i->segments; s < behind; s++) {
        if (s->type != PT_LOAD) continue;
        if (s->address < size || (s->address | s->memory_size) >> 40 || s->file_size > s->memory_size) goto bad;
        size = (s->address + s->memory_size + page - 1) & -page;
    }
    for (s = i->segments; s < behind; s++) {
        if (s->type != PT_LOAD) continue;
        long protection = protections[s->flags & 7], flags = mapped ? MAP_PRIVATE | MAP_FIXED : MAP_PRIVATE;
        uint64_t start = s->address & -page, end = s->address + s->file_size, last = s->address + s->memory_size;
        uint64_t offset = s->offset - (s->address - start);
        if (fixed && !mapped) flags |= MAP_FIXED_NOREPLACE;
        /* The first mapping is as large as all of them together, so that nothing else gets between. */
        at = system_call6(SYS_mmap, base + start, (mapped ? end : size) - start, protection, flags, fd, offset);
        if (!mapped) base = at - start, mapped = 1;
        if (last > end && at > 0) {
            /* All of the last page: glibc's first allocations lie behind the segment's end, and have to be zero. */
            uint64_t next = (end + page - 1) & -page;
            for (char *p = (char *)(base + end); p < (char *)(base + next); p++) *p = 0;
            flags = MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS;
            if (last > next) at = system_call6(SYS_mmap, base + next, last - next, protection, flags, -1, 0);
        }
        if (at < 0) die(path, ": cannot be mapped, error ", at);
    }
    system_call4(SYS_close, fd, 0, 0, 0);
    return base;
bad:
    die(path, ": is no ELF file for this CPU", 0);
}
