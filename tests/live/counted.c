/* A program whose events are known in number: counted WHAT N. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long switches(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_nvcsw + usage.ru_nivcsw;
}

static void calls(long n)
{
    while (n--)
        syscall(SYS_getppid);
}

static void *thread(void *n)
{
    char byte;
    if (read(0, &byte, 1) == 1)
        calls((long)n);
    return NULL;
}

int main(int argc, char **argv)
{
    const char *what = argv[1];
    long n = atol(argv[2]);
    if (!strcmp(what, "calls")) {
        calls(n);
    } else if (!strcmp(what, "pages")) { /* touch n pages of 4 KiB */
        char *memory = mmap(NULL, n << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        madvise(memory, n << 12, MADV_NOHUGEPAGE);
        for (long page = 0; page < n; page++)
            memory[page << 12] = 1;
    } else if (!strcmp(what, "sleeps")) { /* prints the kernel's own count of its context switches */
        long before = switches();
        struct timespec nap = {0, 100000};
        for (long nap_number = 0; nap_number < n; nap_number++)
            nanosleep(&nap, NULL);
        printf("%ld\n", switches() - before);
    } else if (!strcmp(what, "moves")) {
        for (long move = 0; move < n; move++) {
            cpu_set_t set;
            CPU_ZERO(&set);
            CPU_SET(move % 2, &set);
            sched_setaffinity(0, sizeof set, &set);
        }
    } else if (!strcmp(what, "burns")) { /* n ms of CPU time */
        struct timespec now;
        do
            clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
        while (now.tv_sec * 1000 + now.tv_nsec / 1000000 < n);
    } else if (!strcmp(what, "children")) { /* three, of n calls each */
        for (int child = 0; child < 3; child++)
            if (!fork()) {
                calls(n);
                _exit(0);
            }
        while (wait(NULL) > 0)
            ;
    } else if (!strcmp(what, "waits")) { /* for a byte on standard input, then n calls */
        char byte;
        if (read(0, &byte, 1) == 1)
            calls(n);
        syscall(SYS_exit_group, 0);
    } else if (!strcmp(what, "threads")) { /* two, of n calls each, after a byte for each on standard input */
        pthread_t other;
        pthread_create(&other, NULL, thread, (void *)(2 * n));
        thread((void *)n);
        pthread_join(other, NULL);
    }
    return 0;
}
