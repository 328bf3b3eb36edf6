// new(nothrow): with an operator of the program's own that throws, and with a new handler.
#include <cstdio>
#include <cstdlib>
#include <new>
#ifdef OWN
void *operator new(std::size_t size) { if (size > 1000000) throw std::bad_alloc(); return std::malloc(size); }
void operator delete(void *block) noexcept { std::free(block); }
void operator delete(void *block, std::size_t) noexcept { std::free(block); }
#endif
static int called;
int main()
{
    std::set_new_handler([] { if (++called == 3) std::set_new_handler(nullptr); });
    void *block = new (std::nothrow) char[
#ifdef OWN
        10000000
#else
        1ul << 60
#endif
    ];
    std::printf("%d %d\n", block == nullptr, called);
}
