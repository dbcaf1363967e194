/* Where the program itself was loaded. */
#pragma once
#define _GNU_SOURCE
#include <link.h>

extern const char __ehdr_start[];

static inline const void *own_base(void) { return __ehdr_start; }

static inline unsigned long own_bias(void)
{
    return _r_debug.r_map->l_addr;
}
