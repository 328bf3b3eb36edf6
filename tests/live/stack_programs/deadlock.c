// Two threads that wait for each other's mutex, one for its own, one for a rwlock, eight that pause; main joins one.
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static pthread_mutex_t first = PTHREAD_MUTEX_INITIALIZER, second = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t shared = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t both;

static void take(pthread_mutex_t *one, pthread_mutex_t *other)
{
    pthread_mutex_lock(one);
    pthread_barrier_wait(&both);
    pthread_mutex_lock(other);
}

static void *left(void *x) { take(&first, &second); return x; }
static void *right(void *x) { take(&second, &first); return x; }
static void *twice(void *x) { pthread_mutex_lock(&own); pthread_mutex_lock(&own); return x; }
static void *reads(void *x) { pthread_rwlock_rdlock(&shared); return x; }
static void *waits(void *x)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&mutex);
    for (;;)
        pthread_cond_wait(&never, &mutex);
    return x;
}

__attribute__((noinline)) static int deep(int n)
{
    int below = n ? deep(n - 1) : pause();
    __asm__ volatile("" : "+r"(below));
    return below;
}

static void *pauses(void *x) { deep(5); return x; }

int main(void)
{
    pthread_t threads[13];
    pthread_barrier_init(&both, 0, 2);
    pthread_rwlock_wrlock(&shared);
    void *(*bodies[13])(void *) = { left, right, twice, reads, waits };
    for (int i = 0; i < 13; i++)
        pthread_create(&threads[i], 0, bodies[i] ? bodies[i] : pauses, 0);
    puts("ready");
    fflush(stdout);
    pthread_join(threads[0], 0);
}
