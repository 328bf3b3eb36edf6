/* A lock that the handler of a signal may take while the code that it has interrupted holds it.
 *
 * The C library's recursive mutexes do not allow that: a signal between the taking of the mutex and the note of who has
 * taken it, or between these two at the release, finds a mutex of nobody that is never released. Here both are one
 * word: the thread that holds the lock, and whether others wait.
 */
#define _GNU_SOURCE
#include "guard_heap.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WAITED_FOR (1u << 31)

static THREAD_LOCAL uint32_t holder; /* this thread, as the words have it; 0: not asked yet */

static uint32_t this_thread(void)
{
    if (!holder)
        holder = (uint32_t)syscall(SYS_gettid);
    return holder;
}

bool guard_take(uint32_t *lock)
{
    uint32_t own = this_thread(), seen = 0, wanted = own;
    int error = errno;
    while (!__atomic_compare_exchange_n(lock, &seen, wanted, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        if ((seen & ~WAITED_FOR) == own)
            return false;
        if (seen & WAITED_FOR ||
            __atomic_compare_exchange_n(lock, &seen, seen | WAITED_FOR, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            syscall(SYS_futex, lock, FUTEX_WAIT_PRIVATE, seen | WAITED_FOR, NULL, NULL, 0);
            wanted = own | WAITED_FOR; /* there may be others */
        }
        seen = 0;
    }
    errno = error;
    return true;
}

void guard_release(uint32_t *lock, bool taken)
{
    if (!taken)
        return;
    int error = errno;
    if (__atomic_exchange_n(lock, 0, __ATOMIC_RELEASE) & WAITED_FOR)
        syscall(SYS_futex, lock, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = error;
}

/* In a new process: its only thread holds what the thread that forked held, and nobody what others held. */
void guard_locks_forked(uint32_t *const *locks, size_t count)
{
    uint32_t forked = holder;
    holder = 0;
    for (size_t at = 0; at < count; at++)
        *locks[at] = (*locks[at] & ~WAITED_FOR) == forked && forked ? this_thread() : 0;
}
