// Mappings of which it is known by construction what is behind each. Prints their names and addresses, then waits.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096 };

static char *map(const char *name, long pages, int protection, int flags, int file)
{
    // Between two inaccessible pages, so that the kernel joins it with no other.
    char *all = mmap(0, (pages + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *made = mmap(all + PAGE, pages * PAGE, protection, flags | MAP_FIXED, file, 0);
    if (made == MAP_FAILED) {
        perror(name);
        exit(1);
    }
    printf("%s %lx\n", name, (long)made);
    return made;
}

static void *sleeps(void *argument)
{
    char here;
    printf("thread %lx\n", (long)&here);
    fflush(stdout);
    pause();
    return argument;
}

int main(int count, char **arguments)
{
    int both = PROT_READ | PROT_WRITE, own = MAP_PRIVATE | MAP_ANONYMOUS;
    char *written = map("written", 100, both, own, -1);
    for (int page = 0; page < 100; page += 2) // 50 of them
        written[page * PAGE] = 1;
    char *read = map("read", 40, both, own, -1);
    long sum = 0;
    for (int page = 0; page < 30; page++) // the page of zeros
        sum += read[page * PAGE];
    map("untouched", 64, both, own, -1);
    char *inherited = map("inherited", 20, both, own, -1);
    memset(inherited, 1, 20 * PAGE);
    char *shared = map("shared", 16, both, MAP_SHARED | MAP_ANONYMOUS, -1);
    memset(shared, 1, 8 * PAGE);
    char *locked = map("locked", 4, both, own, -1);
    mlock(locked, 4 * PAGE);
    int file = open(arguments[1], O_RDWR | O_CREAT, 0600);
    if (ftruncate(file, 32 * PAGE) || count != 2)
        return 1;
    char *mapped = map("file", 32, both, MAP_PRIVATE, file);
    madvise(mapped, 32 * PAGE, MADV_RANDOM); // no neighbours are mapped with a page
    for (int page = 0; page < 6; page++)
        mapped[page * PAGE] = 1; // copies of the process's own
    for (int page = 16; page < 32; page++)
        sum += mapped[page * PAGE];
    if (fork() == 0) { // has the same pages, but for five of its own; of shared memory it has what it touches
        memset(inherited, 2, 5 * PAGE);
        memset(shared, 2, 3 * PAGE);
        printf("child %x\n", getpid());
        fflush(stdout);
        pause();
        return 0;
    }
    pthread_t thread;
    pthread_create(&thread, 0, sleeps, 0);
    return (int)(sum + pause());
}
