/* Signals: ours comes first, then what the program asked for, which is what it is told when it asks. */
#define _GNU_SOURCE
#include "guard.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static const int faults[2] = {SIGSEGV, SIGBUS};
static struct sigaction wanted[2]; /* what the program asked for */
static bool begun;

/* By bits: those of the faults that the program has blocked in this thread. They are not: a fault that is blocked kills
 * the program before anybody can say what it was. */
static _Thread_local __attribute__((tls_model("initial-exec"))) unsigned blocked;

static int (*next_sigaction)(int, const struct sigaction *, struct sigaction *);

/* -1: not one of the faults */
static int fault_number(int number)
{
    return !begun ? -1 : number == SIGSEGV ? 0 : number == SIGBUS ? 1 : -1;
}

static void *next_function(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

/* The mask as the kernel has it. */
void guard_mask(int how, const sigset_t *new, sigset_t *old)
{
    syscall(SYS_rt_sigprocmask, how, new, old, _NSIG / 8);
}

/* Whose pages an access was to. In a living block it is the program itself that has protected them, but from execution. */
static struct slot *guarded_place(const siginfo_t *info, const ucontext_t *context)
{
    uint64_t address = (uint64_t)info->si_addr;
    struct slot *slot = guard_slot_at(address);
    bool executes = context->uc_mcontext.gregs[REG_ERR] & 16;
    return slot && !executes && slot->state == STATE_LIVE && address - slot->user < slot->size ? NULL : slot;
}

/* A signal that was sent, and that the program has blocked: blocked it is, after the return, and pending. */
static void stays_pending(int number, siginfo_t *info, ucontext_t *context)
{
    sigaddset(&context->uc_sigmask, number);
    if (info->si_code == SI_TKILL)
        syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), number, info);
    else
        syscall(SYS_rt_sigqueueinfo, getpid(), number, info);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    if (guard_checking)
        siglongjmp(guard_check, 1);
    int error = errno;
    const struct sigaction program = wanted[number == SIGBUS]; /* SA_RESETHAND changes it */
    if (info->si_code <= 0 && blocked & 1u << (number == SIGBUS)) {
        stays_pending(number, info, context);
        errno = error;
        return;
    }
    bool handled = program.sa_handler != SIG_DFL && program.sa_handler != SIG_IGN;
    struct slot *place = info->si_code > 0 ? guarded_place(info, context) : NULL;
    if (place || (info->si_code > 0 && !handled))
        guard_report_signal(number, info, context, place);
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
        *(void **)&next_sigaction = next_function("sigaction");
    return next_sigaction(number, new, old);
}

EXPORT int sigaction(int number, const struct sigaction *new, struct sigaction *old)
{
    int at = fault_number(number);
    if (at < 0)
        return real_sigaction(number, new, old);
    struct sigaction before = wanted[at];
    if (new) {
        wanted[at] = *new;
        install(number);
    }
    if (old)
        *old = before;
    return 0;
}

/* The older functions: by what signal(7) and their pages say of each. */

static sighandler_t set(int number, sighandler_t handler, int flags)
{
    struct sigaction new = {.sa_handler = handler, .sa_flags = flags}, old;
    if (handler == SIG_ERR) {
        errno = EINVAL;
        return SIG_ERR;
    }
    return sigaction(number, &new, &old) ? SIG_ERR : old.sa_handler;
}

#define SIGNAL(name, flags) \
    EXPORT sighandler_t name(int number, sighandler_t handler) \
    { \
        static sighandler_t (*next)(int, sighandler_t); \
        if (fault_number(number) >= 0) \
            return set(number, handler, flags); \
        if (!next) \
            *(void **)&next = next_function(#name); \
        return next(number, handler); \
    }

SIGNAL(signal, SA_RESTART)
SIGNAL(bsd_signal, SA_RESTART)
SIGNAL(ssignal, SA_RESTART)
SIGNAL(sysv_signal, (int)SA_RESETHAND | SA_NODEFER)
SIGNAL(__sysv_signal, (int)SA_RESETHAND | SA_NODEFER) /* signal() of programs in plain C or POSIX */

EXPORT sighandler_t sigset(int number, sighandler_t handler)
{
    static sighandler_t (*next)(int, sighandler_t);
    int at = fault_number(number);
    if (at < 0) {
        if (!next)
            *(void **)&next = next_function("sigset");
        return next(number, handler);
    }
    sigset_t one, before;
    sigemptyset(&one);
    sigaddset(&one, number);
    sigprocmask(handler == SIG_HOLD ? SIG_BLOCK : SIG_UNBLOCK, &one, &before);
    sighandler_t old = handler == SIG_HOLD ? wanted[at].sa_handler : set(number, handler, 0);
    return sigismember(&before, number) ? SIG_HOLD : old;
}

EXPORT int sigignore(int number)
{
    return set(number, SIG_IGN, 0) == SIG_ERR ? -1 : 0;
}

/* Masks. Returns an error number. */
static int masked(int how, const sigset_t *new, sigset_t *old)
{
    static int (*next)(int, const sigset_t *, sigset_t *);
    if (!next)
        *(void **)&next = next_function("pthread_sigmask");
    unsigned before = blocked, after = before;
    sigset_t others;
    if (new && begun) {
        others = *new;
        for (int at = 0; at < 2; at++) {
            bool named = sigismember(new, faults[at]) == 1;
            if (how == SIG_SETMASK || named)
                after = (after & ~(1u << at)) | (unsigned)(named && how != SIG_UNBLOCK) << at;
            if (how != SIG_UNBLOCK)
                sigdelset(&others, faults[at]);
        }
        new = &others;
    }
    int error = next(how, new, old);
    if (error)
        return error;
    blocked = after;
    for (int at = 0; at < 2 && old; at++)
        if (before & 1u << at)
            sigaddset(old, faults[at]);
    return 0;
}

EXPORT int pthread_sigmask(int how, const sigset_t *new, sigset_t *old)
{
    return masked(how, new, old);
}

EXPORT int sigprocmask(int how, const sigset_t *new, sigset_t *old)
{
    int error = masked(how, new, old);
    if (error)
        errno = error;
    return error ? -1 : 0;
}

void guard_signals_begin(void)
{
    sigset_t now;
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    for (int at = 0; at < 2; at++)
        real_sigaction(faults[at], NULL, &wanted[at]);
    begun = true;
    for (int at = 0; at < 2; at++)
        install(faults[at]);
    pthread_sigmask(SIG_SETMASK, &now, NULL); /* what was blocked before the start */
}
