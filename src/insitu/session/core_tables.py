"""The tables shared by all recorders: processes, mappings, stacks, events, spans, losses."""

from typing import Final

from insitu.session.schema import Column, Table, register

__all__ = [
    "COUNTER",
    "DESCRIPTOR",
    "EVENT_TYPE",
    "FRAME",
    "LOST",
    "MACHINE",
    "MAPPING",
    "MODULE",
    "PROCESS",
    "SAMPLE",
    "SIGNAL",
    "SPAN",
    "STACK",
    "SYSCALL",
    "THREAD",
    "THREAD_NAME",
    "THREAD_STATE",
    "TRACK",
    "VIRTUAL_CPU",
]

_START: Final = "start; 0: before the recording"
_END: Final = "end; null: after the recording, or unknown"

PROCESS: Final = register(
    Table(
        "process",
        "A process from fork to exit. The kernel reuses pids; `upid` is unique in the session.",
        (
            Column("upid", "upid", "id in this session; 0: the idle task or unknown"),
            Column("pid", "pid", "process id"),
            Column("parent_upid", "upid", "its parent; null: unknown", nullable=True),
            Column("start_ns", "timestamp", _START),
            Column("end_ns", "timestamp", _END, nullable=True),
            Column("exe", "path", "executable of the last exec"),
            Column("cmdline", "text", "its arguments, quoted for a shell (at most 4096 bytes); empty: unknown"),
            Column("uid", "uid", "user id; null: unknown", nullable=True),
            Column("cgroup", "path", "cgroup, if it was read"),
            Column("container", "text", "container id, if any"),
            Column("machine", "machine", "where it ran"),
        ),
    )
)
MACHINE: Final = register(
    Table(
        "machine",
        "The machines of a session that has several: a host and its guests. Id 0 is the one of a session without.",
        (
            Column("id", "machine"),
            Column("name", "name"),
            Column("kernel", "text", "its release"),
            Column(
                "first_cpu", "cpu", "its CPUs are `first_cpu`, `first_cpu + 1` ...: CPU 0 of a guest is `first_cpu`"
            ),
            Column("cpus", "integer", "how many numbers of CPUs are kept for it"),
            Column("events", "name", "what the names of its tables of events begin with, after `event.`"),
        ),
    )
)
THREAD: Final = register(
    Table(
        "thread",
        "A thread from clone to exit.",
        (
            Column("utid", "utid", "id in this session; 0: unknown"),
            Column("upid", "upid", "its process"),
            Column("tid", "tid", "thread id"),
            Column("start_ns", "timestamp", _START),
            Column("end_ns", "timestamp", _END, nullable=True),
            Column("name", "name", "its last name"),
        ),
    )
)
VIRTUAL_CPU: Final = register(
    Table(
        "virtual_cpu",
        "Which thread of the host runs a CPU of a guest, where the recording says so.",
        (
            Column("cpu", "cpu", "the guest's CPU, by the session's number: its own plus `machine.first_cpu`"),
            Column("machine", "machine", "the guest"),
            Column("utid", "utid", "the host's thread"),
        ),
    )
)
THREAD_NAME: Final = register(
    Table(
        "thread_name",
        "Every name of every thread: a shell that executes `ls` has two.",
        (
            Column("utid", "utid"),
            Column("ts_ns", "timestamp", "from this time; 0: from its start"),
            Column("name", "name"),
        ),
    )
)
MODULE: Final = register(
    Table(
        "module",
        "A file with executable mappings.",
        (
            Column("id", "module"),
            Column("path", "path", "as the process saw it"),
            Column("build_id", "build_id", "hexadecimal, if known"),
        ),
    )
)
MAPPING: Final = register(
    Table(
        "mapping",
        "An executable mapping of a process: addresses `[address, address + length)`.",
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
        "A function at a source line.",
        (
            Column("id", "frame"),
            Column("function", "name", "demangled; `libfoo.so+0x1234` if no symbol covers the address"),
            Column("module", "path", "the file; `[kernel.kallsyms]`, `[ext4]`, `[vdso]`, `[bpf]`, `[jit]`"),
            Column("file", "path", "source file, if there is debug information"),
            Column("line", "line", "0: unknown"),
            Column("inlined", "flag", "inlined into the next outer frame"),
            Column(
                "kind",
                "enum",
                "`user`, `kernel`, `jit`, `python`; of `wall` also states (of blocked: by cause `lock`, `file`,"
                " `socket`, `sleep`), and `waker`",
                default="user",
            ),
            Column("symbolized", "flag", "whether `function` is a symbol", default=True),
        ),
    )
)
STACK: Final = register(
    Table(
        "stack",
        "A call tree: a stack is the id of its leaf. Id 0 is the root, which has no frame. Parents precede children.",
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
        "The events of samples.",
        (
            Column("id", "event_type"),
            Column("name", "name", "such as `cpu-clock` or `cycles:u`"),
            Column("unit", "text", "of `sample.weight`: `ns`, `bytes`, or what is counted"),
            Column("period", "integer", "events per sample; 0: sampled by frequency"),
            Column("source", "name", "the source that recorded it"),
        ),
    )
)
TRACK: Final = register(
    Table(
        "track",
        "The series that a counter's values belong to.",
        (
            Column("id", "track"),
            Column("name", "name"),
            Column("unit", "text"),
            Column("utid", "utid", "thread; null: none", nullable=True),
            Column("cpu", "cpu", "CPU; null: none", nullable=True),
            Column("device", "text", "device, if any"),
        ),
    )
)
SAMPLE: Final = register(
    Table(
        "sample",
        "A sample of a thread, taken when an event overflowed.",
        (
            Column("ts_ns", "timestamp"),
            Column("utid", "utid"),
            Column("cpu", "cpu", "-1: unknown", default=-1),
            Column("event_type", "event_type"),
            Column("stack", "stack", "the leaf"),
            Column(
                "weight",
                "weight",
                "events, or nanoseconds, that the sample stands for, in `event_type.unit`",
                default=1,
            ),
        ),
    )
)
SPAN: Final = register(
    Table(
        "span",
        "An interval with a start and an end: a call, a wait, a request.",
        (
            Column("id", "span"),
            Column("ts_ns", "timestamp", "start"),
            Column(
                "dur_ns",
                "duration",
                "until the end for what was open then; null: unknown",
                nullable=True,
            ),
            Column("utid", "utid"),
            Column("cpu", "cpu", "-1: unknown", default=-1),
            Column("category", "name", "such as `off-cpu`, `syscall`, `block`"),
            Column("name", "name"),
            Column("parent", "span", "enclosing span; null: none", nullable=True),
            Column("depth", "depth"),
            Column("self_ns", "duration", "duration without child spans; null: unknown", nullable=True),
            Column("stack", "stack", "stack at the start; of a wait, the waiting stack"),
        ),
    )
)
THREAD_STATE: Final = register(
    Table(
        "thread_state",
        "What a thread did, from one event of the scheduler to the next: the rows of a thread follow one another.",
        (
            Column("ts_ns", "timestamp", "start"),
            Column("dur_ns", "duration", "null: its last state, still so at the end", nullable=True),
            Column("utid", "utid"),
            Column("cpu", "cpu", "of `running`; else -1", default=-1),
            Column(
                "state",
                "enum",
                "`running`; waiting for a CPU: `runnable` (since it was woken) or `preempted`; `sleeping`, "
                "`uninterruptible`, `stopped`, `traced`, `parked`, `idle`; `exited`; `unknown` (events were lost)",
            ),
            Column(
                "waker",
                "utid",
                "of `runnable`: the thread that woke it; null: unknown, or an interrupt",
                nullable=True,
            ),
            Column("waker_ts_ns", "timestamp", "when it was woken; null: unknown", nullable=True),
            Column("stack", "stack", "where it left the CPU, if that was recorded"),
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
        "Lost records. Views of a recording with losses say so.",
        (
            Column("ts_ns", "timestamp"),
            Column("source", "name", "where they were lost"),
            Column("cpu", "cpu", "-1: unknown", default=-1),
            Column("count", "count"),
        ),
    )
)
SYSCALL: Final = register(
    Table(
        "syscall",
        "A system call, of which `span` has time, thread and name.",
        (
            Column("span_id", "span", "its row in `span`"),
            Column("abi", "enum", "`x86_64`, `i386`, `x32`, `aarch64`"),
            Column("nr", "integer", "number of the call in its ABI"),
            Column("ret", "integer", "what it returned; null: it has not", nullable=True),
            Column("errno", "errno", "error; null: none", nullable=True),
            Column("arguments", "text", "as strace(1) shows them, strings up to the recording's limit"),
            Column("args", "nested", "the six registers"),
            Column("fd", "integer", "the first descriptor among the arguments; null: none", nullable=True),
            Column("path", "path", "the first path among the arguments; null: none", nullable=True),
            Column("lost_before", "count", "records of its thread that were lost just before"),
        ),
    )
)
DESCRIPTOR: Final = register(
    Table(
        "descriptor",
        "What a process had open under a file descriptor, from a time until another.",
        (
            Column("upid", "upid"),
            Column("fd", "integer"),
            Column("from_ns", "timestamp", "when it was opened, or first seen"),
            Column("until_ns", "timestamp", "when it was closed or replaced; null: not seen", nullable=True),
            Column("path", "path", "the file; `socket:[INODE]`, `pipe:[INODE]`, `anon_inode:NAME`"),
            Column("kind", "enum", "`file`, `directory`, `device`, `fifo`, `socket`, `other`"),
        ),
    )
)
SIGNAL: Final = register(
    Table(
        "signal",
        "A signal that was delivered to a thread.",
        (
            Column("ts_ns", "timestamp"),
            Column("utid", "utid"),
            Column("number", "signal"),
            Column("name", "name"),
            Column("code", "integer", "`si_code` of sigaction(2)"),
            Column("sender_pid", "pid", "of signals that a process sent; null: none", nullable=True),
            Column("address", "user_address", "of faults; null: none", nullable=True),
        ),
    )
)
