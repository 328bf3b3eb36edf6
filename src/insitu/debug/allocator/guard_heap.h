/* What the allocator's own files share. */
#pragma once

#include "guard.h"

#define FILL 0xC5 /* beside a block */
#define LARGEST_REGION (1ull << 37)
#define MOST_SITES 64
#define MOST_MODULES 256

struct range {
    uint64_t start, end;
};

/* guard_begin.c */
extern bool ready;              /* blocks can be guarded */
extern uint64_t reserved;       /* bytes of address space that the program does not know of */
extern bool replaced_operators; /* the program has C++ operators of its own: families are not compared */
extern void *(*program_new)(size_t);
extern void (*program_delete)(void *);
extern struct range sites[MOST_SITES], modules[MOST_MODULES];
extern size_t site_count, module_count;

/* guard_slots.c. What changes slots' lists, and the counts, is called with the lock held. */
extern uint32_t lock;
extern uint64_t region, region_end; /* reserved address space */
extern uint64_t opened;             /* [region, opened) has been handed out */
extern uint64_t grown;              /* [region, grown) is writable but for guard pages */
extern uint32_t *slot_of_page;
extern struct slot *slots; /* 0 is none */
extern uint32_t most_slots;
extern uint64_t most_live; /* that mappings allow */

bool open_pages(uint64_t address, uint64_t pages);
bool close_pages(uint64_t address, uint64_t pages);
uint32_t take_slot(uint64_t pages);
void give_back(uint32_t at);
void enter_quarantine(uint32_t at);
uint64_t cost(uint64_t pages);
bool in_region(uint64_t address);
bool guard_pages_work(void);

extern char *stacks; /* copies: those of allocations by slot, then those of frees */
char *stack_at(const struct slot *slot, int which);

/* guard_blocks.c */
uint64_t guard_fill_start(const struct slot *), guard_fill_end(const struct slot *);
void *guarded(size_t size, size_t align, uint32_t family, uint64_t caller);
void release(void *block, uint32_t family);
size_t plain_alignment(void);
bool is_in_program(uint64_t address);
_Noreturn void fatal(enum fault_kind kind, struct slot *slot, uint64_t address, uint32_t family);
