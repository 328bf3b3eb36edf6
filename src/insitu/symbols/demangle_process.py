"""The program of a process that demangles C++ names (see bounded_demangle): run as a script, with little imported.

Each request and each reply is a length of 4 bytes and so many bytes; the reply to what is not a name, or expands too
far, is empty.
"""

import ctypes
import resource
import signal
import struct
import sys

_MAX_MEMORY_BYTES = 256 << 20
_MAX_NAME_S = 0.5  # of CPU time, after which the default action of SIGPROF ends this process
_MAX_REPLY_BYTES = 1 << 16


def _main() -> None:
    library = ctypes.CDLL("libstdc++.so.6")
    free = ctypes.CDLL(None).free
    strlen = ctypes.CDLL(None).strlen
    free.argtypes = strlen.argtypes = [ctypes.c_void_p]
    strlen.restype = ctypes.c_size_t
    library.__cxa_demangle.restype = ctypes.c_void_p
    library.__cxa_demangle.argtypes = [ctypes.c_char_p] + [ctypes.c_void_p] * 3
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    while len(head := sys.stdin.buffer.read(4)) == 4:
        name = sys.stdin.buffer.read(*struct.unpack("<I", head))
        signal.setitimer(signal.ITIMER_PROF, _MAX_NAME_S)
        text = library.__cxa_demangle(name, None, None, None)
        signal.setitimer(signal.ITIMER_PROF, 0)
        reply = ctypes.string_at(text) if text and strlen(text) <= _MAX_REPLY_BYTES else b""
        free(text)
        sys.stdout.buffer.write(struct.pack("<I", len(reply)) + reply)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _main()
