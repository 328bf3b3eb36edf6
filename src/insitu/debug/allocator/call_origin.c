/* Registers and stack of a call: see call_origin.h. */
#define _GNU_SOURCE
#include "call_origin.h"

#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

extern void *__libc_stack_end;

uint64_t guard_page = 4096;
THREAD_LOCAL bool busy;
THREAD_LOCAL uint64_t stack_start, stack_end;
THREAD_LOCAL uint32_t own_tid;

static void find_thread(uint64_t sp)
{
    own_tid = (uint32_t)syscall(SYS_gettid);
    uint64_t main_end = (uint64_t)__libc_stack_end;
    stack_start = stack_end = 0;
    if (own_tid == (uint32_t)getpid() && sp < main_end && main_end - sp < 64u << 20) {
        stack_start = main_end - (64u << 20);
        stack_end = main_end;
        return;
    }
    pthread_attr_t attributes;
    void *low;
    size_t size;
    bool before = busy;
    busy = true; /* it allocates */
    if (!pthread_getattr_np(pthread_self(), &attributes)) {
        if (!pthread_attr_getstack(&attributes, &low, &size)) {
            stack_start = (uint64_t)low;
            stack_end = stack_start + size;
        }
        pthread_attr_destroy(&attributes);
    }
    busy = before;
}

/* Registers as they are in this function, and the stack from its stack pointer on. */
__attribute__((noinline)) void guard_here(struct origin *origin, void *stack, size_t most)
{
    struct registers *r = &origin->registers;
    __asm__ volatile("movq %%rbx, 0(%0)\n\tmovq %%rbp, 8(%0)\n\tmovq %%rsp, 16(%0)\n\t"
                     "leaq 0(%%rip), %%rax\n\tmovq %%rax, 24(%0)\n\t"
                     "movq %%r12, 32(%0)\n\tmovq %%r13, 40(%0)\n\tmovq %%r14, 48(%0)\n\tmovq %%r15, 56(%0)"
                     :
                     : "r"(r)
                     : "rax", "memory");
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    origin->ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    if (!own_tid)
        find_thread(r->sp);
    origin->tid = own_tid;
    /* A coroutine's stack is not the thread's: what is known of it is only the page of its stack pointer. */
    bool own = r->sp >= stack_start && r->sp < stack_end;
    uint64_t end = own ? stack_end : (r->sp | (guard_page - 1)) + 1;
    uint64_t size = end - r->sp < most ? end - r->sp : most;
    memcpy(stack, (const void *)r->sp, size);
    origin->stack_bytes = (uint32_t)size;
}
