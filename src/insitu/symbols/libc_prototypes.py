"""Prototypes of well-known functions of the C library, where no debug information has them.

From the functions' manual pages: parameters, then what is returned. s is a string, p a pointer, i an int, l a long or
ssize_t, u a size_t or unsigned long, x an unsigned int, c a character in an int, v nothing; o is where the
function puts text, O if that is as long as its result says, % are the arguments of a format that is the parameter
before, ~ other variable arguments, of which nothing is shown but that there may be some.
"""

from __future__ import annotations

from typing import Final

from insitu.symbols.prototypes import Prototype, prototype
from insitu.symbols.value_shape import FORMATTED, VARIABLE, VOID, Shape

__all__ = ["libc_prototype"]

_SHAPES: Final = {
    "s": Shape("s", 8),
    "p": Shape("p", 8),
    "i": Shape("i4", 4),
    "l": Shape("i8", 8),
    "u": Shape("u8", 8),
    "x": Shape("u4", 4),
    "c": Shape("c", 4),
    "v": VOID,
    "~": VARIABLE,
    "%": FORMATTED,
    "o": Shape("o", 8),
    "O": Shape("O", 8),
}

_TABLE: Final = """
abort:v abs:i>i access:si>i atoi:s>i atol:s>l atoll:s>l accept:ipp>i bind:ipx>i brk:p>i
calloc:uu>p chdir:s>i chmod:sx>i chown:sxx>i clock_gettime:ip>i close:i>i closedir:p>i connect:ipx>i
creat:sx>i dlclose:p>i dlopen:si>p dlsym:ps>p dup:i>i dup2:ii>i epoll_create1:i>i epoll_ctl:iiip>i
epoll_wait:ipii>i execl:s~>i execv:sp>i execve:spp>i execvp:sp>i exit:i>v _exit:i>v fclose:p>i fcntl:ii~>i
fdopen:is>p feof:p>i ferror:p>i fflush:p>i fgetc:p>i fgets:oip>s fileno:p>i fopen:ss>p fopen64:ss>p fork:>i
fprintf:ps%>i __fprintf_chk:pis%>i fputc:cp>i fputs:sp>i fread:puup>u free:p>v freopen:ssp>p fseek:pli>i
fstat:ip>i fsync:i>i ftell:p>l ftruncate:il>i fwrite:puup>u getc:p>i getchar:>i getcwd:ou>s getegid:>x getenv:s>s
geteuid:>x getgid:>x getline:ppp>l getopt:ips>i getopt_long:ipspp>i getpid:>i getppid:>i getpwnam:s>p getpwuid:x>p
gettimeofday:pp>i getuid:>x gmtime:p>p inet_addr:s>x inet_ntoa:x>s ioctl:iu~>i isatty:i>i kill:ii>i
listen:ii>i localtime:p>p lseek:ili>l lstat:sp>i malloc:u>p memchr:pcu>p memcmp:ppu>i memcpy:ppu>p
__memcpy_chk:ppuu>p memmove:ppu>p memset:piu>p mkdir:sx>i mkstemp:s>i mktime:p>l mmap:puiiil>p mprotect:pui>i
munmap:pu>i nanosleep:pp>i open:si~>i open64:si~>i openat:isi~>i opendir:s>p pclose:p>i perror:s>v pipe:p>i
poll:pui>i popen:ss>p printf:s%>i __printf_chk:is%>i pthread_cond_signal:p>i pthread_cond_wait:pp>i
pthread_create:pppp>i pthread_join:pp>i pthread_mutex_lock:p>i pthread_mutex_unlock:p>i putc:cp>i putchar:c>i
puts:s>i qsort:puup>v raise:i>i rand:>i read:iOu>l readdir:p>p readlink:sOu>l realloc:pu>p realpath:so>s
recv:iOui>l remove:s>i rename:ss>i rewind:p>v rmdir:s>i select:ipppp>i send:ipui>l sendto:ipuipx>l setenv:ssi>i
setlocale:is>s setsockopt:iiipx>i setvbuf:ppiu>i shutdown:ii>i sigaction:ipp>i signal:ip>p sleep:x>x
snprintf:ous%>i __snprintf_chk:ouius%>i socket:iii>i sprintf:os%>i __sprintf_chk:oius%>i srand:x>v sscanf:ss~>i
stat:sp>i strcasecmp:ss>i strcat:ss>s strchr:sc>s strcmp:ss>i strcpy:ps>s strcspn:ss>u strdup:s>s strerror:i>s
strftime:ousp>u strlen:s>u strncasecmp:ssu>i strncmp:ssu>i strncpy:psu>s strndup:su>s strpbrk:ss>s strrchr:sc>s
strsep:ps>s strspn:ss>u strstr:ss>s strtok:ss>s strtol:spi>l strtoul:spi>u strtoull:spi>u system:s>i time:p>l
tolower:c>i toupper:c>i ungetc:cp>i unlink:s>i unsetenv:s>i usleep:x>i vfprintf:psp>i vsnprintf:ousp>i
wait:p>i waitpid:ipi>i write:ipu>l
"""


def _parsed() -> dict[str, Prototype]:
    found = {}
    for entry in _TABLE.split():
        name, _, rest = entry.partition(":")
        parameters, _, result = rest.rpartition(">")
        found[name] = prototype([_SHAPES[each] for each in parameters], _SHAPES[result])
    return found


_PROTOTYPES: Final = _parsed()


def libc_prototype(name: str) -> Prototype | None:
    """Returns the prototype of a function of that name; None for one that is not well known."""
    return _PROTOTYPES.get(name)
