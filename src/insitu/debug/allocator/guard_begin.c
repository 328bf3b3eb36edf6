/* Beginning and end: settings from the environment, address space, forks, and the last check at exit. */
#define _GNU_SOURCE
#include "guard_heap.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SMALLEST_REGION (1ull << 28)
#define MOST_STACK (64u << 10)

struct settings guard_settings = {.sample = 1, .memory = 1ull << 32, .quarantine = 16384, .max = ~0ull, .stack = 2048};
bool ready, replaced_operators;
uint64_t reserved;
void *(*program_new)(size_t);
void (*program_delete)(void *);
struct range sites[MOST_SITES], modules[MOST_MODULES];
size_t site_count, module_count;

static pid_t own_pid;
static bool ended, forked;

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
    struct rlimit limit;
    uint64_t largest = LARGEST_REGION;
    if (!getrlimit(RLIMIT_AS, &limit) && limit.rlim_cur != RLIM_INFINITY) /* most is the program's own */
        largest = limit.rlim_cur / 4;
    for (uint64_t size = LARGEST_REGION; size >= SMALLEST_REGION; size /= 2) {
        if (size > largest)
            continue;
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
            reserved = sizes[0] + sizes[1] + sizes[2] + sizes[3];
            return true;
        }
        while (done--)
            munmap(at[done], sizes[done]);
    }
    return false;
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

/* Handlers of others may allocate while the lock is held, and a signal may have interrupted who holds it; its handler
 * may fork again. */
static THREAD_LOCAL uint64_t taken_by_forks; /* what guard_take() returned, the innermost fork's last */

static void before_fork(void)
{
    bool taken = guard_take(&lock);
    taken_by_forks = taken_by_forks << 1 | taken;
}

static void after_fork(void)
{
    bool taken = taken_by_forks & 1;
    taken_by_forks >>= 1;
    guard_release(&lock, taken);
}

static void in_child(void)
{
    uint32_t *const locks[] = {&lock, &guard_reports_lock};
    guard_locks_forked(locks, 2);
    after_fork();
    guard_reports_forked();
    own_pid = getpid();
    ended = false;
    forked = true;
    if (own_tid)
        own_tid = (uint32_t)syscall(SYS_gettid); /* its stack stays that of the thread that forked */
    uint64_t guard_pages = guard_counts.guard_pages, live = guard_counts.live, bytes = guard_counts.bytes;
    guard_counts = (struct counts){.guard_pages = guard_pages, .live = live, .bytes = bytes};
}

/* Once in a process, and not in one that shares this memory (vfork) or that forked unseen. */
static void ending(bool check)
{
    if (!ready || getpid() != own_pid || __atomic_exchange_n(&ended, true, __ATOMIC_ACQ_REL))
        return;
    bool before = busy;
    busy = true;
    if (check)
        guard_check_live(NULL);
    guard_report_counts();
    busy = before;
}

__attribute__((destructor)) static void end(void)
{
    ending(true);
}

/* Without the handlers of exit(). In a process that forked, what its parent damaged is the parent's to tell. */
static _Noreturn void leave(int status)
{
    ending(!forked);
    for (;;)
        syscall(SYS_exit_group, status);
}

EXPORT _Noreturn void _exit(int status)
{
    leave(status);
}

EXPORT _Noreturn void _Exit(int status)
{
    leave(status);
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
    guard_counts.guard_pages = !guard_settings.mprotect && guard_pages_work();
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
    at_quick_exit(end);
    own_pid = getpid();
    guard_reports_begin();
    guard_signals_begin();
    ready = true;
}
