// Sound uses of the heap, checked by the program itself: it prints "sound" and exits with 0, or says what was wrong.
#include <malloc.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>
#include <string>
#include <thread>
#include <vector>

static void require(bool true_, const char *what)
{
    if (!true_) {
        printf("wrong: %s\n", what);
        _exit(1);
    }
}

static void touch(char *block, size_t size)
{
    for (size_t at = 0; at < size; at++)
        block[at] = static_cast<char>(at);
    for (size_t at = 0; at < size; at++)
        require(block[at] == static_cast<char>(at), "a byte has changed");
}

static void sizes(bool aligned)
{
    for (size_t size : {0, 1, 7, 8, 15, 16, 17, 31, 100, 4080, 4095, 4096, 4097, 65536, 1 << 20}) {
        auto *block = static_cast<char *>(malloc(size));
        require(block && (!aligned || reinterpret_cast<uintptr_t>(block) % 16 == 0), "alignment of malloc");
        require(malloc_usable_size(block) >= size, "usable size");
        touch(block, size);
        block = static_cast<char *>(realloc(block, 2 * size + 1));
        for (size_t at = 0; at < size; at++)
            require(block[at] == static_cast<char>(at), "realloc has lost a byte");
        touch(block, 2 * size + 1);
        free(block);
        auto *zeros = static_cast<char *>(calloc(size + 1, 3));
        for (size_t at = 0; at < 3 * (size + 1); at++)
            require(!zeros[at], "calloc is not zero");
        touch(zeros, 3 * (size + 1));
        free(zeros);
        for (size_t align = 8; align <= 65536; align *= 2) {
            void *at = nullptr;
            require(!posix_memalign(&at, align, size), "posix_memalign");
            require(reinterpret_cast<uintptr_t>(at) % align == 0, "alignment of posix_memalign");
            touch(static_cast<char *>(at), size);
            free(at);
            at = ::operator new(size, std::align_val_t(align));
            require(reinterpret_cast<uintptr_t>(at) % align == 0, "alignment of new");
            ::operator delete(at, std::align_val_t(align));
        }
    }
    free(valloc(10));
    free(memalign(256, 10));
    free(aligned_alloc(64, 128));
    free(reallocarray(nullptr, 10, 10));
    free(strdup("text"));
    free(nullptr);
    require(!malloc(static_cast<size_t>(-1) / 2 - 8192) && !calloc(static_cast<size_t>(1) << 40, 1 << 30), "too large");
    bool thrown = false;
    try {
        ::operator delete(::operator new(static_cast<size_t>(1) << 62));
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    require(thrown, "bad_alloc");
}

static void containers()
{
    std::map<std::string, std::vector<int>> table;
    for (int at = 0; at < 300; at++)
        table["a key that is longer than a short string " + std::to_string(at % 30)].push_back(at);
    require(table.size() == 30, "map");
    delete[] new std::string[5];
    delete new std::string("x");
}

static volatile sig_atomic_t handled;

int main(int count, char **words)
{
    bool aligned = !(count > 1 && !strcmp(words[1], "exact"));
    sizes(aligned);
    std::vector<std::thread> threads;
    for (int at = 0; at < 4; at++)
        threads.emplace_back([] {
            for (int turn = 0; turn < 50; turn++)
                containers();
        });
    containers();
    pid_t child = fork(); // while others allocate
    if (!child) {
        containers();
        _exit(7);
    }
    int status = 0;
    require(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7, "fork");
    for (auto &each : threads)
        each.join();
    // A handler of the program's own gets the faults that are not of the heap.
    signal(SIGSEGV, [](int) { handled = 1; signal(SIGSEGV, SIG_DFL); });
    raise(SIGSEGV);
    require(handled, "the program's own handler");
    if (!(child = fork())) {
        execl("/bin/sh", "sh", "-c", "exit 9", static_cast<char *>(nullptr));
        _exit(1);
    }
    require(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 9, "exec");
    require(!mlockall(MCL_CURRENT | MCL_FUTURE), "mlockall");
    containers();
    std::thread([] {
        for (;;) // also while the program exits
            free(malloc(100));
    }).detach();
    puts("sound");
}
