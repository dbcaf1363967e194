/* What is different on x86-64: the machine's number in ELF files, system calls, and the first instructions. */

#pragma once
#include "config.h"

#define MACHINE 62 /* EM_X86_64 */
#define PAGE_SIZE(aux) 4096

enum { SYS_write = 1, SYS_close = 3, SYS_mmap = 9, SYS_execve = 59, SYS_getcwd = 79, SYS_exit_group = 231,
       SYS_openat = 257, SYS_newfstatat = 262, SYS_readlinkat = 267, SYS_pread64 = 17 };

static inline __attribute__((always_inline)) long system_call4(long number, long a, long b, long c, long d)
{
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall" : "+a"(number) : "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return number;
}

static inline __attribute__((always_inline)) long system_call6(long number, long a, long b, long c, long d, long e, long f)
{
    register long r8 __asm__("r8") = e, r9 __asm__("r9") = f, r10 __asm__("r10") = d;
    __asm__ volatile("syscall" : "+a"(number) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return number;
}

/* The kernel leaves argc, argv, the environment and the auxiliary vector at the stack pointer. launch() is given where
 * they are and where they are to be, `room` bytes lower, and returns where to go on with the stack pointer there. rdx
 * has to be zero then: it is a function for atexit(). */
__asm__(".section .config, \"a\"\n"
        ".globl config\n"
        "config: .zero " TEXT_OF(SIZE) "\n"
        ".section .start, \"ax\"\n"
        ".globl _start\n"
        "_start: endbr64\n"
        "mov %rsp, %rdi\n"
        "mov config+" TEXT_OF(ROOM_AT) "(%rip), %eax\n"
        "sub %rax, %rsp\n"
        "mov %rsp, %rsi\n"
        "call launch\n"
        "xor %edx, %edx\n"
        "xor %ebp, %ebp\n"
        "jmp *%rax\n"
        ".text\n");
