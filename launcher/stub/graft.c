/* The bootstrap that is grafted into a program. The kernel has mapped the program and takes it for a static one, for its
 * headers name no interpreter. Map the one that the configuration names, as the kernel would have, tell it through the
 * auxiliary vector what the kernel would have told it, and go there. */

#include "image.h"

enum { DT_DEBUG = 21 };

struct dynamic { uint64_t tag, value; }; /* Elf64_Dyn */

/* The names that the graft added to the dynamic section, in front of DT_DEBUG, begin with ORIGIN. The interpreter would ask /proc for it, which
 * takes long and may not be there; so it is told. Only where the directory has a byte in its name that means something
 * to the interpreter are the names left as they are. */
static void name_libraries(struct self *self)
{
    for (const char *c = self->directory; *c; c++)
        if (*c == '$' || *c == ':') {
            if (!self->known && read_link("/proc/self/exe", self->directory + 2 * PATH) < 0)
                die(self->directory, ": needs /proc for its $ or :", 0);
            return;
        }
    struct dynamic *d = (struct dynamic *)string_at(self, self->config->dynamic);
    char *strings = string_at(self, self->config->strings);
    for (; d->tag != DT_DEBUG; d++) d->value = expand(self, strings + d->value) - strings;
}

__attribute__((used)) uint64_t launch(long *from, long *to)
{
    union { char path[3 * PATH]; struct image image; } u;
    struct self self = { .config = &config, .directory = u.path };
    __asm__("" : "+r"(self.config)); /* an address in a register takes less than one from the instruction pointer */
    char *interpreter = begin(&self, from);
    if (DEFAULTS) set_defaults(&self, from, to);
    name_libraries(&self);
    uint64_t base = map_image(interpreter, &u.image, PAGE_SIZE(self.aux));
    for (struct aux *a = self.aux; a->kind; a++) {
        if (a->kind == AT_BASE) a->value = base;
        if (a->kind == AT_PHDR) a->value = (long)string_at(&self, self.config->table);
        if (a->kind == AT_PHNUM) a->value = self.config->headers;
        if (a->kind == AT_ENTRY) a->value = (long)string_at(&self, self.config->entry);
    }
    return base + u.image.entry;
}
#pragma clang attribute pop
