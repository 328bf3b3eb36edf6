/* Sound programs that do what is rare: each has to do the same when it is guarded. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static char *page;
static volatile int forks;

static void say(int number) { if (write(1, "handled\n", 8) != 8) abort(); }
static void forking(int number) { int p = fork(); if (!p) _exit(0); forks++; waitpid(p, 0, 0); }
static void opening(int number) { mprotect(page, 4096, PROT_READ | PROT_WRITE); }
static void deep_handler(int number) { volatile char room[8000]; memset((char *)room, 1, sizeof room); say(0); }
static int deep(int left) { volatile char room[4096]; room[0] = 1; return left ? deep(left - 1) + room[0] : 0; }

/* Forks at each instruction that is executed for the first time. */
static unsigned char seen[1 << 16];
static void stepped(int number, siginfo_t *info, void *context)
{
    unsigned at = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] % sizeof seen;
    if (!seen[at]++) forking(0);
}
static void step(int on)
{
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\tandq $~0x100, (%%rsp)\n\torq %0, (%%rsp)\n\tpopfq\n\t"
                     "lea 128(%%rsp), %%rsp" : : "r"(on ? 0x100l : 0l) : "cc", "memory");
}

/* What the program asked for is what it is told, and what happens. */
static void masks(void)
{
    sigset_t one, old, now;
    sigemptyset(&one);
    sigaddset(&one, SIGSEGV);
    pthread_sigmask(SIG_BLOCK, &one, &old);
    sigprocmask(SIG_SETMASK, NULL, &now);
    printf("%d %d", sigismember(&old, SIGSEGV), sigismember(&now, SIGSEGV));
    raise(SIGSEGV);
    sigpending(&now);
    int number = 0;
    printf(" %d", sigismember(&now, SIGSEGV));
    sigwait(&one, &number);
    printf(" %d", number == SIGSEGV);
    printf(" %d", sigprocmask(77, &one, NULL));
    sigprocmask(SIG_UNBLOCK, &one, &old);
    sigprocmask(SIG_BLOCK, NULL, &now);
    printf(" %d %d\n", sigismember(&old, SIGSEGV), sigismember(&now, SIGSEGV));
}

/* Handlers set by the older functions: whether they stay, and what is said of the one before. */
static void older(void)
{
    sighandler_t (*const functions[])(int, sighandler_t) = {signal, ssignal, sysv_signal, sigset};
    for (int i = 0; i < 4; i++) {
        signal(SIGBUS, SIG_DFL);
        printf("%d", functions[i](SIGBUS, say) == SIG_DFL);
        raise(SIGBUS);
        printf(" %d\n", signal(SIGBUS, say) == say);
    }
    printf("%d", sigset(SIGBUS, SIG_HOLD) == say);
    printf(" %d", sigset(SIGBUS, say) == SIG_HOLD);
    printf(" %d", sigignore(SIGBUS));
    raise(SIGBUS);
    printf(" %d\n", signal(SIGBUS, SIG_ERR) == SIG_ERR);
}

int main(int argc, char **argv)
{
    const char *how = argv[1];
    setvbuf(stdout, NULL, _IONBF, 0);
    if (!strcmp(how, "resethand")) {
        struct sigaction a = {.sa_handler = say, .sa_flags = SA_RESETHAND};
        sigaction(SIGSEGV, &a, 0);
        raise(SIGSEGV);
    } else if (!strcmp(how, "atfork")) { /* linked with a library whose handlers allocate */
        int p = fork();
        if (!p) { free(malloc(100)); _exit(3); }
        int status;
        waitpid(p, &status, 0);
        printf("%d\n", WEXITSTATUS(status));
    } else if (!strcmp(how, "forks")) {
        struct itimerval t = {{0, 1000}, {0, 1000}}, none = {{0, 0}, {0, 0}};
        signal(SIGALRM, forking);
        setitimer(ITIMER_REAL, &t, 0);
        while (forks < 300) free(malloc(100));
        setitimer(ITIMER_REAL, &none, 0);
    } else if (!strcmp(how, "steps")) {
        struct sigaction a = {.sa_sigaction = stepped, .sa_flags = SA_SIGINFO};
        sigaction(SIGTRAP, &a, 0);
        free(malloc(100)); /* what is bound lazily is bound */
        step(1);
        free(malloc(100));
        step(0);
        printf("%d\n", forks > 50);
    } else if (!strcmp(how, "masks")) {
        masks();
    } else if (!strcmp(how, "older")) {
        older();
    } else if (!strcmp(how, "nofiles")) { /* may write none */
        struct rlimit nothing = {0, 0};
        setrlimit(RLIMIT_FSIZE, &nothing);
        free(malloc(100));
    } else if (!strcmp(how, "limits")) {
        struct rlimit limit = {1ul << 30, 1ul << 30}, again;
        setrlimit(RLIMIT_AS, &limit);
        getrlimit(RLIMIT_AS, &again);
        printf("%d\n", again.rlim_cur == 1ul << 30);
        limit.rlim_cur = limit.rlim_max = 64 << 20;
        setrlimit(RLIMIT_DATA, &limit);
        void *more = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        printf("%d %d\n", more != MAP_FAILED, deep(1000));
    } else if (!strcmp(how, "ignored")) { /* over exec() too */
        signal(SIGSEGV, SIG_IGN);
        execlp("sh", "sh", "-c", "kill -SEGV $$; echo alive", NULL);
    } else if (!strcmp(how, "onstack")) {
        stack_t small = {.ss_sp = malloc(8192), .ss_size = 8192};
        struct sigaction a = {.sa_handler = deep_handler};
        sigaltstack(&small, NULL);
        sigaction(SIGSEGV, &a, 0);
        raise(SIGSEGV);
    } else if (!strcmp(how, "deepbind")) {
        void (*take)(void *);
        void *plugin = dlopen(argv[2], RTLD_NOW | RTLD_DEEPBIND);
        *(void **)&take = dlsym(plugin, "take");
        take(malloc(100));
    } else if (!strcmp(how, "plugin")) { /* in C++: new of too much */
        int (*try_it)(void);
        void *plugin = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
        *(void **)&try_it = dlsym(plugin, "try_it");
        printf("%d\n", try_it());
    } else if (!strcmp(how, "barrier")) {
        signal(SIGSEGV, opening);
        if (posix_memalign((void **)&page, 4096, 4096)) return 1;
        mprotect(page, 4096, PROT_READ);
        page[5] = 1;
        printf("%d\n", page[5]);
    } else if (!strcmp(how, "sizes")) {
        errno = 0;
        printf("%p", pvalloc(SIZE_MAX - 10));
        printf(" %d\n", errno);
        for (int i = 0; i < 6; i++) { char *p = memalign(1 << 28, 64); p[63] = 1; free(p); }
        char text[4096] = "";
        FILE *status = fopen("/proc/self/status", "r"); /* getrusage() has the parent's memory, too */
        if (!fread(text, 1, sizeof text - 1, status)) return 1;
        printf("%d\n", atol(strstr(text, "VmHWM:") + 6) < 200 << 10);
    }
    puts("done");
    return 0;
}
