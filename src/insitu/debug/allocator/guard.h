/* A preloaded allocator that places blocks against inaccessible pages, for `insitu guard`: what its reports hold, and
 * what the code that writes them (guard_reports.c) shares with the allocator (the other files).
 *
 * The structures that reports hold are read by insitu/debug/guard_records.py: change both.
 */
#pragma once

#include "call_origin.h"

#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <ucontext.h>

enum family { FAMILY_MALLOC = 1, FAMILY_NEW = 2, FAMILY_NEW_ARRAY = 3 };
enum state { STATE_UNUSED = 0, STATE_LIVE = 1, STATE_FREED = 2 };

enum fault_kind {
    FAULT_ACCESS = 1,       /* a signal: an access to a page of the region */
    FAULT_ELSEWHERE = 2,    /* a signal: the address is in no block's pages */
    FAULT_DOUBLE_FREE = 3,
    FAULT_INVALID_FREE = 4,
    FAULT_MISMATCH = 5,
    FAULT_DAMAGE = 6,       /* bytes around the block were overwritten, which was found later */
};

/* A block and the pages it lies in: [base, base + pages), after which follows an inaccessible one. */
struct slot {
    uint64_t base, pages;
    uint64_t user, size;
    uint32_t family, state;
    uint32_t next; /* in the list of freed blocks, or of those that may be used again; 0: none */
    uint32_t align;
    struct origin origin[2]; /* of the allocation and of the free */
};

struct settings {
    uint64_t sample;     /* guard one block of so many; 1: every one */
    uint64_t slots;      /* most guarded blocks at a time; 0: no limit */
    uint64_t memory;     /* most bytes of memory that guarded blocks take */
    uint64_t quarantine; /* most freed blocks that stay inaccessible */
    uint64_t min, max;   /* only blocks of such sizes */
    uint64_t stack;      /* bytes of stack that are copied of each allocation and free */
    uint64_t before;     /* the block begins where an inaccessible page ends */
    uint64_t exact;      /* alignment 1, so that the block ends exactly where an inaccessible page begins */
    uint64_t mprotect;   /* do not use the kernel's guard pages */
};

/* What a process did, written when it exits. */
struct counts {
    uint64_t blocks, guarded, freed;
    uint64_t live, live_most;
    uint64_t bytes, bytes_most; /* of memory, of living guarded blocks */
    uint64_t no_memory;   /* blocks not guarded as settings.memory or settings.slots was reached */
    uint64_t no_mappings; /* blocks not guarded as the kernel refused: vm.max_map_count, or memory */
    uint64_t guard_pages; /* whether the kernel's guard pages are used (Linux 6.13) */
};

extern struct settings guard_settings;
extern struct counts guard_counts;

/* guard_slots.c */
extern _Thread_local __attribute__((tls_model("initial-exec"))) bool guard_checking; /* faults go to guard_check */
extern sigjmp_buf guard_check;
struct slot *guard_slot_at(uint64_t address);      /* the slot whose pages, or the page after them, hold it; or NULL */
struct slot *guard_neighbour(struct slot *, int);  /* the one before (-1) or after (1) by address; or NULL */
const void *guard_stack_of(const struct slot *, int which);
uint64_t guard_damaged_byte(const struct slot *);  /* the first byte beside the block that was changed; 0: none */

/* Reports the living blocks, but for one or NULL, beside which bytes were changed. */
void guard_check_live(const struct slot *but);

/* guard_lock.c: 0 is free. What guard_take() returned, false if this thread holds it already, goes to guard_release(). */
bool guard_take(uint32_t *lock);
void guard_release(uint32_t *lock, bool taken);
void guard_locks_forked(uint32_t *const *locks, size_t count);

/* guard_reports.c */
extern uint32_t guard_reports_lock;
void guard_reports_begin(void);
void guard_reports_forked(void);
void guard_report(enum fault_kind, struct slot *, uint64_t address, uint32_t family);
void guard_report_counts(void);
void guard_report_signal(int number, const siginfo_t *, const ucontext_t *, struct slot *);

/* guard_signals.c */
void guard_signals_begin(void);
void guard_mask(int how, const sigset_t *new, sigset_t *old);
