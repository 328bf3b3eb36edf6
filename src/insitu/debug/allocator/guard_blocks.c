/* A preloaded allocator that places blocks against inaccessible pages: `insitu guard`.
 *
 * One region of address space is inaccessible but for the pages of living blocks. A block takes whole pages and the
 * one after them, which is never opened; it lies at the end of its pages, or with settings.before at their beginning.
 * What its pages hold beside it is filled and checked when it is freed. A freed block's pages are closed, and not used
 * again until settings.quarantine other blocks have been freed. Where the kernel has guard pages (MADV_GUARD_INSTALL,
 * Linux 6.13), the region is one mapping; else each living block costs two of vm.max_map_count.
 *
 * Blocks that are not guarded are glibc's. Stacks are copied as bytes: unwinding is left to insitu, afterwards.
 */
#define _GNU_SOURCE
#include "guard.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* include/uapi/asm-generic/mman-common.h */
#define MADV_GUARD_REMOVE 103
#endif
#define FILL 0xC5
#define DEFAULT_ALIGN 16u
#define LARGEST_REGION (1ull << 37)
#define SMALLEST_REGION (1ull << 28)
#define GROWTH_PAGES 1024u
#define BINS 64u          /* of freed slots by pages; the last one is for all larger */
#define MOST_TRIES 32     /* in the last bin */
#define MOST_STACK (64u << 10)
#define MOST_SITES 64
#define MOST_MODULES 256
#define TLS static _Thread_local __attribute__((tls_model("initial-exec")))

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);
extern void *__libc_stack_end;

struct range {
    uint64_t start, end;
};

struct settings guard_settings = {.sample = 1, .memory = 1ull << 32, .quarantine = 16384, .max = ~0ull, .stack = 2048};
struct counts guard_counts;
uint64_t guard_page = 4096;

static bool ready, replaced_operators;
static uint64_t region, region_end, opened; /* [region, opened) has been handed out */
static uint64_t grown;                      /* [region, grown) is writable but for guard pages */
static uint32_t *slot_of_page;
static struct slot *slots; /* 0 is none */
static char *stacks;
static uint32_t slots_used, most_slots;
static uint64_t most_live = ~0ull; /* that mappings allow */
static uint32_t bins[BINS], quarantine_first, quarantine_last;
static uint64_t quarantine_length;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct range sites[MOST_SITES], modules[MOST_MODULES];
static size_t site_count, module_count;

TLS bool busy;
TLS uint64_t until_sample, random_state, stack_end, stack_start;
TLS uint32_t own_tid;
_Thread_local __attribute__((tls_model("initial-exec"))) bool guard_checking;
sigjmp_buf guard_check;

/* Where the code is that has called, and what its stack holds */

static void find_thread(uint64_t sp)
{
    own_tid = (uint32_t)syscall(SYS_gettid);
    uint64_t main_end = (uint64_t)__libc_stack_end;
    stack_start = stack_end = 0;
    if (own_tid == (uint32_t)getpid() && sp < main_end && main_end - sp < 64u << 20) {
        stack_start = main_end - (64u << 20);
        stack_end = main_end;
        return;
    }
    pthread_attr_t attributes;
    void *low;
    size_t size;
    bool before = busy;
    busy = true; /* it allocates */
    if (!pthread_getattr_np(pthread_self(), &attributes)) {
        if (!pthread_attr_getstack(&attributes, &low, &size)) {
            stack_start = (uint64_t)low;
            stack_end = stack_start + size;
        }
        pthread_attr_destroy(&attributes);
    }
    busy = before;
}

/* Registers as they are in this function, and the stack from its stack pointer on. */
__attribute__((noinline)) void guard_here(struct origin *origin, void *stack, size_t most)
{
    struct registers *r = &origin->registers;
    __asm__ volatile("movq %%rbx, 0(%0)\n\tmovq %%rbp, 8(%0)\n\tmovq %%rsp, 16(%0)\n\t"
                     "leaq 0(%%rip), %%rax\n\tmovq %%rax, 24(%0)\n\t"
                     "movq %%r12, 32(%0)\n\tmovq %%r13, 40(%0)\n\tmovq %%r14, 48(%0)\n\tmovq %%r15, 56(%0)"
                     :
                     : "r"(r)
                     : "rax", "memory");
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    origin->ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    if (!own_tid)
        find_thread(r->sp);
    origin->tid = own_tid;
    /* A coroutine's stack is not the thread's: what is known of it is only the page of its stack pointer. */
    bool own = r->sp >= stack_start && r->sp < stack_end;
    uint64_t end = own ? stack_end : (r->sp | (guard_page - 1)) + 1;
    uint64_t size = end - r->sp < most ? end - r->sp : most;
    memcpy(stack, (const void *)r->sp, size);
    origin->stack_bytes = (uint32_t)size;
}

static char *stack_at(const struct slot *slot, int which)
{
    return stacks + ((uint64_t)(slot - slots) * 2 + (uint64_t)which) * guard_settings.stack;
}

const void *guard_stack_of(const struct slot *slot, int which)
{
    return stack_at(slot, which);
}

/* Pages */

static bool open_pages(uint64_t address, uint64_t pages)
{
    if (guard_counts.guard_pages)
        return !madvise((void *)address, pages * guard_page, MADV_GUARD_REMOVE);
    return !mprotect((void *)address, pages * guard_page, PROT_READ | PROT_WRITE);
}

/* Their content is gone then: pages that are opened again hold zeros. */
static bool close_pages(uint64_t address, uint64_t pages)
{
    if (guard_counts.guard_pages)
        return !madvise((void *)address, pages * guard_page, MADV_GUARD_INSTALL);
    return !madvise((void *)address, pages * guard_page, MADV_DONTNEED) &&
           !mprotect((void *)address, pages * guard_page, PROT_NONE);
}

/* Let the region hold so many more pages. The lock is held. */
static bool grow(uint64_t pages)
{
    uint64_t size = pages * guard_page;
    if (size > region_end - opened)
        return false;
    if (!guard_counts.guard_pages || opened + size <= grown)
        return true;
    uint64_t more = (opened + size - grown + GROWTH_PAGES * guard_page - 1) / (GROWTH_PAGES * guard_page);
    more *= GROWTH_PAGES * guard_page;
    if (more > region_end - grown)
        more = region_end - grown;
    if (mprotect((void *)grown, more, PROT_READ | PROT_WRITE) ||
        madvise((void *)grown, more, MADV_GUARD_INSTALL))
        return false;
    grown += more;
    return true;
}

/* Slots: the lock is held */

static uint32_t bin_of(uint64_t pages)
{
    return pages < BINS ? (uint32_t)pages : 0;
}

static void leave_quarantine(void)
{
    uint32_t at = quarantine_first;
    struct slot *slot = &slots[at];
    quarantine_first = slot->next;
    if (!quarantine_first)
        quarantine_last = 0;
    quarantine_length--;
    slot->next = bins[bin_of(slot->pages)];
    bins[bin_of(slot->pages)] = at;
}

static void enter_quarantine(uint32_t at)
{
    slots[at].next = 0;
    if (quarantine_last)
        slots[quarantine_last].next = at;
    else
        quarantine_first = at;
    quarantine_last = at;
    quarantine_length++;
    while (quarantine_length > guard_settings.quarantine)
        leave_quarantine();
}

/* A slot of so many pages that has left the quarantine; of very many, one that is little larger. */
static uint32_t used_slot(uint64_t pages)
{
    uint32_t *link = &bins[bin_of(pages)];
    for (int tries = 0; *link && tries < MOST_TRIES; tries++, link = &slots[*link].next) {
        uint32_t at = *link;
        if (slots[at].pages < pages || slots[at].pages > pages + pages / 8)
            continue;
        *link = slots[at].next;
        return at;
    }
    return 0;
}

static uint32_t new_slot(uint64_t pages)
{
    if (slots_used + 1 >= most_slots || !grow(pages + 1))
        return 0;
    uint32_t at = ++slots_used;
    slots[at].base = opened;
    slots[at].pages = pages;
    opened += (pages + 1) * guard_page;
    uint64_t first = (slots[at].base - region) / guard_page;
    for (uint64_t page = 0; page <= pages; page++)
        slot_of_page[first + page] = at;
    return at;
}

static uint32_t take_slot(uint64_t pages)
{
    if ((guard_settings.slots && guard_counts.live >= guard_settings.slots) ||
        pages > guard_settings.memory / guard_page ||
        guard_counts.bytes + pages * guard_page > guard_settings.memory) {
        guard_counts.no_memory++;
        return 0;
    }
    uint32_t at = guard_counts.live < most_live ? used_slot(pages) : 0;
    if (!at && (guard_counts.live >= most_live || !(at = new_slot(pages)))) {
        guard_counts.no_mappings++;
        return 0;
    }
    guard_counts.bytes += slots[at].pages * guard_page;
    guard_counts.live++;
    if (guard_counts.bytes > guard_counts.bytes_most)
        guard_counts.bytes_most = guard_counts.bytes;
    if (guard_counts.live > guard_counts.live_most)
        guard_counts.live_most = guard_counts.live;
    return at;
}

static bool in_region(uint64_t address)
{
    return address - region < region_end - region;
}

struct slot *guard_slot_at(uint64_t address)
{
    if (!ready || address < region || address >= opened)
        return NULL;
    uint32_t at = slot_of_page[(address - region) / guard_page];
    struct slot *slot = &slots[at ? at : 1]; /* none: the page before the first block */
    /* In the page between two blocks: the fault belongs to the nearer one. */
    struct slot *after = guard_neighbour(slot, 1);
    uint64_t end = slot->user + slot->size;
    if (address >= slot->base + slot->pages * guard_page && after && after->state != STATE_UNUSED &&
        after->user - address < address - end + 1)
        return after;
    return slot;
}

struct slot *guard_neighbour(struct slot *slot, int direction)
{
    if (slot == &slots[1] && direction < 0)
        return NULL;
    uint64_t address = direction < 0 ? slot->base - guard_page : slot->base + (slot->pages + 1) * guard_page;
    if (address < region || address >= opened)
        return NULL;
    return &slots[slot_of_page[(address - region) / guard_page]];
}

/* Bytes beside the block */

static uint64_t changed(uint64_t from, uint64_t to)
{
    for (; from < to && from % 8; from++)
        if (*(const uint8_t *)from != FILL)
            return from;
    for (; from + 8 <= to && *(const uint64_t *)from == 0x0101010101010101u * FILL; from += 8)
        ;
    for (; from < to; from++)
        if (*(const uint8_t *)from != FILL)
            return from;
    return 0;
}

uint64_t guard_damaged_byte(const struct slot *slot)
{
    uint64_t after = changed(slot->user + slot->size, slot->base + slot->pages * guard_page);
    return after ? after : changed(slot->base, slot->user);
}

/* Threads that still run may free a block while it is looked at: the fault leads back here. */
static void check_live(void)
{
    static volatile uint32_t at;
    if (sigsetjmp(guard_check, 1))
        at++;
    guard_checking = true;
    for (; at <= slots_used; at++) {
        if (!at)
            continue;
        uint64_t damaged = slots[at].state == STATE_LIVE ? guard_damaged_byte(&slots[at]) : 0;
        if (damaged)
            guard_report(FAULT_DAMAGE, &slots[at], damaged, 0);
    }
    guard_checking = false;
}

/* Which blocks are guarded */

static bool is_sampled(void)
{
    if (guard_settings.sample <= 1)
        return true;
    if (until_sample > 1) {
        until_sample--;
        return false;
    }
    if (!random_state)
        random_state = (uint64_t)&random_state ^ (uint64_t)syscall(SYS_gettid) << 32;
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    bool first = !until_sample;
    until_sample = 1 + random_state % (2 * guard_settings.sample - 1); /* on average one of so many */
    return !first || until_sample == 1;
}

static bool is_asked_for(size_t size, uint64_t caller)
{
    if (size < guard_settings.min || size > guard_settings.max)
        return false;
    bool known = !site_count;
    for (size_t at = 0; at < site_count && !known; at++)
        known = caller - sites[at].start < sites[at].end - sites[at].start;
    return known && is_sampled();
}

/* A guarded block, or NULL: this one is to be glibc's, or errno is ENOMEM where glibc cannot have it either. */
static void *guarded(size_t size, size_t align, uint32_t family, uint64_t caller)
{
    if (!ready || busy)
        return NULL;
    if (size > LARGEST_REGION || align > LARGEST_REGION) /* glibc cannot have it either, or it is one of a kind */
        return NULL;
    __atomic_fetch_add(&guard_counts.blocks, 1, __ATOMIC_RELAXED);
    if (!is_asked_for(size, caller))
        return NULL;
    busy = true;
    uint64_t pages = size ? (size + guard_page - 1) / guard_page : 1;
    if (align > guard_page)
        pages += align / guard_page;
    pthread_mutex_lock(&lock);
    uint32_t at = take_slot(pages);
    pthread_mutex_unlock(&lock);
    struct slot *slot = &slots[at];
    if (at && !open_pages(slot->base, slot->pages)) {
        pthread_mutex_lock(&lock);
        guard_counts.no_mappings++;
        guard_counts.live--;
        guard_counts.bytes -= slot->pages * guard_page;
        slot->state = STATE_UNUSED;
        slot->next = bins[bin_of(slot->pages)];
        bins[bin_of(slot->pages)] = at;
        pthread_mutex_unlock(&lock);
        at = 0;
    }
    if (!at) {
        busy = false;
        return NULL;
    }
    uint64_t end = slot->base + slot->pages * guard_page;
    uint64_t user = guard_settings.before ? slot->base + align - 1 : end - size;
    slot->user = user & ~(uint64_t)(align - 1);
    slot->size = size;
    slot->align = (uint32_t)align;
    slot->family = family;
    memset((void *)slot->base, FILL, slot->user - slot->base);
    memset((void *)(slot->user + size), FILL, end - slot->user - size);
    guard_here(&slot->origin[0], stack_at(slot, 0), guard_settings.stack);
    slot->origin[1].stack_bytes = 0;
    __atomic_store_n(&slot->state, STATE_LIVE, __ATOMIC_RELEASE);
    __atomic_fetch_add(&guard_counts.guarded, 1, __ATOMIC_RELAXED);
    busy = false;
    return (void *)slot->user;
}

static size_t plain_alignment(void)
{
    return guard_settings.exact ? 1 : DEFAULT_ALIGN;
}

/* Freeing */

static bool is_in_program(uint64_t address)
{
    uint64_t here = (uint64_t)__builtin_frame_address(0);
    if (here >= stack_start && here < stack_end && address >= here && address < stack_end)
        return true; /* the stack */
    for (size_t at = 0; at < module_count; at++)
        if (address - modules[at].start < modules[at].end - modules[at].start)
            return true;
    return false;
}

_Noreturn static void fatal(enum fault_kind kind, struct slot *slot, uint64_t address, uint32_t family)
{
    busy = true;
    guard_report(kind, slot, address, family);
    guard_report_counts();
    abort(); /* as glibc does */
}

/* The slot of a living block, which is freed from now on; reports all that is wrong with that. */
static struct slot *released(uint64_t address, uint32_t family)
{
    struct slot *slot = address < opened ? &slots[slot_of_page[(address - region) / guard_page]] : NULL;
    if (!slot || slot->user != address || slot->state == STATE_UNUSED)
        fatal(FAULT_INVALID_FREE, guard_slot_at(address), address, family);
    uint32_t live = STATE_LIVE;
    if (!__atomic_compare_exchange_n(&slot->state, &live, STATE_FREED, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        fatal(FAULT_DOUBLE_FREE, slot, address, family);
    if (slot->family != family && !replaced_operators) {
        slot->state = STATE_LIVE; /* in the report */
        guard_report(FAULT_MISMATCH, slot, address, family);
        slot->state = STATE_FREED;
    }
    uint64_t damaged = guard_damaged_byte(slot);
    if (damaged) {
        slot->state = STATE_LIVE;
        guard_report(FAULT_DAMAGE, slot, damaged, family);
        slot->state = STATE_FREED;
    }
    return slot;
}

static void release(void *block, uint32_t family)
{
    uint64_t address = (uint64_t)block;
    if (!in_region(address) || !ready) {
        if (ready && !busy && block && (address % DEFAULT_ALIGN || is_in_program(address)))
            fatal(FAULT_INVALID_FREE, NULL, address, family);
        __libc_free(block);
        return;
    }
    int error = errno;
    struct slot *slot = released(address, family);
    busy = true;
    guard_here(&slot->origin[1], stack_at(slot, 1), guard_settings.stack);
    bool closed = close_pages(slot->base, slot->pages);
    pthread_mutex_lock(&lock);
    guard_counts.freed++;
    guard_counts.live--;
    guard_counts.bytes -= slot->pages * guard_page;
    if (closed) /* else it is never used again */
        enter_quarantine((uint32_t)(slot - slots));
    pthread_mutex_unlock(&lock);
    busy = false;
    errno = error;
}

/* C */

#define CALLER ((uint64_t)__builtin_return_address(0))

EXPORT void *malloc(size_t size)
{
    void *block = guarded(size, plain_alignment(), FAMILY_MALLOC, CALLER);
    return block ? block : __libc_malloc(size);
}

EXPORT void *calloc(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    void *block = guarded(bytes, plain_alignment(), FAMILY_MALLOC, CALLER); /* opened pages hold zeros */
    return block ? block : __libc_calloc(count, size);
}

static void *resized(void *block, size_t size, uint64_t caller)
{
    if (block && (!ready || !in_region((uint64_t)block))) {
        if (ready && !busy && ((uint64_t)block % DEFAULT_ALIGN || is_in_program((uint64_t)block)))
            fatal(FAULT_INVALID_FREE, NULL, (uint64_t)block, FAMILY_MALLOC);
        return __libc_realloc(block, size);
    }
    void *new = block && !size ? NULL : guarded(size, plain_alignment(), FAMILY_MALLOC, caller);
    if (!new && !(block && !size) && !(new = __libc_malloc(size)))
        return NULL;
    if (block) {
        const struct slot *slot = &slots[slot_of_page[((uint64_t)block - region) / guard_page]];
        if (new && slot->user == (uint64_t)block && slot->state == STATE_LIVE)
            memcpy(new, block, slot->size < size ? slot->size : size);
        release(block, FAMILY_MALLOC);
    }
    return new;
}

EXPORT void *realloc(void *block, size_t size)
{
    return resized(block, size, CALLER);
}

EXPORT void *reallocarray(void *block, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return resized(block, bytes, CALLER);
}

EXPORT void free(void *block)
{
    if (block)
        release(block, FAMILY_MALLOC);
}

EXPORT void cfree(void *block)
{
    if (block)
        release(block, FAMILY_MALLOC);
}

static void *aligned(size_t align, size_t size, uint32_t family, uint64_t caller)
{
    size_t power = DEFAULT_ALIGN;
    while (power < align && power < SIZE_MAX / 4)
        power *= 2;
    /* What asks for an alignment gets it, also where others are exact. */
    void *block = guarded(size, power, family, caller);
    return block ? block : __libc_memalign(align, size);
}

EXPORT int posix_memalign(void **into, size_t align, size_t size)
{
    if (align % sizeof(void *) || !align || align & (align - 1))
        return EINVAL;
    int error = errno;
    void *block = aligned(align, size, FAMILY_MALLOC, CALLER);
    errno = error;
    if (!block)
        return ENOMEM;
    *into = block;
    return 0;
}

EXPORT void *aligned_alloc(size_t align, size_t size)
{
    return aligned(align, size, FAMILY_MALLOC, CALLER);
}

EXPORT void *memalign(size_t align, size_t size)
{
    return aligned(align, size, FAMILY_MALLOC, CALLER);
}

EXPORT void *valloc(size_t size)
{
    return aligned(guard_page, size, FAMILY_MALLOC, CALLER);
}

EXPORT void *pvalloc(size_t size)
{
    return aligned(guard_page, (size + guard_page - 1) & ~(guard_page - 1), FAMILY_MALLOC, CALLER);
}

EXPORT size_t malloc_usable_size(void *block)
{
    static size_t (*next)(void *);
    if (ready && in_region((uint64_t)block))
        return slots[slot_of_page[((uint64_t)block - region) / guard_page]].size;
    if (!next) {
        void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
        *(void **)&next = libc ? dlsym(libc, "malloc_usable_size") : NULL;
    }
    return block && next ? next(block) : 0;
}

/* Memory of the region cannot be locked: its tables would be made resident, and locked pages cannot be closed. */

EXPORT int mlockall(int flags)
{
    return ready ? 0 : (int)syscall(SYS_mlockall, flags);
}

EXPORT int mlock(const void *address, size_t size)
{
    return ready && in_region((uint64_t)address) ? 0 : (int)syscall(SYS_mlock, address, size);
}

EXPORT int mlock2(const void *address, size_t size, unsigned flags)
{
    return ready && in_region((uint64_t)address) ? 0 : (int)syscall(SYS_mlock2, address, size, flags);
}

/* C++. A program that replaces some of these operators has its own: the others come to it, as the standard says. */

typedef const void *nothrow;
static void *(*program_new)(size_t);
static void (*program_delete)(void *);

/* What the next library does when there is no memory: it calls the new handler, and throws. */
static void *exhausted(const char *name, size_t size)
{
    void *(*next)(size_t);
    *(void **)&next = dlsym(RTLD_NEXT, name);
    if (!next)
        abort();
    return next(size);
}

static void *made(size_t size, size_t align, uint32_t family, uint64_t caller)
{
    if (align)
        return aligned(align, size, family, caller);
    void *block = guarded(size, plain_alignment(), family, caller);
    return block ? block : __libc_malloc(size ? size : 1);
}

static void *made_or_thrown(size_t size, size_t align, uint32_t family, uint64_t caller)
{
    if (replaced_operators && !align)
        return program_new(size);
    void *block = made(size, align, family, caller);
    return block ? block : exhausted("_Znwm", size);
}

static void *made_or_null(size_t size, size_t align, uint32_t family, uint64_t caller)
{
    if (replaced_operators && !align)
        return program_new(size);
    return made(size, align, family, caller);
}

static void deleted(void *block, uint32_t family)
{
    if (block && replaced_operators)
        program_delete(block);
    else if (block)
        release(block, family);
}

static void deleted_aligned(void *block, uint32_t family)
{
    if (block)
        release(block, family);
}

#define NEW(name, made_by, kind, ...) \
    EXPORT void *name(size_t size, ##__VA_ARGS__) { return made_by(size, 0, kind, CALLER); }
#define NEW_ALIGNED(name, made_by, kind, ...) \
    EXPORT void *name(size_t size, size_t align, ##__VA_ARGS__) { return made_by(size, align, kind, CALLER); }
#define DELETE(name, kind, ...) \
    EXPORT void name(void *block, ##__VA_ARGS__) { deleted(block, kind); }
#define DELETE_ALIGNED(name, kind, ...) \
    EXPORT void name(void *block, ##__VA_ARGS__) { deleted_aligned(block, kind); }

NEW(_Znwm, made_or_thrown, FAMILY_NEW)
NEW(_Znam, made_or_thrown, FAMILY_NEW_ARRAY)
NEW(_ZnwmRKSt9nothrow_t, made_or_null, FAMILY_NEW, nothrow n)
NEW(_ZnamRKSt9nothrow_t, made_or_null, FAMILY_NEW_ARRAY, nothrow n)
NEW_ALIGNED(_ZnwmSt11align_val_t, made_or_thrown, FAMILY_NEW)
NEW_ALIGNED(_ZnamSt11align_val_t, made_or_thrown, FAMILY_NEW_ARRAY)
NEW_ALIGNED(_ZnwmSt11align_val_tRKSt9nothrow_t, made_or_null, FAMILY_NEW, nothrow n)
NEW_ALIGNED(_ZnamSt11align_val_tRKSt9nothrow_t, made_or_null, FAMILY_NEW_ARRAY, nothrow n)
DELETE(_ZdlPv, FAMILY_NEW)
DELETE(_ZdaPv, FAMILY_NEW_ARRAY)
DELETE(_ZdlPvm, FAMILY_NEW, size_t s)
DELETE(_ZdaPvm, FAMILY_NEW_ARRAY, size_t s)
DELETE(_ZdlPvRKSt9nothrow_t, FAMILY_NEW, nothrow n)
DELETE(_ZdaPvRKSt9nothrow_t, FAMILY_NEW_ARRAY, nothrow n)
DELETE_ALIGNED(_ZdlPvSt11align_val_t, FAMILY_NEW, size_t a)
DELETE_ALIGNED(_ZdaPvSt11align_val_t, FAMILY_NEW_ARRAY, size_t a)
DELETE_ALIGNED(_ZdlPvmSt11align_val_t, FAMILY_NEW, size_t s, size_t a)
DELETE_ALIGNED(_ZdaPvmSt11align_val_t, FAMILY_NEW_ARRAY, size_t s, size_t a)
DELETE_ALIGNED(_ZdlPvSt11align_val_tRKSt9nothrow_t, FAMILY_NEW, size_t a, nothrow n)
DELETE_ALIGNED(_ZdaPvSt11align_val_tRKSt9nothrow_t, FAMILY_NEW_ARRAY, size_t a, nothrow n)

/* Beginning and end */

static void read_settings(const char *text)
{
    static const struct { const char *name; uint64_t *value; } known[] = {
        {"sample", &guard_settings.sample},         {"slots", &guard_settings.slots},
        {"memory", &guard_settings.memory},         {"quarantine", &guard_settings.quarantine},
        {"min", &guard_settings.min},               {"max", &guard_settings.max},
        {"stack", &guard_settings.stack},           {"before", &guard_settings.before},
        {"exact", &guard_settings.exact},           {"mprotect", &guard_settings.mprotect},
    };
    while (text && *text) {
        const char *equals = strchr(text, '=');
        if (!equals)
            return;
        for (size_t at = 0; at < sizeof known / sizeof *known; at++)
            if (strlen(known[at].name) == (size_t)(equals - text) && !strncmp(text, known[at].name, (size_t)(equals - text)))
                *known[at].value = strtoull(equals + 1, NULL, 10);
        text = strchr(equals, ',');
        text = text ? text + 1 : NULL;
    }
}

/* "FILE:START-END" by lines: functions, by their addresses in the file, whose blocks alone are to be guarded. */
static void add_sites(const char *path, uint64_t bias)
{
    const char *line = getenv("INSITU_GUARD_SITES");
    for (; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        const char *end = strchr(line, '\n');
        const char *colon = end ? memrchr(line, ':', (size_t)(end - line)) : NULL;
        if (!colon || strlen(path) != (size_t)(colon - line) || strncmp(path, line, (size_t)(colon - line)))
            continue;
        char *dash;
        uint64_t start = strtoull(colon + 1, &dash, 16);
        if (*dash == '-' && site_count < MOST_SITES)
            sites[site_count++] = (struct range){bias + start, bias + strtoull(dash + 1, NULL, 16)};
    }
}

static int add_module(struct dl_phdr_info *info, size_t size, void *first)
{
    static char own[4096];
    const char *path = info->dlpi_name;
    if (*(bool *)first) { /* the program itself has no name here */
        ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
        own[length > 0 ? length : 0] = 0;
        path = own;
        *(bool *)first = false;
    }
    char *real = realpath(path, NULL);
    add_sites(real ? real : path, info->dlpi_addr);
    __libc_free(real);
    for (int at = 0; at < info->dlpi_phnum; at++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[at];
        uint64_t start = info->dlpi_addr + header->p_vaddr;
        if (header->p_type == PT_LOAD && module_count < MOST_MODULES)
            modules[module_count++] = (struct range){start, start + header->p_memsz};
    }
    return 0;
}

static void *reserve(uint64_t size, int protection)
{
    void *made = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (made == MAP_FAILED)
        return NULL;
    madvise(made, size, MADV_NOHUGEPAGE);
    return made;
}

/* As much address space as is to be had: a limit on it (ulimit -v) leaves less. */
static bool reserve_all(void)
{
    for (uint64_t size = LARGEST_REGION; size >= SMALLEST_REGION; size /= 2) {
        uint64_t pages = size / guard_page, count = pages / 2;
        uint64_t sizes[4] = {size, pages * sizeof *slot_of_page, count * sizeof *slots,
                             count * 2 * guard_settings.stack};
        void *at[4];
        int done = 0;
        for (; done < 4; done++) {
            if (!(at[done] = reserve(sizes[done], done ? PROT_READ | PROT_WRITE : PROT_NONE)))
                break;
            if (done)
                madvise(at[done], sizes[done], MADV_DONTDUMP);
        }
        if (done == 4) {
            region = (uint64_t)at[0];
            region_end = region + size;
            opened = grown = region + guard_page; /* the page before the first block stays closed */
            slot_of_page = at[1];
            slots = at[2];
            stacks = at[3];
            most_slots = count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
            return true;
        }
        while (done--)
            munmap(at[done], sizes[done]);
    }
    return false;
}

static bool has_guard_pages(void)
{
    void *page = mmap(NULL, guard_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool has = page != MAP_FAILED && !madvise(page, guard_page, MADV_GUARD_INSTALL);
    if (page != MAP_FAILED)
        munmap(page, guard_page);
    return has;
}

/* Each living block needs two mappings. An eighth of them is left to the program, which would fail without. */
static uint64_t blocks_in_mappings(void)
{
    char text[32] = "";
    uint64_t most = 65530;
    int file = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
    if (file >= 0 && read(file, text, sizeof text - 1) > 0)
        most = strtoull(text, NULL, 10);
    if (file >= 0)
        close(file);
    return (most - most / 8) / 2;
}

static void before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&lock);
}

static void in_child(void)
{
    pthread_mutex_init(&lock, NULL);
    guard_reports_forked();
    if (own_tid)
        own_tid = (uint32_t)syscall(SYS_gettid); /* its stack stays that of the thread that forked */
    uint64_t guard_pages = guard_counts.guard_pages, live = guard_counts.live, bytes = guard_counts.bytes;
    guard_counts = (struct counts){.guard_pages = guard_pages, .live = live, .bytes = bytes};
}

__attribute__((constructor)) static void begin(void)
{
    guard_page = (uint64_t)sysconf(_SC_PAGESIZE);
    read_settings(getenv("INSITU_GUARD_OPTIONS"));
    if (guard_settings.stack > MOST_STACK)
        guard_settings.stack = MOST_STACK;
    guard_settings.stack &= ~7ull;
    if (!getenv("INSITU_GUARD_DIRECTORY") || !reserve_all())
        return;
    guard_counts.guard_pages = !guard_settings.mprotect && has_guard_pages();
    if (!guard_counts.guard_pages)
        most_live = blocks_in_mappings();
    *(void **)&program_new = dlsym(RTLD_DEFAULT, "_Znwm");
    *(void **)&program_delete = dlsym(RTLD_DEFAULT, "_ZdlPv");
    Dl_info own, new, delete;
    replaced_operators = dladdr((void *)begin, &own) && dladdr((void *)program_new, &new) &&
                         dladdr((void *)program_delete, &delete) &&
                         (new.dli_fbase != own.dli_fbase || delete.dli_fbase != own.dli_fbase);
    bool first = true;
    dl_iterate_phdr(add_module, &first);
    pthread_atfork(before_fork, after_fork, in_child);
    guard_reports_begin();
    ready = true;
}

__attribute__((destructor)) static void end(void)
{
    if (!ready)
        return;
    busy = true;
    check_live();
    guard_report_counts();
    busy = false;
}
