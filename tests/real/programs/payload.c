/* Reads what lies behind it in its own file: at the end of its section headers, and from the file's end. */
#include <elf.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    Elf64_Ehdr header;
    char first[5] = "", last[5] = "";
    FILE *self = fopen("/proc/self/exe", "rb");
    if (!self || fread(&header, sizeof header, 1, self) != 1) return 1;
    fseek(self, header.e_shoff + header.e_shnum * header.e_shentsize, SEEK_SET);
    if (fread(first, 1, 4, self) != 4) return 2;
    fseek(self, -4, SEEK_END);
    if (fread(last, 1, 4, self) != 4) return 3;
    printf("%s %s %s %d\n", argv[0], first, last, argc);
    return 7;
}
