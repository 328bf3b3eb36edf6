// Counts its real-time signals, while threads come and go; prints the count when its input ends.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static volatile sig_atomic_t count;
static void counts(int number) { count++; }
static void *ends(void *x) { return x; }

static void *spawns(void *x)
{
    for (;;) {
        pthread_t thread;
        if (!pthread_create(&thread, 0, ends, 0))
            pthread_join(thread, 0);
    }
    return x;
}

int main(void)
{
    struct sigaction action = { .sa_handler = counts, .sa_flags = SA_RESTART };
    pthread_t thread;
    char byte;
    sigaction(SIGRTMIN, &action, 0);
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, 0);
    pthread_create(&thread, 0, spawns, 0);
    pthread_sigmask(SIG_UNBLOCK, &all, 0);
    puts("ready");
    fflush(stdout);
    while (read(0, &byte, 1) > 0);
    printf("%d\n", (int)count);
}
