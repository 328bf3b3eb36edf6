// What is loaded by unusual.c: a library with handlers of fork() that allocate, and a plugin.
#include <cstdlib>
#include <new>
#include <pthread.h>
extern "C" {
static void allocates() { free(malloc(100)); }
#ifdef ATFORK
__attribute__((constructor)) static void begin() { pthread_atfork(allocates, allocates, allocates); }
#else
void take(void *block) { free(block); allocates(); }
int try_it() { try { volatile char *p = new char[1ul << 60]; return p != nullptr; } catch (std::bad_alloc &) { return 7; } }
#endif
}
