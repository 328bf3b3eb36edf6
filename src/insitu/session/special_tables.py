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
    "FUNCTION_CALL",
    "LATENCY",
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
