// Addresses of which it is known what they belong to: prints a line for each, then waits.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096 };
int written = 7;
static char zeros[100000];

// Each call's frame ends where the caller's begins: its canonical frame address (DWARF).
__attribute__((noinline)) int deep(const char *who, int level)
{
    volatile int sum = level;
    printf("%s%d %lx\n", who, level, (long)__builtin_dwarf_cfa());
    if (level < 4)
        sum += deep(who, level + 1);
    else
        pause();
    return sum;
}

static void *thread(void *argument)
{
    return argument + deep("thread", 0);
}

int main(void)
{
    setvbuf(stdout, 0, _IOLBF, 0);
    printf("code %lx\nwritten %lx\nzeros %lx\n", (long)deep, (long)&written, (long)(zeros + 5000));
    printf("heap %lx\n", (long)malloc(100));
    char *closed = mmap(0, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("closed %lx\n", (long)closed);
    char *gone = mmap(0, 3 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("gone %lx\n", (long)gone);
    char *pages = mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pages[0] = pages[PAGE] = 1;
    volatile char read = pages[3 * PAGE];
    if (madvise(pages + 5 * PAGE, PAGE, 102) != 0) // MADV_GUARD_INSTALL, Linux 6.13
        puts("unguarded 0");
    printf("pages %lx\n", (long)pages + read);
    pthread_t other;
    pthread_create(&other, 0, thread, 0);
    sleep(1);
    munmap(gone, 3 * PAGE); // nothing is mapped after this, which would be put there
    return deep("main", 0);
}
