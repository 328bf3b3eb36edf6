// Memory of which it is known on which of two NUMA nodes it is, and in pages of which size. Prints names and
// addresses, then waits. Needs six huge pages in the pool of each node.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, HUGE = 2 << 20, BIND = 2, INTERLEAVE = 3, BOTH = 3 }; // include/uapi/linux/mempolicy.h

static void fail(const char *name)
{
    perror(name);
    exit(1);
}

// A mapping that begins at a huge page, with an inaccessible one on either side.
static char *map(const char *name, long bytes, int flags, int policy, unsigned long nodes)
{
    char *all = mmap(0, bytes + 3 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *place = (char *)(((unsigned long)all + 2 * HUGE - 1) & ~(HUGE - 1UL));
    char *made = mmap(place, bytes, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (made == MAP_FAILED || syscall(SYS_mbind, made, bytes, policy, &nodes, 64, 0))
        fail(name);
    if (flags & MAP_PRIVATE) // a child has none of it
        madvise(made, bytes, MADV_DONTFORK);
    printf("%s %lx\n", name, (long)made);
    return made;
}

int main(void)
{
    memset(map("node0", 40 * PAGE, MAP_PRIVATE, BIND, 1), 1, 30 * PAGE);
    memset(map("node1", 50 * PAGE, MAP_PRIVATE, BIND, 2), 1, 50 * PAGE);
    memset(map("interleaved", 40 * PAGE, MAP_PRIVATE, INTERLEAVE, BOTH), 1, 40 * PAGE);
    if (mlock(map("locked", 5 * PAGE, MAP_PRIVATE, BIND, 1), 5 * PAGE))
        fail("mlock");
    // The kernel makes a huge page at the first touch: of the first two by writing, of the third the huge page of
    // zeros by reading; the fourth is not touched.
    char *transparent = map("transparent", 4 * HUGE, MAP_PRIVATE, BIND, 2);
    madvise(transparent, 4 * HUGE, MADV_HUGEPAGE);
    transparent[0] = transparent[HUGE] = 1;
    int sum = transparent[2 * HUGE];
    char *pool = map("pool", 4 * HUGE, MAP_PRIVATE | MAP_HUGETLB, BIND, 1);
    pool[0] = pool[HUGE] = pool[2 * HUGE] = 1;
    char *shared = map("shared_pool", 2 * HUGE, MAP_SHARED | MAP_HUGETLB, BIND, 2);
    shared[0] = shared[HUGE] = 1;
    if (fork() == 0) {
        shared[0] = 2;
        printf("child %x\n", getpid());
        fflush(stdout);
        return pause();
    }
    return sum + pause();
}
