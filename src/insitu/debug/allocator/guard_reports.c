/* Reports: what is known of a fault, written as raw bytes by the process itself, before it dies as it would have.
 *
 * A report is a row of chunks in a file of the process's own: registers, copies of stacks, the blocks concerned and
 * /proc/self/maps. insitu unwinds and names all of it afterwards. What runs in a signal handler here is
 * async-signal-safe: system calls and memory of its own. Memory that may be missing is read by write(2), which fails
 * where it would fault.
 */
#define _GNU_SOURCE
#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TAG(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
#define MOST_STACK (256u << 10)
#define MOST_MISSING (16u << 10) /* of a stack */
#define MOST_REPORTS 32 /* of a process that goes on */

struct chunk {
    uint32_t tag, which;
    uint64_t bytes;
};

struct fault {
    uint32_t kind, pid, tid, signal;
    int32_t code; /* si_code */
    uint32_t family; /* of the function that frees */
    uint64_t address;
    uint64_t trap, error; /* of the processor: the page fault's error code */
    uint64_t ns;
    uint64_t registers[17]; /* in the order of enum perf_event_x86_regs, without segments */
    uint8_t code_bytes[16]; /* at the instruction pointer */
    char name[16];
};

static char directory[512];
static uint64_t began_ns;
static int file = -1;
static bool refused; /* the file has not all that was to be written */
static unsigned reports;
uint32_t guard_reports_lock; /* a fault may come while it is held */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void put(const void *bytes, size_t size)
{
    const char *at = bytes;
    while (size) {
        ssize_t done = write(file, at, size);
        if (done <= 0) {
            if (done < 0 && errno == EINTR)
                continue;
            refused = true;
            return;
        }
        at += done;
        size -= (size_t)done;
    }
}

static void put_chunk(uint32_t tag, uint32_t which, const void *bytes, size_t size)
{
    struct chunk head = {tag, which, size};
    put(&head, sizeof head);
    put(bytes, size);
}

/* Memory that may end: page by page, each a chunk that continues the last one. Of a stack that is full, the first pages
 * are missing: they are zeros in the report. */
static void put_memory(uint32_t tag, uint32_t which, uint64_t address, uint64_t most)
{
    static char page[4096]; /* under the lock */
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
        return;
    bool found = false;
    for (uint64_t begin = address, end = address + most; address < end;) {
        size_t size = sizeof page - address % sizeof page;
        if (size > end - address)
            size = end - address;
        ssize_t done = write(ends[1], (const void *)address, size);
        if (done == (ssize_t)size && read(ends[0], page, size) == done)
            found = true;
        else if (found || address - begin > MOST_MISSING)
            break;
        else
            memset(page, 0, size);
        put_chunk(tag, which, page, size);
        address += size;
    }
    close(ends[0]);
    close(ends[1]);
}

static void put_maps(void)
{
    static char text[1 << 16]; /* under the lock */
    int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (maps < 0)
        return;
    for (ssize_t size; (size = read(maps, text, sizeof text)) > 0;)
        put_chunk(TAG('M', 'A', 'P', 'S'), 0, text, (size_t)size);
    close(maps);
}

static void put_block(struct slot *slot, uint32_t which)
{
    if (!slot || slot->state == STATE_UNUSED)
        return;
    put_chunk(TAG('B', 'L', 'O', 'K'), which, slot, sizeof *slot);
    for (int origin = 0; origin < (slot->state == STATE_FREED ? 2 : 1); origin++)
        put_chunk(TAG('S', 'T', 'A', 'K'), which << 4 | (uint32_t)origin, guard_stack_of(slot, origin),
                  slot->origin[origin].stack_bytes);
}

/* Also where the program may not write files (RLIMIT_FSIZE): then the report ends early, but not the program. */
static bool open_file(sigset_t *before)
{
    char name[sizeof directory + 64];
    sigset_t size;
    if (!directory[0])
        return false;
    if (file >= 0)
        close(file);
    snprintf(name, sizeof name, "%s/%d-%llx", directory, getpid(), (unsigned long long)began_ns);
    file = open(name, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0)
        return false;
    refused = false;
    sigemptyset(&size);
    sigaddset(&size, SIGXFSZ);
    guard_mask(SIG_BLOCK, &size, before);
    return true;
}

/* Returns whether all has been written. */
static bool close_file(const sigset_t *before)
{
    static const struct timespec none;
    sigset_t size;
    close(file);
    file = -1;
    sigemptyset(&size);
    sigaddset(&size, SIGXFSZ);
    while (refused && !sigismember(before, SIGXFSZ) && sigtimedwait(&size, NULL, &none) == SIGXFSZ)
        ;
    guard_mask(SIG_SETMASK, before, NULL);
    return !refused;
}

static void complain(void)
{
    static const char text[] = "insitu guard: a memory fault was found, but its report cannot be written\n";
    if (write(2, text, sizeof text - 1) < 0)
        return;
}

/* The whole report; the lock is held. ``memory``: where the stack begins, if it has not been copied. */
static void put_report(struct fault *fault, struct slot *slot, const void *stack, size_t stack_bytes)
{
    fault->pid = (uint32_t)getpid();
    fault->tid = (uint32_t)syscall(SYS_gettid);
    fault->ns = now_ns();
    int comm = open("/proc/thread-self/comm", O_RDONLY | O_CLOEXEC);
    if (comm >= 0) {
        ssize_t size = read(comm, fault->name, sizeof fault->name);
        if (size > 0)
            fault->name[size - 1] = 0;
        close(comm);
    }
    sigset_t before;
    if (!open_file(&before)) {
        complain();
        return;
    }
    put_chunk(TAG('F', 'A', 'L', 'T'), fault->kind, fault, sizeof *fault);
    if (stack)
        put_chunk(TAG('S', 'T', 'A', 'K'), 0, stack, stack_bytes);
    else
        put_memory(TAG('S', 'T', 'A', 'K'), 0, fault->registers[7], MOST_STACK);
    put_block(slot, 1);
    if (slot) {
        put_block(guard_neighbour(slot, -1), 2);
        put_block(guard_neighbour(slot, 1), 3);
    }
    put_maps();
    put_chunk(TAG('D', 'O', 'N', 'E'), 0, "", 0);
    if (!close_file(&before))
        complain();
}

/* A fault that a call found: of free(), or at exit. */
void guard_report(enum fault_kind kind, struct slot *slot, uint64_t address, uint32_t family)
{
    static char stack[MOST_STACK / 4]; /* under the lock */
    struct fault fault = {.kind = kind, .address = address, .family = family};
    struct origin here;
    int error = errno;
    bool taken = guard_take(&guard_reports_lock);
    if (reports++ < MOST_REPORTS || kind == FAULT_DOUBLE_FREE || kind == FAULT_INVALID_FREE) {
        guard_here(&here, stack, sizeof stack);
        const struct registers *r = &here.registers;
        uint64_t all[17] = {[1] = r->bx,   [6] = r->bp,   [7] = r->sp,   [8] = r->ip,
                            [13] = r->r12, [14] = r->r13, [15] = r->r14, [16] = r->r15};
        memcpy(fault.registers, all, sizeof all);
        put_report(&fault, slot, stack, here.stack_bytes);
    }
    guard_release(&guard_reports_lock, taken);
    errno = error;
}

void guard_report_counts(void)
{
    bool taken = guard_take(&guard_reports_lock);
    sigset_t before;
    if (open_file(&before)) {
        put_chunk(TAG('C', 'N', 'T', 'S'), (uint32_t)getpid(), &guard_counts, sizeof guard_counts);
        close_file(&before);
    }
    guard_release(&guard_reports_lock, taken);
}

/* A fault that the processor found. ``slot``: whose pages the access was to, or NULL. */
void guard_report_signal(int number, const siginfo_t *info, const ucontext_t *context, struct slot *slot)
{
    const greg_t *g = context->uc_mcontext.gregs;
    struct fault fault = {.signal = (uint32_t)number, .code = info->si_code, .address = (uint64_t)info->si_addr};
    const int order[17] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_RIP,
                           REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    for (int at = 0; at < 17; at++)
        fault.registers[at] = (uint64_t)g[order[at]];
    fault.trap = (uint64_t)g[REG_TRAPNO];
    fault.error = (uint64_t)g[REG_ERR];
    fault.kind = slot ? FAULT_ACCESS : FAULT_ELSEWHERE;
    /* Bytes of the instruction, as far as its page goes; it has just been fetched, unless that is what failed. */
    if (!(fault.error & 16) && fault.address != fault.registers[8]) {
        size_t size = guard_page - fault.registers[8] % guard_page;
        memcpy(fault.code_bytes, (const void *)fault.registers[8], size < 16 ? size : 16);
    }
    bool taken = guard_take(&guard_reports_lock);
    put_report(&fault, slot, NULL, 0);
    guard_release(&guard_reports_lock, taken);
}

void guard_reports_begin(void)
{
    const char *where = getenv("INSITU_GUARD_DIRECTORY");
    if (where && strlen(where) < sizeof directory)
        strcpy(directory, where);
    began_ns = now_ns();
}

void guard_reports_forked(void)
{
    file = -1;
    reports = 0;
    began_ns = now_ns();
}
