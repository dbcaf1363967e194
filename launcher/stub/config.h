/* The configuration of a launcher. It is the first thing in the launcher's machine code, left zero by the compiler and
 * filled in by launcher/config.py, which has the same layout. Integers are little-endian. What is called a place is an
 * offset in bytes from the start of this structure, where a NUL-terminated string lies, or a list of them, which an empty
 * string ends. What is called an address is as in the program's own headers. */

#pragma once
#include <stddef.h>
#include <stdint.h>

#define MAGIC "launcher"
#define SIZE 120   /* of the structure, for the assembler */
#define ROOM_AT 24 /* the offset of `room`, for the assembler */
#define ROOT 1     /* in a default's value: this byte stands for the artifact's directory */
#define PATH 4096  /* bytes: the longest path that Linux takes, with its NUL */

struct config {
    char magic[8];
    uint32_t format;      /* 1 */
    uint32_t size;        /* bytes, from the start of this structure to the end of what it points to */
    uint32_t interpreter; /* place: the interpreter's path, seen from the launcher's directory */
    uint32_t defaults;    /* place: a list of NAME=value, each set when the environment has no NAME */
    uint32_t room;        /* bytes of stack for pointers: to the defaults, and a script's arguments; a multiple of 16 */
    uint32_t depth;       /* how many directories the launcher is below the artifact's own */
    uint64_t address;     /* address: this structure */
    uint64_t buffer;      /* address: zeroed memory; PATH bytes, then what the defaults' strings need */

    /* Of a grafted program. */
    uint64_t entry;       /* address: where the program's own code begins */
    uint64_t table;       /* address: the program headers that the interpreter is to see */
    uint64_t dynamic;     /* address: the dynamic section */
    uint64_t names;       /* address: the strings that the graft added to the dynamic string table */
    uint32_t names_size;  /* bytes */
    uint32_t origins;     /* how often $ORIGIN is in them */
    uint32_t headers;     /* how many program headers there are in the table */
    uint32_t was_headers; /* how many there were before the graft: with the two below, what undoes it */
    uint64_t was_interp;  /* address: the path in the program's own PT_INTERP */
    uint64_t was_dynamic; /* address: the program's own dynamic section */

    /* Of a script launcher. */
    uint32_t script;      /* place: the script's path, seen from the launcher's directory */
    uint32_t arguments;   /* place: a list of what the interpreter is given before the script */
};

_Static_assert(sizeof(struct config) == SIZE, "launcher/config.py has the same layout");
_Static_assert(offsetof(struct config, room) == ROOM_AT, "the assembler reads it here");

extern const struct config config __attribute__((visibility("hidden")));
