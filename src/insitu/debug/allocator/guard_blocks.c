/* Blocks: which are guarded, where they lie in their pages, and what is checked when they are freed.
 *
 * A block lies at the end of its slot's pages, or with settings.before at their beginning. What its pages hold beside
 * it is filled, and checked when it is freed. Blocks that are not guarded are glibc's.
 */
#define _GNU_SOURCE
#include "guard_heap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static THREAD_LOCAL uint64_t until_sample, random_state;

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

/* Beside a block of a large alignment are many pages, of which only the nearest bytes are filled. */
uint64_t guard_fill_start(const struct slot *slot)
{
    return slot->user - slot->base > guard_page ? slot->user - guard_page : slot->base;
}

uint64_t guard_fill_end(const struct slot *slot)
{
    uint64_t end = slot->base + slot->pages * guard_page, last = slot->user + slot->size;
    return end - last > guard_page ? last + guard_page : end;
}

/* A guarded block, or NULL: this one is to be glibc's, or errno is ENOMEM where glibc cannot have it either. */
void *guarded(size_t size, size_t align, uint32_t family, uint64_t caller)
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
    bool taken = guard_take(&lock);
    uint32_t at = take_slot(pages);
    guard_release(&lock, taken);
    struct slot *slot = &slots[at];
    if (at && !open_pages(slot->base, slot->pages)) {
        taken = guard_take(&lock);
        give_back(at);
        guard_release(&lock, taken);
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
    memset((void *)guard_fill_start(slot), FILL, slot->user - guard_fill_start(slot));
    memset((void *)(slot->user + size), FILL, guard_fill_end(slot) - slot->user - size);
    guard_here(&slot->origin[0], stack_at(slot, 0), guard_settings.stack);
    slot->origin[1].stack_bytes = 0;
    __atomic_store_n(&slot->state, STATE_LIVE, __ATOMIC_RELEASE);
    __atomic_fetch_add(&guard_counts.guarded, 1, __ATOMIC_RELAXED);
    busy = false;
    return (void *)slot->user;
}

size_t plain_alignment(void)
{
    return guard_settings.exact ? 1 : DEFAULT_ALIGN;
}

/* Freeing */

bool is_in_program(uint64_t address)
{
    uint64_t here = (uint64_t)__builtin_frame_address(0);
    if (here >= stack_start && here < stack_end && address >= here && address < stack_end)
        return true; /* the stack */
    for (size_t at = 0; at < module_count; at++)
        if (address - modules[at].start < modules[at].end - modules[at].start)
            return true;
    return false;
}

_Noreturn void fatal(enum fault_kind kind, struct slot *slot, uint64_t address, uint32_t family)
{
    busy = true;
    guard_report(kind, slot, address, family);
    guard_check_live(NULL);
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

void release(void *block, uint32_t family)
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
    bool taken = guard_take(&lock);
    guard_counts.freed++;
    guard_counts.live--;
    guard_counts.bytes -= cost(slot->pages);
    if (closed) /* else it is never used again */
        enter_quarantine((uint32_t)(slot - slots));
    guard_release(&lock, taken);
    busy = false;
    errno = error;
}
