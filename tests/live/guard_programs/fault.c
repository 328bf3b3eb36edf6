/* One faulty use of one block: fault KIND HOW SIZE ALIGN OFFSET WIDTH THREAD
 *
 * KIND: read, write: an access to WIDTH bytes at OFFSET of the living block, which is then freed, or kept (write-kept); read-freed,
 * write-freed: after it was freed; double: freed twice; invalid: OFFSET bytes into the block are freed; stack,
 * static: what is not on the heap is freed. HOW allocates: malloc, calloc, realloc, memalign, new, new[].
 */
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUT_OF_LINE __attribute__((noinline, noclone))

static const char *kind, *how;
static size_t size, align, width;
static long offset;
static volatile char *block;
static volatile uint64_t sink;

static OUT_OF_LINE void *allocate_here(void)
{
    void *made = NULL;
    if (!strcmp(how, "malloc"))
        made = malloc(size);
    else if (!strcmp(how, "calloc"))
        made = calloc(1, size);
    else if (!strcmp(how, "realloc"))
        made = realloc(malloc(size / 2), size);
    else if (!strcmp(how, "memalign") && posix_memalign(&made, align, size))
        made = NULL;
    __asm__ volatile("" ::: "memory"); /* not a tail call */
    return made;
}

static OUT_OF_LINE void free_here(volatile char *what)
{
    free((void *)what);
    __asm__ volatile("" ::: "memory");
}

static OUT_OF_LINE void access_here(int writes)
{
    volatile char *at = block + offset;
    switch (width) {
    case 1:
        if (writes) *at = 0x5a; else sink = (uint64_t)*at;
        break;
    case 4:
        if (writes) *(volatile uint32_t *)at = 0x5a5a5a5a; else sink = *(volatile uint32_t *)at;
        break;
    case 8:
        if (writes) *(volatile uint64_t *)at = 0x5a5a5a5a5a5a5a5a; else sink = *(volatile uint64_t *)at;
        break;
    }
    __asm__ volatile("" ::: "memory");
}

static void *fault(void *unused)
{
    static char area[64];
    char local[64];
    (void)unused;
    if (!strcmp(kind, "read") || !strcmp(kind, "write")) {
        access_here(kind[0] == 'w');
        free_here(block);
    } else if (!strcmp(kind, "read-freed") || !strcmp(kind, "write-freed")) {
        free_here(block);
        access_here(kind[0] == 'w');
    } else if (!strcmp(kind, "write-kept")) {
        access_here(1);
    } else if (!strcmp(kind, "double")) {
        free_here(block);
        free_here(block);
    } else if (!strcmp(kind, "invalid")) {
        free_here(block + offset);
    } else if (!strcmp(kind, "stack")) {
        free_here(local + 16);
    } else if (!strcmp(kind, "static")) {
        free_here(area);
    }
    return NULL;
}

int main(int count, char **words)
{
    if (count != 8)
        return 2;
    kind = words[1];
    how = words[2];
    size = strtoull(words[3], NULL, 0);
    align = strtoull(words[4], NULL, 0);
    offset = strtol(words[5], NULL, 0);
    width = strtoull(words[6], NULL, 0);
    block = allocate_here();
    if (!block)
        return 3;
    if (atoi(words[7])) {
        pthread_t thread;
        pthread_create(&thread, NULL, fault, NULL);
        pthread_join(thread, NULL);
    } else {
        fault(NULL);
    }
    return 0;
}
