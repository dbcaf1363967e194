/* The launcher that stands in the place of a program with a payload behind its ELF part, which the program may look for at
 * any place of its own file. So the file keeps all bytes but its first ones, which are this; and the ELF part, a
 * launcher itself, is a file of its own. Map that as the kernel would, and go there: it does all the rest. */

#include "image.h"

__attribute__((used)) uint64_t launch(long *from, long *to)
{
    union { char path[3 * PATH]; struct image image; } u;
    struct self self = { .config = &config, .directory = u.path };
    uint64_t base = map_image(begin(&self, from), &u.image, PAGE_SIZE(self.aux));
    (void)to; /* no room was asked for: the stack stays where it is */
    return base + u.image.entry;
}
#pragma clang attribute pop
