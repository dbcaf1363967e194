/* What is different on aarch64: the machine's number in ELF files, system calls, and the first instructions. */

#pragma once
#include "config.h"

#define MACHINE 183 /* EM_AARCH64 */
#define PAGE_SIZE(aux) *value_of(aux, AT_PAGESZ) /* 4, 16 or 64 KiB, as the kernel was built */

enum { SYS_getcwd = 17, SYS_openat = 56, SYS_close = 57, SYS_write = 64, SYS_pread64 = 67, SYS_readlinkat = 78,
       SYS_newfstatat = 79, SYS_exit_group = 94, SYS_execve = 221, SYS_mmap = 222 };

static inline __attribute__((always_inline)) long system_call6(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}

static inline __attribute__((always_inline)) long system_call4(long number, long a, long b, long c, long d)
{
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c, x3 __asm__("x3") = d;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}

/* As on x86-64; here x0 has to be zero at the end. The first instruction is one that branches may lead to (BTI). */
__asm__(".section .config, \"a\"\n"
        ".globl config\n"
        "config: .zero " TEXT_OF(SIZE) "\n"
        ".section .start, \"ax\"\n"
        ".globl _start\n"
        "_start: hint #34\n"
        "mov x0, sp\n"
        "adr x1, config+" TEXT_OF(ROOM_AT) "\n"
        "ldr w1, [x1]\n"
        "sub x1, x0, x1\n"
        "mov sp, x1\n"
        "bl launch\n"
        "mov x16, x0\n"
        "mov x0, xzr\n"
        "mov x29, xzr\n"
        "mov x30, xzr\n"
        "br x16\n"
        ".text\n");
