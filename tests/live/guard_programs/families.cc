// families ALLOCATED FREED: a block from one family of functions, freed by another (malloc, new, array, and aligned).
#include <cstdlib>
#include <cstring>
#include <new>

#define OUT_OF_LINE __attribute__((noinline, noclone))

static OUT_OF_LINE void *allocate_here(const char *how)
{
    void *made = nullptr;
    if (!strcmp(how, "malloc"))
        made = malloc(24);
    else if (!strcmp(how, "new"))
        made = ::operator new(24);
    else if (!strcmp(how, "array"))
        made = ::operator new[](24, std::nothrow);
    else if (!strcmp(how, "aligned"))
        made = ::operator new(24, std::align_val_t(64));
    __asm__ volatile("" ::: "memory");
    return made;
}

static OUT_OF_LINE void free_here(const char *how, void *block)
{
    if (!strcmp(how, "malloc"))
        free(block);
    else if (!strcmp(how, "new"))
        ::operator delete(block, std::size_t(24));
    else if (!strcmp(how, "array"))
        ::operator delete[](block);
    else if (!strcmp(how, "aligned"))
        ::operator delete(block, std::align_val_t(64));
    __asm__ volatile("" ::: "memory");
}

int main(int, char **words)
{
    free_here(words[2], allocate_here(words[1]));
}
