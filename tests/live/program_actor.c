/* Does what the tests of the built-in programs provoke, once it reads a line, and prints what it did as JSON. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#define KEEP __attribute__((noinline, noclone))

static void gate(void)
{
    char byte;
    while (read(0, &byte, 1) == 1 && byte != '\n') { }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void *nothing(void *p) { return p; }

static void threads(void)
{
    pthread_t t;
    for (int i = 0; i < 5; i++) {
        pthread_create(&t, 0, nothing, 0);
        pthread_join(t, 0);
    }
    printf("{\"threads\": 5}\n");
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int pipes[2];
static _Atomic pid_t waiting;

/* Returns once that thread sleeps in futex(2) at the lock's address, however busy the machine is. */
static void wait_until_asleep(void)
{
    char path[64], text[256], wanted[64];
    snprintf(wanted, sizeof wanted, "%ld 0x%lx ", (long)SYS_futex, (unsigned long)&lock);
    do {
        usleep(100);
        snprintf(path, sizeof path, "/proc/self/task/%d/syscall", (int)waiting);
        int file = open(path, O_RDONLY);
        ssize_t size = file < 0 ? 0 : read(file, text, sizeof text - 1);
        text[size > 0 ? size : 0] = 0;
        if (file >= 0) { close(file); }
    } while (strncmp(text, wanted, strlen(wanted)));
}

static void *waiter(void *p)
{
    double *waited = p;
    char byte = 1;
    waiting = syscall(SYS_gettid);
    for (int i = 0; i < 5; i++) {
        if (read(pipes[0], &byte, 1) != 1) { abort(); }
        double since = now();
        pthread_mutex_lock(&lock);
        *waited += now() - since;
        pthread_mutex_unlock(&lock);
    }
    return p;
}

/* Holds the mutex 40 ms or more, five times, while another thread sleeps for it. */
static void mutex(void)
{
    pthread_t t;
    double waited = 0, least = 0;
    if (pipe(pipes)) { abort(); }
    pthread_create(&t, 0, waiter, &waited);
    for (int i = 0; i < 5; i++) {
        pthread_mutex_lock(&lock);
        if (write(pipes[1], "", 1) != 1) { abort(); }
        wait_until_asleep();
        double since = now();
        usleep(40000);
        least += now() - since;
        pthread_mutex_unlock(&lock);
        usleep(5000);
    }
    pthread_join(t, 0);
    printf("{\"lock\": %lu, \"calls\": 10, \"waits\": 5, \"waiter\": %d, \"least_s\": %f, \"most_s\": %f}\n",
           (unsigned long)&lock, (int)waiting, least, waited);
}

static void pages(void)
{
    struct rusage before, after;
    size_t count = 2000, size = count * 4096;
    char *p = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(p, size, MADV_NOHUGEPAGE);
    getrusage(RUSAGE_SELF, &before);
    for (size_t i = 0; i < count; i++) { p[i * 4096] = 1; }
    getrusage(RUSAGE_SELF, &after);
    printf("{\"pages\": %zu, \"faults\": %ld}\n", count, after.ru_minflt - before.ru_minflt);
}

static void eventfds(void)
{
    for (int i = 0; i < 300; i++) { close(eventfd(0, 0)); }
    printf("{\"made\": 300}\n");
}

static void *volatile kept[200];
KEEP static void leak(void) { for (int i = 0; i < 100; i++) { kept[i] = malloc(64); } __asm__ volatile(""); }
KEEP static void zeroed(void) { for (int i = 0; i < 10; i++) { kept[100 + i] = calloc(10, 100); } __asm__ volatile(""); }

static void memory(void)
{
    void *aligned = 0;
    leak();
    zeroed();
    for (int i = 0; i < 40; i++) { free(kept[i]); }
    kept[110] = realloc(kept[50], 4000);
    if (posix_memalign(&aligned, 256, 512)) { abort(); }
    kept[111] = aligned;
    /* 59 of 64 bytes, 10 of 1000, one of 4000, one of 512; printf's buffer is made before. */
    printf("{\"blocks\": 71, \"bytes\": %d}\n", 59 * 64 + 10 * 1000 + 4000 + 512);
}

static volatile int stop;

static void *mapper(void *p)
{
    while (!stop) {
        void *m = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        munmap(m, 1 << 20);
    }
    return p;
}

/* Four threads that map and unmap memory wait for the lock of their address space. */
static void contend(void)
{
    pthread_t t[4];
    for (int i = 0; i < 4; i++) { pthread_create(&t[i], 0, mapper, 0); }
    sleep(1);
    stop = 1;
    for (int i = 0; i < 4; i++) { pthread_join(t[i], 0); }
    printf("{}\n");
}

int main(int count, char **words)
{
    const struct { const char *name; void (*act)(void); } acts[] = {
        {"threads", threads}, {"mutex", mutex}, {"pages", pages}, {"eventfds", eventfds}, {"memory", memory},
        {"contend", contend},
    };
    setvbuf(stdout, 0, _IOLBF, 4096);
    printf("{}\n");
    gate();
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        if (count > 1 && !strcmp(acts[i].name, words[1])) { acts[i].act(); }
    }
    gate();
    return 0;
}
