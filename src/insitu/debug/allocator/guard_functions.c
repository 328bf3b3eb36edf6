/* The functions that programs call: those of C's and C++'s allocation. */
#define _GNU_SOURCE
#include "guard_heap.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

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
    if (size > SIZE_MAX - guard_page) {
        errno = ENOMEM;
        return NULL;
    }
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

/* Limits: what is reserved is not the program's. */

static bool is_of_memory(int resource)
{
    return reserved && (resource == RLIMIT_AS || resource == RLIMIT_DATA);
}

static void moved(struct rlimit *limit, bool up)
{
    rlim_t *each[2] = {&limit->rlim_cur, &limit->rlim_max};
    for (int at = 0; at < 2; at++) {
        if (*each[at] == RLIM_INFINITY)
            continue;
        if (up)
            *each[at] = *each[at] < RLIM_INFINITY - reserved ? *each[at] + reserved : RLIM_INFINITY;
        else
            *each[at] = *each[at] > reserved ? *each[at] - reserved : 0;
    }
}

static int limited(pid_t pid, int resource, const struct rlimit *new, struct rlimit *old)
{
    struct rlimit wanted;
    bool own = (!pid || pid == getpid()) && is_of_memory(resource);
    if (own && new) {
        wanted = *new;
        moved(&wanted, true);
        new = &wanted;
    }
    int result = (int)syscall(SYS_prlimit64, pid, resource, new, old);
    if (own && old && !result)
        moved(old, false);
    return result;
}

EXPORT int setrlimit(__rlimit_resource_t resource, const struct rlimit *new)
{
    return limited(0, (int)resource, new, NULL);
}

EXPORT int getrlimit(__rlimit_resource_t resource, struct rlimit *old)
{
    return limited(0, (int)resource, NULL, old);
}

EXPORT int prlimit(pid_t pid, enum __rlimit_resource resource, const struct rlimit *new, struct rlimit *old)
{
    return limited(pid, (int)resource, new, old);
}

EXPORT int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *new)
{
    return limited(0, (int)resource, (const struct rlimit *)new, NULL);
}

EXPORT int getrlimit64(__rlimit_resource_t resource, struct rlimit64 *old)
{
    return limited(0, (int)resource, NULL, (struct rlimit *)old);
}

EXPORT int prlimit64(pid_t pid, enum __rlimit_resource resource, const struct rlimit64 *new, struct rlimit64 *old)
{
    return limited(pid, (int)resource, (const struct rlimit *)new, (struct rlimit *)old);
}

/* A plugin that sees its own C library first would free our blocks with glibc's free(). A jump, so that the loader
 * still sees who asks, and looks in that library's paths. */
EXPORT __attribute__((optimize("O2"))) void *dlopen(const char *path, int mode)
{
    static void *(*next)(const char *, int);
    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "dlopen");
    return next(path, mode & ~RTLD_DEEPBIND);
}

/* C++. A program that replaces some of these operators has its own: the others come to it, as the standard says. */

typedef const void *nothrow;

/* libstdc++'s own, of which a program in C may have loaded it for a plugin alone. */
static void *of_library(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    void *library = found ? NULL : dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD);
    return library ? dlsym(library, name) : found;
}

/* What the library does when there is no memory: it calls the new handler, and throws. */
static void *exhausted(size_t size)
{
    void *(*next)(size_t);
    *(void **)&next = of_library("_Znwm");
    if (!next)
        abort();
    return next(size);
}

/* The same where nothing may be thrown; operators of the program's own that throw are called so, too. */
static void *exhausted_or_null(size_t size)
{
    void *(*next)(size_t, const void *);
    *(void **)&next = of_library("_ZnwmRKSt9nothrow_t");
    return next ? next(size, NULL) : NULL;
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
    return block ? block : exhausted(size);
}

static void *made_or_null(size_t size, size_t align, uint32_t family, uint64_t caller)
{
    if (replaced_operators && !align)
        return exhausted_or_null(size);
    void *block = made(size, align, family, caller);
    return block || align ? block : exhausted_or_null(size);
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
