"""Formats of events as kernels print them, for tests of filters, triggers and histograms."""

from insitu.kernel.tracefs import EventFormat, parse_format

__all__ = ["KMALLOC", "OPENAT", "SEND_CPUMASK", "SWITCH", "WAKING"]

_COMMON = """
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;
"""


def _event(name: str, *fields: str) -> EventFormat:
    """``fields`` are "declaration;offset;size;signed"."""
    lines = []
    for field in fields:
        declaration, offset, size, signed = field.split(";")
        lines.append(f"\tfield:{declaration};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n")
    short = name.partition(":")[2]
    return parse_format(f'name: {short}\nID: 7\nformat:{_COMMON}\n{"".join(lines)}\nprint fmt: ""\n', name)


KMALLOC = _event(
    "kmem:kmalloc",
    "unsigned long call_site;8;8;0",
    "const void * ptr;16;8;0",
    "size_t bytes_req;24;8;0",
    "size_t bytes_alloc;32;8;0",
    "unsigned long gfp_flags;40;8;0",
    "int node;48;4;1",
)
SWITCH = _event(
    "sched:sched_switch",
    "char prev_comm[16];8;16;0",
    "pid_t prev_pid;24;4;1",
    "int prev_prio;28;4;1",
    "long prev_state;32;8;1",
    "char next_comm[16];40;16;0",
    "pid_t next_pid;56;4;1",
    "int next_prio;60;4;1",
)
WAKING = _event(
    "sched:sched_waking",
    "char comm[16];8;16;0",
    "pid_t pid;24;4;1",
    "int prio;28;4;1",
    "int target_cpu;32;4;1",
)
OPENAT = _event(
    "syscalls:sys_enter_openat",
    "int __syscall_nr;8;4;1",
    "int dfd;16;8;0",
    "const char * filename;24;8;0",
    "int flags;32;8;0",
    "umode_t mode;40;8;0",
)
SEND_CPUMASK = _event(
    "ipi:ipi_send_cpumask",
    "__data_loc cpumask_t[] cpumask;8;4;0",
    "void * callsite;16;8;0",
    "void * callback;24;8;0",
)
