/* Static: prints its arguments, its environment and its open files. */
#include <fcntl.h>
#include <stdio.h>

extern char **environ;

int main(int argc, char **argv)
{
    for (int n = 0; n < argc; n++) printf("plain argv %s\n", argv[n]);
    for (char **e = environ; *e; e++) printf("plain env %s\n", *e);
    for (int fd = 0; fd < 1024; fd++) if (fcntl(fd, F_GETFD) >= 0) printf("plain fd %d\n", fd);
    return 0;
}
