/* Starts itself again through /proc/self/exe, three times, and reads what is behind the name. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char mark[] = "a mark that " "only this program has";

int main(int argc, char **argv)
{
    int depth = argc > 1 ? atoi(argv[1]) : 0;
    char self[4096] = "", number[16], name[16];
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) return 1;
    printf("%s %s\n", argv[0], self);
    fflush(stdout);
    if (depth == 3) {
        static char bytes[1 << 22];
        FILE *file = fopen("/proc/self/exe", "rb");
        size_t size = file ? fread(bytes, 1, sizeof bytes, file) : 0;
        printf("%s\n", memmem(bytes, size, mark, strlen(mark)) ? "its own file" : "another file");
        return 5;
    }
    sprintf(number, "%d", depth + 1), sprintf(name, "depth%d", depth + 1);
    execl("/proc/self/exe", name, number, NULL);
    return 2;
}
