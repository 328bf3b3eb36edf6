/* The file in which the preloaded library of `insitu leaks --track` keeps the blocks of a program that are in use.
 *
 * insitu makes it, of the size that it is to have, and reads it when the program has ended or is stopped
 * (insitu/inspect/heap/preloaded.py: change both). It begins with struct table; then come the lists' first blocks, the
 * blocks and the copies of stacks. A block belongs to one of STRIPES parts, by its address; each part has its own lock.
 */
#pragma once

#include "call_origin.h"

#include <pthread.h>

#define STRIPES 64u
#define MAGIC 0x31736b636f6c42u /* "Blocks1" */

struct stripe {
    pthread_mutex_t lock;
    uint32_t used; /* blocks of this part that have been handed out */
    uint32_t free; /* the first of those that can be used again; 0: none */
    uint64_t full; /* allocations that are not recorded, as all blocks of this part were in use */
};

struct table {
    uint64_t magic;       /* written last: the file is in use */
    uint64_t blocks;      /* in all; a multiple of STRIPES */
    uint64_t stack_bytes; /* of each copy */
    uint64_t frozen;      /* written by insitu: record nothing any more */
    struct stripe stripes[STRIPES];
};

struct block {
    uint64_t address; /* 0: not in use; written last */
    uint64_t size;    /* that was asked for */
    struct origin origin;
    uint32_t next; /* in its list, or of those that can be used again; 0: none */
    uint32_t unused;
};
