/* The configuration of a launcher. It is the first thing in the launcher's machine code, left zero by the compiler and
 * filled in by launcher/config.py, which has the same layout. Integers are little-endian. What is called a place is an
 * offset in bytes from the start of this structure: of a NUL-terminated string, of a list of strings, which an empty one
 * ends, or of some other part of the program. */

#pragma once
#include <stddef.h>
#include <stdint.h>

#define MAGIC "launcher"
#define SIZE 72          /* of the structure, for the assembler */
#define ROOM_AT 16       /* the offset of `room`, for the assembler */
#define ORIGIN "$ORIGIN" /* in a string: the launcher's own directory, as the interpreter writes it too */
#define PATH 4096        /* bytes: the longest path that Linux takes, with its NUL */

struct config {
    char magic[8];
    uint32_t format;      /* 3 */
    uint32_t size;        /* bytes, from the start of this structure to the end of its strings */
    uint32_t room;        /* bytes of stack for pointers: to the defaults, and a script's arguments; a multiple of 16 */
    int32_t memory;       /* place: zeroed memory for all strings that have ORIGIN in them; first the interpreter's path */
    int32_t interpreter;  /* place: the interpreter's path, from ORIGIN on */
    int32_t defaults;     /* place: a list of NAME=value, each set when the environment has no NAME */

    /* Of a script launcher. */
    int32_t script;       /* place: the script's path, from ORIGIN on; empty in a program */
    int32_t arguments;    /* place: a list of what the interpreter is given before the script */

    /* Of a grafted program. */
    int32_t entry;        /* place: where the program's own code begins */
    int32_t table;        /* place: the program headers that the interpreter is to see */
    uint32_t headers;     /* how many there are */
    int32_t dynamic;      /* place: the dynamic section; up to DT_DEBUG, its entries have ORIGIN in their strings */
    int32_t strings;      /* place: the dynamic string table */
    uint32_t was_headers; /* how many program headers there were before the graft: with the next two, what undoes it */
    int32_t was_interp;   /* place: the path in the program's own PT_INTERP */
    int32_t was_dynamic;  /* place: the program's own dynamic section */
};

_Static_assert(sizeof(struct config) == SIZE, "launcher/config.py has the same layout");
_Static_assert(offsetof(struct config, room) == ROOM_AT, "the assembler reads it here");

/* A number above as the assembler reads it. */
#define TEXT_OF_(x) #x
#define TEXT_OF(x) TEXT_OF_(x)

extern const struct config config __attribute__((visibility("hidden")));
