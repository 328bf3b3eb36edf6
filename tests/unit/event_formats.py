"""Formats of events as kernels print them, for tests of filters, triggers and histograms."""

from insitu.kernel.tracefs import EventFormat, parse_format

__all__ = [
    "ACCEPTED_TRIGGERS",
    "KMALLOC",
    "LATENCY",
    "OPENAT",
    "REFUSED_TRIGGERS",
    "SEND_CPUMASK",
    "SWITCH",
    "WAKING",
]

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
LATENCY = _event("synthetic:xlat", "u64 lat;8;8;0", "pid_t pid;16;4;1")

# Event and trigger. tests/lab/test_event_triggers.py asks kernels about the same. $ts0 is set by a trigger on
# sched:sched_waking, synthetic:xlat exists.
ACCEPTED_TRIGGERS = [
    ("kmem:kmalloc", "traceon"),
    ("kmem:kmalloc", "traceoff:3"),
    ("kmem:kmalloc", "traceon if bytes_req > 3"),
    ("kmem:kmalloc", "snapshot"),
    ("kmem:kmalloc", "snapshot:1"),
    ("kmem:kmalloc", "stacktrace if bytes_req > 4096"),
    ("kmem:kmalloc", "stacktrace:5 if bytes_req > 3"),
    ("kmem:kmalloc", "enable_event:sched:sched_switch"),
    ("kmem:kmalloc", "disable_event:sched:sched_switch:2 if bytes_req > 3"),
    ("kmem:kmalloc", "enable_hist:sched:sched_switch"),
    ("kmem:kmalloc", "disable_hist:sched:sched_switch:1"),
    ("kmem:kmalloc", "hist:keys=call_site.sym:vals=hitcount,bytes_req:size=4096"),
    ("kmem:kmalloc", "hist:keys=call_site.sym-offset,node:values=bytes_req,bytes_alloc:sort=bytes_req.descending"),
    ("kmem:kmalloc", "hist:keys=stacktrace:sort=hitcount.ascending if bytes_req > 64"),
    ("kmem:kmalloc", "hist:keys=common_pid.execname,bytes_req.log2"),
    ("kmem:kmalloc", "hist:keys=bytes_req.buckets=100,ptr.hex,common_cpu"),
    ("kmem:kmalloc", "hist:key=cpu:val=bytes_req:size=100:pause"),
    ("kmem:kmalloc", "hist:keys=call_site:name=shared"),
    ("kmem:kmalloc", "hist:keys=call_site:vals=bytes_req.hex"),
    ("sched:sched_switch", "hist:keys=next_comm,next_prio:vals=prev_prio"),
    ("sched:sched_switch", "hist:keys=common_timestamp.usecs"),
    ("sched:sched_waking", "hist:keys=pid:ts1=common_timestamp.usecs,p=prio"),
    ("sched:sched_waking", "hist:keys=pid:d=prio-target_cpu-1"),
    ("sched:sched_waking", "hist:keys=pid:d=prio*100/3"),
    ("sched:sched_waking", "hist:keys=pid:c=comm"),
    ("sched:sched_waking", "hist:keys=pid:p=prio:onmax($p).save(prio,comm)"),
    ("sched:sched_waking", "hist:keys=pid:p=prio:onmax($p).snapshot()"),
    ("sched:sched_waking", "hist:keys=pid:p=prio:onchange($p).save(comm)"),
    ("sched:sched_waking", "hist:keys=pid:p=prio:onchange($p).snapshot()"),
    (
        "sched:sched_switch",
        "hist:keys=next_pid:lat=common_timestamp.usecs-$ts0:onmatch(sched.sched_waking).xlat($lat,next_pid)",
    ),
    (
        "sched:sched_switch",
        "hist:keys=next_pid:lat=common_timestamp.usecs-$ts0:onmatch(sched.sched_waking).trace(xlat,$lat,next_pid)",
    ),
]
# And what the error points at, and a part of what it says.
REFUSED_TRIGGERS = [
    ("kmem:kmalloc", "stacktrac", "stacktrac", "did you mean 'stacktrace'"),
    ("kmem:kmalloc", "traceoff:x", "x", "a number above 0"),
    ("kmem:kmalloc", "stacktrace:-1", "-1", "a number above 0"),
    ("kmem:kmalloc", "stacktrace bytes_req", "b", "expected 'if FILTER'"),
    ("kmem:kmalloc", "enable_event:sched", "enable_event:sched", "expected :CATEGORY:EVENT"),
    ("kmem:kmalloc", "enable_event:sched:nope", "enable_event:sched:nope", "there is no tracepoint"),
    ("kmem:kmalloc", "hist:vals=bytes_req", "hist:vals=bytes_req", "needs keys"),
    ("kmem:kmalloc", "hist:keys=call_sit", "call_sit", "did you mean 'call_site'"),
    ("kmem:kmalloc", "hist:keys=call_site,ptr,node,bytes_req", "call_site,ptr,node,bytes_req", "at most 3 keys"),
    ("kmem:kmalloc", "hist:keys=node:vals=ptr,bytes_req,bytes_alloc", "ptr,bytes_req,bytes_alloc", "at most 2"),
    ("kmem:kmalloc", "hist:keys=node.nonsense", ".nonsense", "unknown modifier"),
    ("kmem:kmalloc", "hist:keys=node.execname", ".execname", "for common_pid"),
    ("kmem:kmalloc", "hist:keys=node.percent", ".percent", "not for a key"),
    ("kmem:kmalloc", "hist:keys=node.buckets", ".buckets", "needs a size"),
    ("kmem:kmalloc", "hist:keys=node:vals=bytes_req.log2", ".log2", "not for a value"),
    ("kmem:kmalloc", "hist:keys=node:size=131073", "131073", "a size is"),
    ("kmem:kmalloc", "hist:keys=node:sort=bytes_req", "bytes_req", "not in the histogram"),
    ("kmem:kmalloc", "hist:keys=node:sort=hitcount.desc", "hitcount.desc", "unknown order"),
    ("kmem:kmalloc", "hist:keys=node:foo", "foo", "unknown part"),
    ("sched:sched_waking", "hist:keys=pid:d=prio/0", "0", "division by zero"),
    ("sched:sched_waking", "hist:keys=pid:d=-prio", "p", "expected '('"),
    ("sched:sched_waking", "hist:keys=pid:d=(prio-target_cpu)*2", "(", "expected a field"),
    ("sched:sched_waking", "hist:keys=pid:vals=$d", "$d", "no trigger sets"),
    ("sched:sched_waking", "hist:keys=pid:d=prio.log2", ".log2", "unknown modifier"),
    ("sched:sched_waking", "hist:keys=pid:onmax($nope).save(prio)", "$nope", "no trigger sets"),
    ("sched:sched_waking", "hist:keys=pid:p=prio:onchange($p).foo()", "foo", "no synthetic event 'foo'"),
    ("sched:sched_waking", "hist:keys=pid:p=prio:onmax($p).save(nope)", "nope", "has no field 'nope'"),
    ("sched:sched_switch", "hist:keys=next_pid:onmatch(sched.sched_waking).xlat(next_pid)", "xlat", "takes 2"),
]
