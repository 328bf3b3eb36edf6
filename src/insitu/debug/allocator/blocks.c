/* Records the blocks of a program that are in use, with where and when they were allocated: for `insitu leaks --track`.
 *
 * It is preloaded and passes all calls on to glibc. Only the process that insitu has started itself is recorded, also
 * after exec; what that one forks is not.
 */
#define _GNU_SOURCE
#include "blocks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18 /* include/uapi/asm-generic/mman-common.h */
#endif
#define LISTS_PER_BLOCK 2u

/* Whether to record. It lies in a page that is zeros in a child, whatever call has made that. */
static volatile bool nothing, *recording = &nothing;
static bool begun;
static struct table *table;
static uint32_t *lists;
static struct block *blocks;
static char *stacks;
static uint64_t per_stripe, lists_per_stripe;

/* Beginning */

/* "BLOCKS:STACK:PARENT:FILE": of which size the file is, and which process must be our parent. */
static bool open_table(const char *text)
{
    char *at;
    uint64_t count = strtoull(text, &at, 10);
    uint64_t stack = *at == ':' ? strtoull(at + 1, &at, 10) : 0;
    uint64_t parent = *at == ':' ? strtoull(at + 1, &at, 10) : 0;
    if (*at != ':' || !count || count % STRIPES || count > UINT32_MAX / 2 || !stack || stack % 8 ||
        parent != (uint64_t)getppid())
        return false;
    uint64_t heads = guard_page * 3, entries = heads + count * LISTS_PER_BLOCK * sizeof *lists;
    uint64_t copies = entries + count * sizeof *blocks, size = copies + count * stack;
    _Static_assert(sizeof(struct table) <= 3 * 4096, "the lists come after it");
    int file = open(at + 1, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return false;
    struct stat found;
    bool fits = !fstat(file, &found) && (uint64_t)found.st_size == size;
    /* What a program before exec has left in it. */
    fits = fits && !fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)size);
    void *made = fits ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
    close(file);
    if (made == MAP_FAILED)
        return false;
    madvise(made, size, MADV_DONTDUMP);
    table = made;
    lists = (uint32_t *)((char *)made + heads);
    blocks = (struct block *)((char *)made + entries);
    stacks = (char *)made + copies;
    per_stripe = count / STRIPES;
    lists_per_stripe = per_stripe * LISTS_PER_BLOCK;
    table->blocks = count;
    table->stack_bytes = stack;
    return true;
}

/* Constructors of other libraries come before ours: the first allocation begins, once libc has the environment. */
__attribute__((constructor)) static void begin(void)
{
    if (begun || !environ)
        return;
    begun = busy = true;
    int error = errno;
    const char *text = getenv("INSITU_LEAKS_TRACK");
    if (text && open_table(text)) {
        void *page = mmap(NULL, guard_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page != MAP_FAILED && !madvise(page, guard_page, MADV_WIPEONFORK)) {
            __atomic_store_n(&table->magic, MAGIC, __ATOMIC_RELEASE);
            recording = page;
            *recording = true;
        }
    }
    errno = error;
    busy = false;
}

static inline bool is_recorded(void)
{
    if (__builtin_expect(!begun, 0))
        begin();
    return *recording && !busy && !__atomic_load_n(&table->frozen, __ATOMIC_RELAXED);
}

/* Blocks. A handler of a signal that has interrupted us here is not recorded (busy). */

static inline uint64_t mixed(uint64_t address)
{
    address = (address >> 4) * 0x9E3779B97F4A7C15u;
    return address >> 20;
}

static inline uint64_t stripe_of(uint64_t mix)
{
    return mix % STRIPES;
}

static inline uint32_t *list_of(uint64_t mix)
{
    return &lists[stripe_of(mix) * lists_per_stripe + mix / STRIPES % lists_per_stripe];
}

static inline struct block *block_at(uint64_t stripe, uint32_t at) /* at: from 1 on */
{
    return &blocks[stripe * per_stripe + at - 1];
}

/* Takes a block off its list; its number in its part, or 0. With the lock held. */
static uint32_t unlinked(uint64_t mix, uint64_t address)
{
    uint64_t stripe = stripe_of(mix);
    for (uint32_t *from = list_of(mix); *from; from = &block_at(stripe, *from)->next) {
        struct block *block = block_at(stripe, *from);
        if (block->address != address)
            continue;
        uint32_t at = *from;
        *from = block->next;
        __atomic_store_n(&block->address, 0, __ATOMIC_RELEASE);
        return at;
    }
    return 0;
}

static void give_back(struct stripe *part, uint64_t stripe, uint32_t at)
{
    block_at(stripe, at)->next = part->free;
    part->free = at;
}

static void link_in(uint64_t mix, uint32_t at, void *made)
{
    struct block *block = block_at(stripe_of(mix), at);
    uint32_t *list = list_of(mix);
    block->next = *list;
    *list = at;
    __atomic_store_n(&block->address, (uint64_t)made, __ATOMIC_RELEASE);
}

static struct stripe *locked(uint64_t mix)
{
    struct stripe *part = &table->stripes[stripe_of(mix)];
    busy = true;
    pthread_mutex_lock(&part->lock);
    return part;
}

static void unlock(struct stripe *part)
{
    pthread_mutex_unlock(&part->lock);
    busy = false;
}

static void forget(void *gone)
{
    uint64_t mix = mixed((uint64_t)gone);
    struct stripe *part = locked(mix);
    uint32_t at = unlinked(mix, (uint64_t)gone);
    if (at)
        give_back(part, stripe_of(mix), at);
    unlock(part);
}

static __attribute__((noinline)) void record(void *made, size_t size)
{
    uint64_t mix = mixed((uint64_t)made), stripe = stripe_of(mix);
    struct stripe *part = locked(mix);
    uint32_t at = unlinked(mix, (uint64_t)made); /* freed where we did not see it */
    if (!at && (at = part->free))
        part->free = block_at(stripe, at)->next;
    else if (!at && part->used < per_stripe)
        at = ++part->used;
    if (at) {
        struct block *block = block_at(stripe, at);
        block->size = size;
        guard_here(&block->origin, stacks + (stripe * per_stripe + at - 1) * table->stack_bytes, table->stack_bytes);
        link_in(mix, at, made);
    } else {
        part->full++;
    }
    unlock(part);
}

/* The functions that programs call */

EXPORT void *malloc(size_t size)
{
    void *made = __libc_malloc(size);
    if (made && is_recorded())
        record(made, size);
    return made;
}

EXPORT void *calloc(size_t count, size_t size)
{
    void *made = __libc_calloc(count, size);
    if (made && is_recorded())
        record(made, count * size);
    return made;
}

EXPORT void free(void *block)
{
    if (block && is_recorded())
        forget(block); /* before another thread can have it */
    __libc_free(block);
}

/* The old block is forgotten first, as another thread can have it at once. A call that fails leaves it as it is: its
 * record comes back. One of no bytes frees it. */
EXPORT void *realloc(void *old, size_t size)
{
    if (!is_recorded())
        return __libc_realloc(old, size);
    uint64_t mix = mixed((uint64_t)old);
    struct stripe *part = locked(mix);
    uint32_t at = old ? unlinked(mix, (uint64_t)old) : 0;
    unlock(part);
    void *made = __libc_realloc(old, size);
    if (at) {
        locked(mix);
        if (made || !size)
            give_back(part, stripe_of(mix), at);
        else
            link_in(mix, at, old);
        unlock(part);
    }
    if (made)
        record(made, size);
    return made;
}

static void *aligned(size_t align, size_t size)
{
    void *made = __libc_memalign(align, size);
    if (made && is_recorded())
        record(made, size);
    return made;
}

EXPORT void *memalign(size_t align, size_t size)
{
    return aligned(align, size);
}

EXPORT void *aligned_alloc(size_t align, size_t size)
{
    return aligned(align, size);
}

EXPORT int posix_memalign(void **into, size_t align, size_t size)
{
    if (align % sizeof(void *) || !align || align & (align - 1))
        return EINVAL;
    int error = errno;
    void *made = aligned(align, size);
    errno = error;
    if (!made)
        return ENOMEM;
    *into = made;
    return 0;
}
