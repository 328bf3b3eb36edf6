/* Reports: what is known of a fault, written as raw bytes by the process itself, before it dies as it would have.
 *
 * A report is a row of chunks in a file of the process's own: registers, copies of stacks, the blocks concerned and
 * /proc/self/maps. insitu unwinds and names all of it afterwards. What runs in a signal handler here is
 * async-signal-safe: system calls and memory of its own. Memory that may be missing is read by write(2), which fails
 * where it would fault.
 */
#define _GNU_SOURCE
#include "guard.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define TAG(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
#define MOST_STACK (256u << 10)
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
static unsigned reports;
static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP; /* a fault may come while it is held */
static struct sigaction wanted[2]; /* what the program asked for: SIGSEGV, SIGBUS */

static int (*next_sigaction)(int, const struct sigaction *, struct sigaction *);

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

/* Memory that may end: page by page, each a chunk that continues the last one. */
static void put_memory(uint32_t tag, uint32_t which, uint64_t address, uint64_t most)
{
    static char page[4096]; /* under the lock */
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
        return;
    for (uint64_t end = address + most; address < end;) {
        size_t size = sizeof page - address % sizeof page;
        if (size > end - address)
            size = end - address;
        ssize_t done = write(ends[1], (const void *)address, size);
        if (done != (ssize_t)size || read(ends[0], page, size) != done)
            break;
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

static bool open_file(void)
{
    char name[sizeof directory + 64];
    if (!directory[0])
        return false;
    if (file >= 0)
        close(file);
    snprintf(name, sizeof name, "%s/%d-%llx", directory, getpid(), (unsigned long long)began_ns);
    file = open(name, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    return file >= 0;
}

static void close_file(void)
{
    if (file >= 0)
        close(file);
    file = -1;
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
    if (!open_file()) {
        static const char text[] = "insitu guard: a memory fault was found, but its report cannot be written\n";
        if (write(2, text, sizeof text - 1) < 0)
            return;
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
    close_file();
}

/* A fault that a call found: of free(), or at exit. */
void guard_report(enum fault_kind kind, struct slot *slot, uint64_t address, uint32_t family)
{
    static char stack[MOST_STACK / 4]; /* under the lock */
    struct fault fault = {.kind = kind, .address = address, .family = family};
    struct origin here;
    int error = errno;
    pthread_mutex_lock(&lock);
    if (reports++ < MOST_REPORTS || kind == FAULT_DOUBLE_FREE || kind == FAULT_INVALID_FREE) {
        guard_here(&here, stack, sizeof stack);
        const struct registers *r = &here.registers;
        uint64_t all[17] = {[1] = r->bx,   [6] = r->bp,   [7] = r->sp,   [8] = r->ip,
                            [13] = r->r12, [14] = r->r13, [15] = r->r14, [16] = r->r15};
        memcpy(fault.registers, all, sizeof all);
        put_report(&fault, slot, stack, here.stack_bytes);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
}

void guard_report_counts(void)
{
    pthread_mutex_lock(&lock);
    if (open_file()) {
        put_chunk(TAG('C', 'N', 'T', 'S'), (uint32_t)getpid(), &guard_counts, sizeof guard_counts);
        close_file();
    }
    pthread_mutex_unlock(&lock);
}

/* Signals: ours comes first, then what the program asked for. */

/* Whose pages an access was to. In a living block it is the program itself that has protected them, but from execution. */
static struct slot *guarded_place(const siginfo_t *info, const ucontext_t *context)
{
    uint64_t address = (uint64_t)info->si_addr;
    struct slot *slot = guard_slot_at(address);
    bool executes = context->uc_mcontext.gregs[REG_ERR] & 16;
    return slot && !executes && slot->state == STATE_LIVE && address - slot->user < slot->size ? NULL : slot;
}

static void report_signal(int number, siginfo_t *info, const ucontext_t *context)
{
    const greg_t *g = context->uc_mcontext.gregs;
    struct fault fault = {.signal = (uint32_t)number, .code = info->si_code, .address = (uint64_t)info->si_addr};
    const int order[17] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_RIP,
                           REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    for (int at = 0; at < 17; at++)
        fault.registers[at] = (uint64_t)g[order[at]];
    fault.trap = (uint64_t)g[REG_TRAPNO];
    fault.error = (uint64_t)g[REG_ERR];
    struct slot *slot = guarded_place(info, context);
    fault.kind = slot ? FAULT_ACCESS : FAULT_ELSEWHERE;
    /* Bytes of the instruction, as far as its page goes; it has just been fetched, unless that is what failed. */
    if (!(fault.error & 16) && fault.address != fault.registers[8]) {
        size_t size = guard_page - fault.registers[8] % guard_page;
        memcpy(fault.code_bytes, (const void *)fault.registers[8], size < 16 ? size : 16);
    }
    pthread_mutex_lock(&lock);
    put_report(&fault, slot, NULL, 0);
    pthread_mutex_unlock(&lock);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    if (guard_checking)
        siglongjmp(guard_check, 1);
    int error = errno;
    const struct sigaction program = wanted[number == SIGBUS]; /* SA_RESETHAND changes it */
    bool handled = program.sa_handler != SIG_DFL && program.sa_handler != SIG_IGN;
    bool ours = info->si_code > 0 && guarded_place(info, context);
    if (ours || (info->si_code > 0 && !handled))
        report_signal(number, info, context);
    errno = error;
    if (handled) {
        if (program.sa_flags & (int)SA_RESETHAND)
            wanted[number == SIGBUS].sa_handler = SIG_DFL;
        if (program.sa_flags & SA_SIGINFO)
            program.sa_sigaction(number, info, context);
        else
            program.sa_handler(number);
        return;
    }
    if (info->si_code <= 0 && program.sa_handler == SIG_IGN)
        return;
    if (info->si_code > 0)
        guard_check_live(guard_slot_at((uint64_t)info->si_addr));
    guard_report_counts();
    /* It is to die as it would have: the instruction is executed again, or the signal is sent again. */
    struct sigaction plain = {.sa_handler = SIG_DFL};
    next_sigaction(number, &plain, NULL);
    if (info->si_code <= 0)
        syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), number);
}

static void install(int number)
{
    const struct sigaction *program = &wanted[number == SIGBUS];
    if (program->sa_handler == SIG_IGN) { /* which exec() keeps; of faults the kernel sends the signal all the same */
        next_sigaction(number, program, NULL);
        return;
    }
    struct sigaction ours = {.sa_sigaction = on_fault, .sa_mask = program->sa_mask};
    int same = SA_NODEFER | SA_RESTART | (program->sa_handler == SIG_DFL ? 0 : SA_ONSTACK);
    ours.sa_flags = SA_SIGINFO | (program->sa_flags & same) | (program->sa_handler == SIG_DFL ? SA_ONSTACK : 0);
    next_sigaction(number, &ours, NULL);
}

static int real_sigaction(int number, const struct sigaction *new, struct sigaction *old)
{
    if (!next_sigaction)
        *(void **)&next_sigaction = dlsym(RTLD_NEXT, "sigaction");
    return next_sigaction(number, new, old);
}

EXPORT int sigaction(int number, const struct sigaction *new, struct sigaction *old)
{
    if ((number != SIGSEGV && number != SIGBUS) || !began_ns)
        return real_sigaction(number, new, old);
    struct sigaction before = wanted[number == SIGBUS];
    if (new) {
        wanted[number == SIGBUS] = *new;
        install(number);
    }
    if (old)
        *old = before;
    return 0;
}

EXPORT sighandler_t signal(int number, sighandler_t handler)
{
    static sighandler_t (*next)(int, sighandler_t);
    if ((number != SIGSEGV && number != SIGBUS) || !began_ns) {
        if (!next)
            *(void **)&next = dlsym(RTLD_NEXT, "signal");
        return next(number, handler);
    }
    struct sigaction new = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;
    sigaction(number, &new, &old);
    return old.sa_handler;
}

void guard_reports_begin(void)
{
    const char *where = getenv("INSITU_GUARD_DIRECTORY");
    if (where && strlen(where) < sizeof directory)
        strcpy(directory, where);
    real_sigaction(SIGSEGV, NULL, &wanted[0]);
    real_sigaction(SIGBUS, NULL, &wanted[1]);
    began_ns = now_ns();
    install(SIGSEGV);
    install(SIGBUS);
}

void guard_reports_forked(void)
{
    guard_forget_owner(&lock);
    file = -1;
    reports = 0;
    began_ns = now_ns();
}
