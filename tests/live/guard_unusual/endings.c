/* Faults of the heap in programs that end, or treat SIGSEGV, in their own ways. */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
static void over(void) { char *volatile p = malloc(16); p[16] = 1; free(p); }
static int deep(int n) { volatile char room[1000]; room[0] = n; return deep(n + 1) + room[0]; }
static void *blocking(void *unused) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    over();
    return NULL;
}
static void handler(int number) { _exit(3); }
static void forbid_madvise(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
int main(int count, char **words) {
    pthread_t thread;
    struct rlimit nothing = {0, 0};
    stack_t other = {.ss_sp = malloc(65536), .ss_size = 65536};
    char *volatile kept = malloc(24);
    switch (words[1][0]) {
    case 'b': pthread_create(&thread, NULL, blocking, NULL); pthread_join(thread, NULL); break;
    case 'v': __sysv_signal(SIGSEGV, handler); over(); break;
    case 's': sigset(SIGSEGV, handler); over(); break;
    case 'd': sigaltstack(&other, NULL); deep(0); break;
    case 'f': setrlimit(RLIMIT_FSIZE, &nothing); over(); break;
    case 'n': setrlimit(RLIMIT_NOFILE, &nothing); over(); break;
    case 'i': signal(SIGSEGV, SIG_IGN); over(); break;
    case 'o': over(); break;
    case 'm': forbid_madvise(); over(); break;
    case 'e': kept[24] = 1; _exit(5);
    case 'q': kept[24] = 1; quick_exit(5);
    case 'c': kept[24] = 1; if (!fork()) _exit(0); wait(NULL); return 5;
    case 'l': kept[24 + 8 + 4096] = 1;
    }
    return 0;
}
