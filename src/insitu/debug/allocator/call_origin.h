/* Where a call comes from: registers and a copy of the stack's bytes, which insitu unwinds afterwards. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))
#define THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec"))) /* others may allocate on first use */
#define DEFAULT_ALIGN 16u

/* The registers that call frame information may refer to, at a call. */
struct registers {
    uint64_t bx, bp, sp, ip, r12, r13, r14, r15;
};

struct origin {
    struct registers registers;
    uint64_t ns; /* CLOCK_MONOTONIC */
    uint32_t tid;
    uint32_t stack_bytes; /* that were copied, from registers.sp on */
};

extern uint64_t guard_page; /* bytes; set at the beginning */
extern THREAD_LOCAL bool busy; /* this thread is in the allocator: what it allocates meanwhile is its own */
extern THREAD_LOCAL uint64_t stack_start, stack_end;
extern THREAD_LOCAL uint32_t own_tid;

void guard_here(struct origin *, void *stack, size_t most);

/* glibc's own functions */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);
