"""Hand-packed perf records, after include/uapi/linux/perf_event.h, for tests that know what is in them."""

import struct

IP, TID, TIME, CALLCHAIN, ID, CPU, PERIOD, RAW, REGS_USER, STACK_USER, IDENTIFIER = (
    1 << bit for bit in (0, 1, 2, 5, 6, 7, 8, 10, 12, 13, 16)
)
CONTEXT_KERNEL = 2**64 - 128
CONTEXT_USER = 2**64 - 512
SAMPLE_ID_ALL = 1 << 18


def attr(sample_type: int, *, kind: int = 1, config: int = 0, flags: int = SAMPLE_ID_ALL, regs: int = 0) -> bytes:
    """A struct perf_event_attr of PERF_ATTR_SIZE_VER7 (128 bytes)."""
    head = struct.pack("<IIQQQQQIIQQQQII", kind, 128, config, 1, sample_type, 0, flags, 0, 0, 0, 0, 0, regs, 0, 0)
    return head.ljust(128, b"\0")


def record(kind: int, body: bytes, misc: int = 0) -> bytes:
    body = body.ljust(-(-len(body) // 8) * 8, b"\0")
    return struct.pack("<IHH", kind, misc, 8 + len(body)) + body


def trailer(pid: int, tid: int, ts_ns: int) -> bytes:
    """struct sample_id for TID | TIME | CPU."""
    return struct.pack("<iiQII", pid, tid, ts_ns, 0, 0)


def _padded(text: str) -> bytes:
    raw = text.encode() + b"\0"
    return raw.ljust(-(-len(raw) // 8) * 8, b"\0")


def comm(pid: int, tid: int, name: str, ts_ns: int, *, execed: bool = False) -> bytes:
    body = struct.pack("<ii", pid, tid) + _padded(name) + trailer(pid, tid, ts_ns)
    return record(3, body, 1 << 13 if execed else 0)


def fork(pid: int, ppid: int, tid: int, ptid: int, ts_ns: int) -> bytes:
    return record(7, struct.pack("<iiiiQ", pid, ppid, tid, ptid, ts_ns) + trailer(ppid, ptid, ts_ns))


def exited(pid: int, tid: int, ts_ns: int) -> bytes:
    return record(4, struct.pack("<iiiiQ", pid, 1, tid, 1, ts_ns) + trailer(pid, tid, ts_ns))


def lost(count: int, ts_ns: int) -> bytes:
    return record(2, struct.pack("<QQ", 0, count) + trailer(0, 0, ts_ns))


def mmap2(pid: int, start: int, size: int, offset: int, path: str, ts_ns: int, build_id: bytes = b"") -> bytes:
    head = struct.pack("<iiQQQ", pid, pid, start, size, offset)
    if build_id:
        place = struct.pack("<BBH", len(build_id), 0, 0) + build_id.ljust(20, b"\0")
    else:
        place = struct.pack("<IIQQ", 8, 1, 42, 0)
    body = head + place + struct.pack("<II", 5, 2) + _padded(path) + trailer(pid, pid, ts_ns)
    return record(10, body, 2 | (1 << 14 if build_id else 0))


def sample(ip: int, pid: int, tid: int, ts_ns: int, chain: list[int], *, cpu: int = 0, period: int = 1) -> bytes:
    """A sample of IP | TID | TIME | CPU | PERIOD | CALLCHAIN."""
    body = struct.pack("<QiiQIIQQ", ip, pid, tid, ts_ns, cpu, 0, period, len(chain))
    return record(9, body + struct.pack(f"<{len(chain)}Q", *chain), 2)


SAMPLE_TYPE = IP | TID | TIME | CPU | PERIOD | CALLCHAIN


def perf_data(records: bytes, attrs: list[tuple[bytes, list[int]]] | None = None) -> bytes:
    """A perf.data file without feature sections: each attr with its ids, then the records."""
    attrs = attrs or [(attr(SAMPLE_TYPE), [])]
    head, entry = 104, 128 + 16  # struct perf_file_header; struct perf_file_attr
    ids_at = head + entry * len(attrs)
    entries = ids = b""
    for raw, numbers in attrs:
        entries += raw + struct.pack("<QQ", ids_at + len(ids), 8 * len(numbers))
        ids += struct.pack(f"<{len(numbers)}Q", *numbers)
    data_at = ids_at + len(ids)
    header = struct.pack(
        "<8sQQQQQQQQ", b"PERFILE2", head, entry, head, entry * len(attrs), data_at, len(records), 0, 0
    )
    return header.ljust(head, b"\0") + entries + ids + records
