"""Prints the entries of a trace.dat as KernelShark's library has them: time, CPU, thread, event, fields; by tabs.

A program of its own: the library ends the process that it fails in. kernelshark_entries.py FILE
"""

import ctypes
import sys

LIBRARY = "libkshark.so.2"


class Entry(ctypes.Structure):
    """struct kshark_entry (libkshark.h of KernelShark 2.2)."""

    _fields_ = (
        ("next", ctypes.c_void_p),
        ("visible", ctypes.c_uint16),
        ("stream_id", ctypes.c_int16),
        ("event_id", ctypes.c_int16),
        ("cpu", ctypes.c_int16),
        ("pid", ctypes.c_int32),
        ("offset", ctypes.c_int64),
        ("ts", ctypes.c_int64),
    )


def main(path: str) -> int:
    library = ctypes.CDLL(LIBRARY)
    library.kshark_load_entries.restype = ctypes.c_ssize_t
    library.kshark_get_event_name.restype = library.kshark_get_info.restype = ctypes.c_char_p
    context = ctypes.c_void_p()
    if not library.kshark_instance(ctypes.byref(context)):
        return 1
    stream = library.kshark_open(context, path.encode())
    if stream < 0:
        print(f"kshark_open: {stream}", file=sys.stderr)
        return 1
    rows = ctypes.POINTER(ctypes.POINTER(Entry))()
    count = library.kshark_load_entries(context, stream, ctypes.byref(rows))
    for at in range(max(count, 0)):
        entry = rows[at].contents
        texts = (read(rows[at]).decode() for read in (library.kshark_get_event_name, library.kshark_get_info))
        print(entry.ts, entry.cpu, entry.pid, *texts, sep="\t")
    return 0 if count >= 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
