"""The tables that every recorder shares: who ran, what was mapped, stacks, events, spans, losses."""

from typing import Final

from insitu.session.schema import Column, Table, register

__all__ = [
    "COUNTER",
    "EVENT_TYPE",
    "FRAME",
    "LOST",
    "MAPPING",
    "MODULE",
    "PROCESS",
    "SAMPLE",
    "SPAN",
    "STACK",
    "THREAD",
    "THREAD_NAME",
    "TRACK",
]

_START: Final = "when it began; 0: before the recording"
_END: Final = "when it ended; null: after the recording, or not known"

PROCESS: Final = register(
    Table(
        "process",
        "A process from fork to exit. Numbers are used again by the kernel, `upid` is not.",
        (
            Column("upid", "upid", "the session's own id; 0: the idle task or not known"),
            Column("pid", "pid", "the kernel's number"),
            Column("parent_upid", "upid", "its parent; null: not known", nullable=True),
            Column("start_ns", "timestamp", _START),
            Column("end_ns", "timestamp", _END, nullable=True),
            Column("exe", "path", "the program's file, the last one after exec"),
            Column("cmdline", "text", "its arguments, where they were read"),
            Column("uid", "uid", "whose it is; null: not known", nullable=True),
            Column("cgroup", "path", "its control group, where it was read"),
            Column("container", "text", "the container's id, where there is one"),
        ),
    )
)
THREAD: Final = register(
    Table(
        "thread",
        "A thread from clone to exit.",
        (
            Column("utid", "utid", "the session's own id; 0: not known"),
            Column("upid", "upid", "its process"),
            Column("tid", "tid", "the kernel's number"),
            Column("start_ns", "timestamp", _START),
            Column("end_ns", "timestamp", _END, nullable=True),
            Column("name", "name", "the last name that it had"),
        ),
    )
)
THREAD_NAME: Final = register(
    Table(
        "thread_name",
        "Each name of each thread: a shell that becomes `ls` has two.",
        (
            Column("utid", "utid"),
            Column("ts_ns", "timestamp", "from when on; 0: from its beginning"),
            Column("name", "name"),
        ),
    )
)
MODULE: Final = register(
    Table(
        "module",
        "A file that was mapped as code.",
        (
            Column("id", "module"),
            Column("path", "path", "as the process saw it"),
            Column("build_id", "build_id", "hexadecimal, where it is known"),
        ),
    )
)
MAPPING: Final = register(
    Table(
        "mapping",
        "Code mapped into a process: addresses `[address, address + length)`.",
        (
            Column("upid", "upid"),
            Column("start_ns", "timestamp", _START),
            Column("end_ns", "timestamp", _END, nullable=True),
            Column("address", "user_address"),
            Column("length", "file_offset", "in bytes"),
            Column("offset", "file_offset", "the file's offset at `address`"),
            Column("module", "module"),
        ),
    )
)
FRAME: Final = register(
    Table(
        "frame",
        "One function at one line of the source.",
        (
            Column("id", "frame"),
            Column("function", "name", "demangled; `libfoo.so+0x1234` where no symbol covers the address"),
            Column("module", "path", "the file; `[kernel.kallsyms]`, `[ext4]`, `[vdso]`, `[bpf]`, `[jit]`"),
            Column("file", "path", "source file, where there is debug information"),
            Column("line", "line", "0: not known"),
            Column("inlined", "flag", "part of the next outer frame that is not inlined"),
            Column("kind", "enum", "`user`, `kernel`, `jit`, `python`", default="user"),
            Column("symbolized", "flag", "whether `function` is a symbol's name", default=True),
        ),
    )
)
STACK: Final = register(
    Table(
        "stack",
        "A call tree. A stack is its leaf's id; 0 is the root, which has no frame. Parents come before children.",
        (
            Column("id", "stack"),
            Column("parent", "stack", "the caller's stack"),
            Column("frame", "frame", "-1 for the root"),
            Column("depth", "depth", "number of frames from the root"),
        ),
    )
)
EVENT_TYPE: Final = register(
    Table(
        "event_type",
        "What samples count.",
        (
            Column("id", "event_type"),
            Column("name", "name", "such as `cpu-clock` or `cycles:u`"),
            Column("unit", "text", "of `sample.weight`: `ns`, `bytes`, or what is counted"),
            Column("period", "integer", "a sample every so many; 0: by frequency"),
            Column("source", "name", "the source that recorded it"),
        ),
    )
)
TRACK: Final = register(
    Table(
        "track",
        "What a counter's values belong to.",
        (
            Column("id", "track"),
            Column("name", "name"),
            Column("unit", "text"),
            Column("utid", "utid", "thread; null: none", nullable=True),
            Column("cpu", "cpu", "CPU; null: none", nullable=True),
            Column("device", "text", "device, where it is one"),
        ),
    )
)
SAMPLE: Final = register(
    Table(
        "sample",
        "A moment at which a thread was looked at because an event had occurred.",
        (
            Column("ts_ns", "timestamp"),
            Column("utid", "utid"),
            Column("cpu", "cpu", "-1: not known", default=-1),
            Column("event_type", "event_type"),
            Column("stack", "stack", "the leaf"),
            Column("weight", "weight", "what the sample stands for, in `event_type.unit`", default=1),
        ),
    )
)
SPAN: Final = register(
    Table(
        "span",
        "Something with a beginning and an end: a call, a wait, a request.",
        (
            Column("id", "span"),
            Column("ts_ns", "timestamp", "when it began"),
            Column("dur_ns", "duration", "how long; null: still open at the end of the recording", nullable=True),
            Column("utid", "utid"),
            Column("cpu", "cpu", "-1: not known", default=-1),
            Column("category", "name", "such as `off-cpu`, `syscall`, `block`"),
            Column("name", "name"),
            Column("parent", "span", "the span around it; null: none", nullable=True),
            Column("depth", "depth"),
            Column("self_ns", "duration", "without the spans inside; null: still open", nullable=True),
            Column("stack", "stack", "where it began or, for waits, what waited"),
        ),
    )
)
COUNTER: Final = register(
    Table(
        "counter",
        "A value over time.",
        (Column("ts_ns", "timestamp"), Column("track", "track"), Column("value", "number")),
    )
)
LOST: Final = register(
    Table(
        "lost",
        "Records that a source could not deliver. Views of a recording with losses say so.",
        (
            Column("ts_ns", "timestamp"),
            Column("source", "name", "what lost them"),
            Column("cpu", "cpu", "-1: not known", default=-1),
            Column("count", "count"),
        ),
    )
)
