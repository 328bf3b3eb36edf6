/* Spends time in known ways, and says how much by its own clocks: lines "THREAD CAUSE NANOSECONDS". */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000LL

struct times { long long wall, cpu, delay; };

static long long of_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000 * MS + now.tv_nsec;
}

/* Wall time, time on a CPU and time on a run queue of this thread: the kernel's own accounts. */
static struct times now(void)
{
    struct times found = {of_clock(CLOCK_MONOTONIC), 0, 0};
    FILE *file = fopen("/proc/thread-self/schedstat", "r");
    if (!file || fscanf(file, "%lld %lld", &found.cpu, &found.delay) != 2) { exit(3); }
    fclose(file);
    found.cpu = of_clock(CLOCK_THREAD_CPUTIME_ID);
    return found;
}

static void say(const char *cause, long long ns)
{
    char name[16];
    prctl(PR_GET_NAME, name);
    printf("%s %s %lld\n", name, cause, ns);
    fflush(stdout);
}

static long long blocked(struct times from)
{
    struct times to = now();
    return to.wall - from.wall - (to.cpu - from.cpu) - (to.delay - from.delay);
}

#define BLOCKED(total, call) do { struct times from = now(); call; total += blocked(from); } while (0)

static void nap(long long ns)
{
    struct timespec time = {ns / (1000 * MS), ns % (1000 * MS)};
    nanosleep(&time, 0);
}

__attribute__((noinline)) void crunch(long long ns)
{
    for (long long end = of_clock(CLOCK_MONOTONIC) + ns; of_clock(CLOCK_MONOTONIC) < end;) {}
}

static void named(const char *name)
{
    prctl(PR_SET_NAME, name);
}

/* A mutex that is held 30 ms of each 100. */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t period;

__attribute__((noinline)) void hold(long long *asleep)
{
    pthread_mutex_lock(&mutex);
    pthread_barrier_wait(&period);
    BLOCKED(*asleep, nap(30 * MS));
    pthread_mutex_unlock(&mutex);
}

static void *holder(void *unused)
{
    long long asleep = 0;
    named("holder");
    for (int i = 0; i < 20; i++) { hold(&asleep); BLOCKED(asleep, nap(70 * MS)); }
    say("sleep", asleep);
    return unused;
}

static void *waiter(void *unused)
{
    long long asleep = 0, lock = 0, barrier = 0;
    named("waiter");
    for (int i = 0; i < 20; i++) {
        BLOCKED(barrier, pthread_barrier_wait(&period));
        BLOCKED(lock, pthread_mutex_lock(&mutex));
        pthread_mutex_unlock(&mutex);
        BLOCKED(asleep, nap(50 * MS));
    }
    say("sleep", asleep);
    say("lock", lock);
    say("barrier", barrier);
    return unused;
}

static void locks(void)
{
    pthread_t threads[2];
    pthread_barrier_init(&period, 0, 2);
    pthread_create(&threads[0], 0, holder, 0);
    pthread_create(&threads[1], 0, waiter, 0);
    for (int i = 0; i < 2; i++) { pthread_join(threads[i], 0); }
}

/* A child that writes to a pipe, is stopped for a while, and is waited for. */
static void family(void)
{
    int ends[2], status;
    long long pipe_ns = 0, child_ns = 0, stopped_ns = 0, asleep = 0;
    if (pipe(ends)) { exit(2); }
    pid_t child = fork();
    if (!child) {
        named("writer");
        for (int i = 0; i < 10; i++) { BLOCKED(asleep, nap(60 * MS)); if (write(ends[1], "x", 1) != 1) { _exit(2); } }
        raise(SIGSTOP);
        BLOCKED(asleep, nap(500 * MS));
        say("sleep", asleep);
        _exit(0);
    }
    named("reader");
    for (int i = 0; i < 10; i++) { char byte; BLOCKED(pipe_ns, if (read(ends[0], &byte, 1) != 1) { exit(2); }); }
    BLOCKED(child_ns, waitpid(child, &status, WUNTRACED));
    long long from = of_clock(CLOCK_MONOTONIC);
    BLOCKED(asleep, nap(700 * MS));
    kill(child, SIGCONT);
    stopped_ns = of_clock(CLOCK_MONOTONIC) - from;
    BLOCKED(child_ns, waitpid(child, &status, 0));
    say("pipe", pipe_ns);
    say("child", child_ns);
    say("sleep", asleep);
    printf("writer stopped %lld\n", stopped_ns);
}

/* Reads that no cache answers. */
static void direct(const char *path)
{
    long long file_ns = 0, asleep = 0;
    void *buffer = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = open(path, O_RDONLY | O_DIRECT);
    if (fd < 0) { exit(4); }
    named("direct");
    memset(buffer, 1, 1 << 20);
    for (long long end = of_clock(CLOCK_MONOTONIC) + 1500 * MS; of_clock(CLOCK_MONOTONIC) < end;) {
        BLOCKED(file_ns, for (int i = 0; i < 16; i++) { if (pread(fd, buffer, 1 << 20, (long long)i << 20) < 0) { exit(5); } });
        BLOCKED(asleep, nap(10 * MS));
    }
    say("file", file_ns);
    say("sleep", asleep);
}

/* Threads that compute, on as many CPUs as `cpus`. */
static void *spinner(void *number)
{
    char name[16];
    snprintf(name, sizeof name, "spin%ld", (long)number);
    named(name);
    crunch(2000 * MS);
    struct times end = now();
    say("user", end.cpu);
    say("runnable", end.delay);
    return 0;
}

static void spin(int cpus)
{
    pthread_t threads[3];
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int i = 0; i < cpus; i++) { CPU_SET(i, &set); }
    if (sched_setaffinity(0, sizeof set, &set)) { exit(6); }
    for (long i = 0; i < 3; i++) { pthread_create(&threads[i], 0, spinner, (void *)i); }
    for (int i = 0; i < 3; i++) { pthread_join(threads[i], 0); }
}

int main(int argc, char **argv)
{
    if (argc < 2) { return 1; }
    if (!strcmp(argv[1], "locks")) { locks(); }
    if (!strcmp(argv[1], "family")) { family(); }
    if (!strcmp(argv[1], "direct")) { direct(argv[2]); }
    if (!strcmp(argv[1], "spin")) { spin(atoi(argv[2])); }
    if (!strcmp(argv[1], "alone")) { spinner(0); }
    return 0;
}
