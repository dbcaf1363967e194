/* Prints all that a program can see of how it was started, but for what no two runs have in common: addresses as what they
 * lead to, libraries by their last names, the interpreter as "ld". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
extern void _start(void);
int main(int argc, char **argv);

static int constructed, seen;
static char names[64][64];

__attribute__((constructor)) static void construct(int argc, char **argv, char **env)
{
    constructed = argc == 0 || (argv && env == argv + argc + 1);
}

static void at_exit(void) { puts("atexit"); }

static const char *last(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    return !strcmp(name, "ld.so") || !strncmp(name, "ld-linux", 8) ? "ld" : name;
}

static void quoted(const char *what, const char *text)
{
    printf("%s \"", what);
    for (; *text; text++) printf(*text < ' ' ? "\\%o" : "%c", *text);
    puts("\"");
}

static int each(struct dl_phdr_info *info, size_t size, void *base)
{
    const char *name = last(info->dlpi_name);
    printf("object \"%s\"", name);
    for (int n = 0; n < seen; n++) if (!strcmp(names[n], name)) printf(" again");
    snprintf(names[seen++], sizeof names[0], "%s", name);
    if (!strcmp(name, "ld")) printf(" base %s", info->dlpi_addr == getauxval(AT_BASE) ? "good" : "wrong");
    if (!*name) {
        int interp = 0, dynamic = 0, self = 0;
        for (int n = 0; n < info->dlpi_phnum; n++) {
            const ElfW(Phdr) *p = &info->dlpi_phdr[n];
            interp += p->p_type == PT_INTERP, dynamic += p->p_type == PT_DYNAMIC;
            self += p->p_type == PT_PHDR && p->p_vaddr + info->dlpi_addr == (ElfW(Addr))info->dlpi_phdr;
            if (p->p_type == PT_LOAD && (p->p_flags & PF_W) && (p->p_flags & PF_X)) printf(" writable code");
        }
        printf(" interp %d dynamic %d self %d", interp, dynamic, self);
        printf(" phdr %s", getauxval(AT_PHDR) == (unsigned long)info->dlpi_phdr ? "good" : "wrong");
        printf(" phnum %s", getauxval(AT_PHNUM) == info->dlpi_phnum ? "good" : "wrong");
    }
    puts("");
    return 0;
}

static void auxiliary(void)
{
    static const struct { unsigned long kind; const char *name; } plain[] = {
        { AT_FLAGS, "flags" }, { AT_UID, "uid" }, { AT_EUID, "euid" }, { AT_GID, "gid" }, { AT_EGID, "egid" },
        { AT_SECURE, "secure" }, { AT_PAGESZ, "pagesz" }, { AT_CLKTCK, "clktck" }, { AT_HWCAP, "hwcap" },
        { AT_HWCAP2, "hwcap2" }, { AT_PHENT, "phent" }, { AT_MINSIGSTKSZ, "minsigstksz" }, { 27, "rseq" }, { 28, "rseq align" } };
    for (unsigned n = 0; n < sizeof plain / sizeof *plain; n++)
        printf("%s %#lx\n", plain[n].name, getauxval(plain[n].kind));
    printf("platform %s\n", (const char *)getauxval(AT_PLATFORM));
    quoted("execfn", (const char *)getauxval(AT_EXECFN));
    printf("entry %s\n", getauxval(AT_ENTRY) == (unsigned long)_start ? "good" : "wrong");
    printf("vdso %s\n", memcmp((void *)getauxval(AT_SYSINFO_EHDR), ELFMAG, SELFMAG) ? "wrong" : "good");
    const unsigned char *random = (void *)getauxval(AT_RANDOM);
    int bits = 0;
    for (int n = 0; n < 16; n++) bits |= random[n];
    printf("random %s\n", bits ? "good" : "wrong");
}

static void memory(const char *self)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[8192];
    int heap = 0, stack = 0;
    if (!maps) return (void)puts("no maps");
    while (fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        char mode[8], name[4200] = "";
        sscanf(line, "%lx-%lx %7s %*x %*s %*u %4199[^\n]", &from, &to, mode, name);
        if (mode[1] == 'w' && mode[2] == 'x') printf("writable code in %s\n", last(name));
        if (!strncmp(name, "[heap", 5)) heap++;
        if (!strncmp(name, "[stack", 6)) stack++, printf("stack %s\n", mode);
        if (name[0] != '/') continue;
        int known = !strcmp(name, self);
        for (int n = 0; n < seen; n++) known |= !strcmp(last(name), names[n]);
        if (!known && strchr(self, '\n') == NULL) printf("mapped %s\n", name);
    }
    fclose(maps);
    printf("heap %d stack %d\n", heap, stack);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    atexit(at_exit);
    printf("argc %d\n", argc);
    for (int n = 0; n < argc; n++) quoted("argv", argv[n]);
    for (char **e = environ; *e; e++) quoted("env", *e);
    printf("constructed %d environ %s\n", constructed, argc && environ == argv + argc + 1 ? "behind argv" : "elsewhere");
    quoted("invoked as", program_invocation_short_name);

    char self[8192] = "", *name = NULL;
    struct stat a, b;
    if (readlink("/proc/self/exe", self, sizeof self - 1) > 0) quoted("self", self);
    if (!stat("/proc/self/exe", &a) && !stat(self, &b)) printf("same file %d\n", a.st_dev == b.st_dev && a.st_ino == b.st_ino);
    void *handle = dlopen(NULL, RTLD_LAZY);
    struct link_map *map;
    Dl_info info;
    if (!dlinfo(handle, RTLD_DI_LINKMAP, &map)) quoted("first", map->l_name);
    if (dladdr((void *)main, &info)) quoted("main is in", info.dli_fname), name = (char *)info.dli_sname;
    printf("main is %s\n", name ? name : "nameless");
    printf("libc %s, debugger's list %s\n", gnu_get_libc_version(), _r_debug.r_map == map ? "good" : "wrong");
    dl_iterate_phdr(each, NULL);
    auxiliary();
    memory(self);
    printf("break %s\n", sbrk(1 << 16) != (void *)-1 ? "good" : "wrong");

    for (int fd = 0; fd < 1024; fd++) if (fcntl(fd, F_GETFD) >= 0) printf("fd %d\n", fd);
    sigset_t blocked;
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    for (int n = 1; n < 65; n++) {
        struct sigaction action;
        if (sigismember(&blocked, n) > 0) printf("blocked %d\n", n);
        if (!sigaction(n, NULL, &action) && action.sa_handler != SIG_DFL) printf("handled %d\n", n);
    }
    stack_t alternative;
    printf("alternative stack %d\n", sigaltstack(NULL, &alternative) ? -1 : alternative.ss_flags);
    for (int n = 0; n < RLIM_NLIMITS; n++) {
        struct rlimit limit;
        getrlimit(n, &limit);
        printf("limit %d %lx %lx\n", n, limit.rlim_cur, limit.rlim_max);
    }
    printf("umask %o personality %x\n", umask(0), personality(0xffffffff));
    printf("dumpable %d privileges %d name ", prctl(PR_GET_DUMPABLE), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    char comm[16];
    prctl(PR_GET_NAME, comm);
    printf("\"%s\"\n", comm);
    fflush(stdout);
    /* What a child gets. */
    pid_t child = fork();
    if (!child) {
        execl("/artifact/bin/plain", "plain", NULL);
        _exit(errno);
    }
    int status;
    waitpid(child, &status, 0);
    printf("child %x\n", status);
    return 0;
}
