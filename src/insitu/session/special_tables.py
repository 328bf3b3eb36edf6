"""The tables that one command or one kind of recording fills, beside those that all share (core_tables).

They are declared here, not where they are filled, so that every session has all of them in SQL.
"""

from typing import Final

from insitu.session.schema import Column, Table, register

__all__ = [
    "CACHED_FILE",
    "CACHED_RANGE",
    "DELAY",
    "EVENT_FORMAT",
    "FD",
    "FUNCTION_CALL",
    "HEAP_BLOCK",
    "LATENCY",
    "MEMCHECK_ERROR",
    "MEMCHECK_LEAK",
    "MEMORY_FAULT",
    "PAGE_RANGE",
    "PROCESS_TICK",
    "QEMU_EVENT",
    "WALL",
]

EVENT_FORMAT: Final = register(
    Table(
        "event_format",
        "How the kernel describes a trace event whose records are in a table.",
        (
            Column("table", "name", "the table, without `event.`"),
            Column("category", "name", "such as `sched`; a subsystem of tracefs"),
            Column("name", "name", "the event's"),
            Column("format", "text", "its format file (Documentation/trace/events.rst)"),
        ),
    )
)

FUNCTION_CALL: Final = register(
    Table(
        "function_call",
        "Arguments and result of a function's call, of which `span` has time, thread and name.",
        (
            Column("span_id", "span", "its row in `span`"),
            Column("arguments", "text", "values as text; strings up to 63 bytes, other memory up to 64"),
            Column("result", "text", "empty: none, or it has not been seen"),
        ),
    )
)

WALL: Final = register(
    Table(
        "wall",
        "Where the wall time of threads went: the rows of a thread add up to all of it.",
        (
            Column("utid", "utid"),
            Column(
                "state", "enum", "`user`, `kernel`, `running` (not sampled), `runnable`, `throttled` or `blocked`"
            ),
            Column("cause", "enum", "of blocked: `lock`, `join`, `file`, `socket`, `sleep`, `child` ..."),
            Column("call", "name", "the system call that it was blocked in; empty: none"),
            Column("object", "path", "file, peer, or the address of a lock; empty: unknown"),
            Column("holder", "utid", "the thread that held the lock; null: unknown", nullable=True),
            Column("waker", "utid", "the thread that ended the wait; null: unknown, or an interrupt", nullable=True),
            Column("dur_ns", "duration"),
            Column("count", "count", "how often, 0 where that is not known; of running, the number of samples"),
            Column("stack", "stack", "where it ran or waited, above that the state, and the stack of the waker"),
        ),
    )
)

_CACHED: Final = (
    Column("cached_bytes", "bytes", "in the page cache"),
    Column("dirty_bytes", "bytes", "not yet written; null: unknown, before Linux 6.5", nullable=True),
    Column("writeback_bytes", "bytes", "being written; null: unknown", nullable=True),
    Column("evicted_bytes", "bytes", "no longer in the page cache; null: unknown", nullable=True),
    Column("recently_evicted_bytes", "bytes", "of these, not long ago; null: unknown", nullable=True),
)

CACHED_FILE: Final = register(
    Table(
        "cached_file",
        "How much of a file is in the page cache (`insitu cache`).",
        (
            Column("ts_ns", "timestamp", "when it was counted"),
            Column("path", "path"),
            Column("size_bytes", "bytes", "its size, or that of the part that was asked for"),
            Column("stored_bytes", "bytes", "on the disk: less than its size where it has holes"),
            *_CACHED,
        ),
    )
)

CACHED_RANGE: Final = register(
    Table(
        "cached_range",
        "How much of a part of a file is in the page cache (`insitu cache`).",
        (
            Column("ts_ns", "timestamp", "when it was counted"),
            Column("path", "path"),
            Column("offset", "file_offset"),
            Column("size_bytes", "bytes", "length of the part"),
            *_CACHED,
            Column("nodes", "text", "with --numa: pages by NUMA node, as 0:12,1:3"),
        ),
    )
)

QEMU_EVENT: Final = register(
    Table(
        "event.qemu",
        "A trace event or a log line of QEMU, which emulates a lab guest's machine.",
        (
            Column("ts_ns", "timestamp", "of a log line: that of the event before it"),
            Column("name", "name", 'the trace event; "log": a line of a log item'),
            Column("text", "text", "its arguments, or the line"),
        ),
    )
)

LATENCY: Final = register(
    Table(
        "latency",
        "What a latency tracer has measured: its longest section, or each period, expiry or gap.",
        (
            Column("ts_ns", "timestamp", "of a section, the end of the recording"),
            Column("cpu", "cpu", "-1: unknown"),
            Column("tracer", "enum", "`irqsoff`, `wakeup_rt`, `osnoise`, `timerlat` ..."),
            Column("context", "enum", "of timerlat `irq`, `thread` or `user-ret`, of hwlat `inner` or `outer`"),
            Column("latency_ns", "duration", "of osnoise, the longest single noise of the period"),
            Column("runtime_ns", "duration", "of osnoise: how long it measured", nullable=True),
            Column("noise_ns", "duration", "of osnoise: how much of that others had the CPU", nullable=True),
            Column("task", "text", "of a section: the task, and its priority"),
            Column("started", "name", "of a section: where interrupts or preemption were disabled"),
            Column("ended", "name", "of a section: where they were enabled again"),
        ),
    )
)

_DELAYS: Final = {
    "cpu": "runnable, and another ran",
    "blkio": "waiting for synchronous block I/O",
    "swapin": "waiting for pages to be read from swap",
    "freepages": "reclaiming memory itself",
    "thrashing": "waiting for pages that were dropped a short time ago",
    "compact": "compacting memory itself",
    "wpcopy": "copying pages on write",
    "irq": "interrupted",
}

DELAY: Final = register(
    Table(
        "delay",
        "What a process did and was delayed by in an interval of some second, its threads summed (taskstats).",
        (
            Column("ts_ns", "timestamp", "end of the interval"),
            Column("utid", "utid", "the process's first thread"),
            Column("run_ns", "duration", "on a CPU"),
            *(Column(f"{kind}_ns", "duration", meaning, nullable=True) for kind, meaning in _DELAYS.items()),
            *(Column(f"{kind}_count", "count", nullable=True) for kind in _DELAYS),
        ),
    )
)

PROCESS_TICK: Final = register(
    Table(
        "process_tick",
        "What a process did in an interval of `insitu top`.",
        (
            Column("ts_ns", "timestamp", "start"),
            Column("dur_ns", "duration", "length of the interval"),
            Column("upid", "upid"),
            Column("cpu_ns", "duration", "time on a CPU"),
            Column("wait_ns", "duration", "runnable, without a CPU; null: unknown", nullable=True),
            Column("off_cpu_ns", "duration", "other waits that ended in the interval; null: unknown", nullable=True),
            Column("calls", "count", "system calls; null: unknown", nullable=True),
            Column("read_bytes", "bytes", "from storage; null: unknown", nullable=True),
            Column("written_bytes", "bytes", "to storage; null: unknown", nullable=True),
            Column("rss_bytes", "bytes", "resident memory at the end"),
        ),
    )
)

_MEMORY: Final = {
    "resident": "in memory",
    "pss": "resident, each page divided by how often it is mapped; rounded down to 1 KiB",
    "private": "of the resident, mapped here only",
    "shared": "of the resident, mapped elsewhere too",
    "swapped": "in the swap",
    "file": "of the resident, pages of files and shared memory",
    "huge": "of the resident, in transparent huge pages",
    "dirty": "of the resident, not written to a file",
    "locked": "its share, as of pss, of what cannot be swapped (mlock)",
    "hugetlb": "pages of the pool of huge pages, which are in none of the others",
}

MEMORY_FAULT: Final = register(
    Table(
        "memory_fault",
        "A fault in the use of the heap that `insitu guard` found, or a crash elsewhere.",
        (
            Column("ts_ns", "timestamp"),
            Column("utid", "utid"),
            Column(
                "kind",
                "enum",
                "`overrun`, `underrun`, `use-after-free`, `double-free`, `invalid-free`, `mismatched-free`; "
                "`between`: more than 256 bytes from both of two blocks; `executed`: a jump into one; `null`, "
                "`stack-overflow`, `elsewhere`: a crash in no block",
            ),
            Column("access", "enum", "`read`, `write`, `execute`, `access`, `found later`; empty: a call"),
            Column("address", "user_address", "where the access begins, or what was freed"),
            Column("size_bytes", "integer", "of the access; 0: unknown"),
            Column("block_address", "user_address", "null: no block is concerned", nullable=True),
            Column("block_bytes", "integer", nullable=True),
            Column("offset_bytes", "integer", "`address` from the start of the block", nullable=True),
            Column("family", "enum", "what allocated it: `malloc`, `new`, `new[]`"),
            Column("freed_by", "enum", "what frees it, where that is at fault: `free`, `delete`, `delete[]`"),
            Column("instruction", "text"),
            Column("signal", "signal", "that ended the process; 0: none"),
            Column("stack", "stack", "of the access, or of the call"),
            Column("allocated_stack", "stack", "0: none"),
            Column("freed_stack", "stack", "0: none, the block is in use"),
        ),
    )
)

HEAP_BLOCK: Final = register(
    Table(
        "heap_block",
        "A block of malloc() that is in use (`insitu leaks`).",
        (
            Column("ts_ns", "timestamp"),
            Column("upid", "upid"),
            Column("address", "user_address"),
            Column("size", "bytes", "what may be used of it: malloc_usable_size()"),
            Column("class", "enum", "definitely lost, indirectly lost, possibly lost, still reachable"),
            Column("content", "enum", "object (C++, with virtual functions), text, pattern, zeros, pointers, data"),
            Column("object_class", "name", "of an object its C++ class; empty: no object"),
            Column("first_word", "unsigned"),
            Column("lost_with", "user_address", "the definitely lost block that it is lost with", nullable=True),
            Column("held_by", "user_address", "a block through which it is reached; null: by a root", nullable=True),
            Column("arena", "integer", "0: the main one; -1: a mapping of its own"),
            Column("stack", "stack", "of the allocation (--track); 0: it was not traced"),
            Column("asked_bytes", "integer", "of the allocation; null: it was not traced", nullable=True),
            Column("allocated_ns", "timestamp", "null: it was not traced", nullable=True),
        ),
    )
)

PAGE_RANGE: Final = register(
    Table(
        "page_range",
        "A mapping of a process and its pages (`insitu proc --maps -o`).",
        (
            Column("ts_ns", "timestamp", "when it was looked at"),
            Column("upid", "upid"),
            Column("start", "user_address"),
            Column("end", "user_address"),
            Column("permissions", "text", "as in /proc/PID/maps"),
            Column("offset", "file_offset", "in the file"),
            Column("path", "path", "of the file, or the kernel's name; empty: none"),
            Column("belongs_to", "text", "the file or name that it is added up by"),
            *(Column(f"{name}_bytes", "bytes", doc) for name, doc in _MEMORY.items()),
            Column("nodes", "text", "bytes by NUMA node, as 0:8192,1:4096; empty: unknown"),
            Column("shared_with", "text", "pids of other processes that map the same pages; empty: none, or unknown"),
        ),
    )
)

FD: Final = register(
    Table(
        "fd",
        "An open descriptor of a process (`insitu proc -o`).",
        (
            Column("ts_ns", "timestamp", "when it was looked at"),
            Column("upid", "upid"),
            Column("fd", "integer", "its number"),
            Column("kind", "enum"),
            Column("target", "path", "what it is open on"),
            Column("access", "enum", "r, w or rw"),
            Column("offset", "file_offset"),
            Column("details", "text"),
        ),
    )
)

MEMCHECK_LEAK: Final = register(
    Table(
        "memcheck_leak",
        "A leak record of valgrind's memcheck: blocks of one class that were allocated by one stack.",
        (
            Column("ts_ns", "timestamp"),
            Column("utid", "utid"),
            Column("class", "enum", "definitely lost, indirectly lost, possibly lost, still reachable"),
            Column("bytes", "bytes", "of the blocks themselves"),
            Column("indirect_bytes", "bytes", "that are lost with them"),
            Column("blocks", "integer"),
            Column("stack", "stack", "of the allocation"),
        ),
    )
)

MEMCHECK_ERROR: Final = register(
    Table(
        "memcheck_error",
        "An error of valgrind, other than a leak: an invalid access, a wrong free, use of what was never written.",
        (
            Column("ts_ns", "timestamp"),
            Column("utid", "utid"),
            Column("kind", "enum", "valgrind's name: `InvalidRead`, `InvalidFree`, `UninitCondition` ..."),
            Column("what", "text"),
            Column("about", "text", "what more it says, such as of the block that is concerned; lines"),
            Column("count", "count", "how often it occurred"),
            Column("stack", "stack"),
            Column("block_stack", "stack", "the first other one, such as of the block's allocation or free; 0: none"),
        ),
    )
)
