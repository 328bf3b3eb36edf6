/* The region's pages, and the slots that they are divided into.
 *
 * One region of address space is inaccessible but for the pages of living blocks. A slot is some pages and the one after
 * them, which is never opened. The pages of a freed slot are closed, and not used again until settings.quarantine
 * others have been freed. Where the kernel has guard pages (MADV_GUARD_INSTALL, Linux 6.13), the region is one mapping;
 * else each living block costs two of vm.max_map_count.
 */
#define _GNU_SOURCE
#include "guard_heap.h"

#include <signal.h>
#include <sys/mman.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* include/uapi/asm-generic/mman-common.h */
#define MADV_GUARD_REMOVE 103
#endif
#define GROWTH_PAGES 1024u
#define BINS 64u      /* of freed slots by pages; number 0 is for all larger */
#define MOST_TRIES 32 /* in that one */

uint32_t lock;
uint64_t region, region_end, opened, grown;
uint32_t *slot_of_page;
struct slot *slots;
uint32_t most_slots;
uint64_t most_live = ~0ull;
struct counts guard_counts;
char *stacks;
THREAD_LOCAL bool guard_checking;
sigjmp_buf guard_check;

static uint32_t slots_used;
static uint32_t bins[BINS], quarantine_first, quarantine_last;
static uint64_t quarantine_length;

/* Pages */

bool open_pages(uint64_t address, uint64_t pages)
{
    if (guard_counts.guard_pages)
        return !madvise((void *)address, pages * guard_page, MADV_GUARD_REMOVE);
    return !mprotect((void *)address, pages * guard_page, PROT_READ | PROT_WRITE);
}

/* Their content is gone then: pages that are opened again hold zeros. */
bool close_pages(uint64_t address, uint64_t pages)
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

void enter_quarantine(uint32_t at)
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

/* Memory that a living block takes: its pages, its slot and the copy of a stack. */
uint64_t cost(uint64_t pages)
{
    return pages * guard_page + sizeof *slots + guard_settings.stack;
}

uint32_t take_slot(uint64_t pages)
{
    if ((guard_settings.slots && guard_counts.live >= guard_settings.slots) ||
        pages > guard_settings.memory / guard_page ||
        guard_counts.bytes + cost(pages) > guard_settings.memory) {
        guard_counts.no_memory++;
        return 0;
    }
    uint32_t at = guard_counts.live < most_live ? used_slot(pages) : 0;
    if (!at && (guard_counts.live >= most_live || !(at = new_slot(pages)))) {
        guard_counts.no_mappings++;
        return 0;
    }
    guard_counts.bytes += cost(slots[at].pages);
    guard_counts.live++;
    if (guard_counts.bytes > guard_counts.bytes_most)
        guard_counts.bytes_most = guard_counts.bytes;
    if (guard_counts.live > guard_counts.live_most)
        guard_counts.live_most = guard_counts.live;
    return at;
}

/* A slot whose pages could not be opened. */
void give_back(uint32_t at)
{
    struct slot *slot = &slots[at];
    guard_counts.no_mappings++;
    guard_counts.live--;
    guard_counts.bytes -= cost(slot->pages);
    slot->state = STATE_UNUSED;
    slot->next = bins[bin_of(slot->pages)];
    bins[bin_of(slot->pages)] = at;
}

bool in_region(uint64_t address)
{
    return address - region < region_end - region;
}

struct slot *guard_slot_at(uint64_t address)
{
    if (!ready || !in_region(address) || !slots_used)
        return NULL;
    if (address >= opened) /* not handed out yet: beyond the last block */
        address = opened - 1;
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
    uint64_t after = changed(slot->user + slot->size, guard_fill_end(slot));
    return after ? after : changed(guard_fill_start(slot), slot->user);
}

/* Threads that still run may free a block while it is looked at: the fault leads back here, also in a handler of the
 * signal itself. Once in a process: by then it ends. */
void guard_check_live(const struct slot *but)
{
    static bool begun;
    static volatile uint32_t at;
    sigset_t faults, before;
    if (__atomic_exchange_n(&begun, true, __ATOMIC_ACQ_REL))
        return;
    sigemptyset(&faults);
    sigaddset(&faults, SIGSEGV);
    sigaddset(&faults, SIGBUS);
    guard_mask(SIG_UNBLOCK, &faults, &before);
    if (sigsetjmp(guard_check, 1))
        at++;
    guard_checking = true;
    for (; at <= slots_used; at++) {
        if (!at || &slots[at] == but)
            continue;
        uint64_t damaged = slots[at].state == STATE_LIVE ? guard_damaged_byte(&slots[at]) : 0;
        if (damaged)
            guard_report(FAULT_DAMAGE, &slots[at], damaged, 0);
    }
    guard_checking = false;
    guard_mask(SIG_SETMASK, &before, NULL);
}

bool guard_pages_work(void)
{
    void *page = mmap(NULL, guard_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool work = page != MAP_FAILED && !madvise(page, guard_page, MADV_GUARD_INSTALL);
    if (page != MAP_FAILED)
        munmap(page, guard_page);
    return work;
}

/* Copies of stacks */

char *stack_at(const struct slot *slot, int which)
{
    return stacks + ((uint64_t)which * most_slots + (uint64_t)(slot - slots)) * guard_settings.stack;
}

const void *guard_stack_of(const struct slot *slot, int which)
{
    return stack_at(slot, which);
}
