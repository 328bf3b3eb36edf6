"""Events through an instance of tracefs on this kernel: as many as it counts, the same as its own text says."""

import io
import os
import re
import subprocess
import sys
from functools import partial
from itertools import takewhile

import numpy as np
import pytest

import insitu
from insitu.convert.trace_events import event_columns, event_kinds
from insitu.convert.trace_pages import decode_pages, page_layout
from insitu.kernel.trace_instance import TraceInstance
from insitu.kernel.tracefs import Tracefs
from insitu.kernel.tracefs_leftovers import remove_dead
from insitu.kernel.tracefs_owner import owner_name
from insitu.symbols.kernel_btf import vmlinux
from insitu.symbols.symbolizer import Symbolizer
from insitu.views.trace_lines import TraceLines

NAPS = "import time, sys; sys.stdin.read(1)\nfor _ in range(50): time.sleep(0)"
SWITCH = (
    r"\[(\d+)\].*? (\d+)\.(\d+): sched_switch: prev_comm=(.*) prev_pid=(\d+) .*==> next_comm=(.*) next_pid=(\d+) "
)
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def tracefs():
    tree = Tracefs.open()
    yield tree
    tree.close()


@pytest.fixture
def instance(tracefs):
    made = TraceInstance.create(tracefs, buffer_kb=512)
    yield made
    made.close()


def pages(instance: TraceInstance) -> list[tuple[int, bytes]]:
    """All that the kernel has recorded, page by page."""
    found = []
    for cpu in instance.cpus:
        fd = instance.open(f"per_cpu/cpu{cpu}/trace_pipe_raw", os.O_RDONLY | os.O_NONBLOCK)
        try:
            while data := os.read(fd, PAGE_BYTES):
                found.append((cpu, data.ljust(PAGE_BYTES, b"\0")))
        except BlockingIOError:
            pass
        finally:
            os.close(fd)
    return found


def decoded(instance: TraceInstance, tracefs: Tracefs):
    found = pages(instance)
    memory = np.frombuffer(b"".join(page for _, page in found), np.uint8)
    cpus = np.array([cpu for cpu, _ in found], np.int32)
    return decode_pages(memory, cpus, page_layout(tracefs.read("events/header_page"), PAGE_BYTES))


def microseconds(ts_ns: int) -> int:
    """As the kernel's text has it."""
    return (ts_ns + 500) // 1000


def marked(instance: TraceInstance, texts: list[bytes]) -> None:
    fd = instance.open("trace_marker", os.O_WRONLY)
    try:
        for text in texts:
            os.write(fd, text)
    finally:
        os.close(fd)


def test_every_mark_is_read_with_its_text_and_the_kernel_s_time(instance, tracefs):
    instance.write("tracing_on", "1")
    texts = [b"mark %d %s" % (number, b"x" * (number % 300)) for number in range(400)]
    marked(instance, texts)
    instance.write("tracing_on", "0")
    kernel = re.findall(r"(\d+)\.(\d{6}): tracing_mark_write: (mark.*)", instance.read("trace"))
    records = decoded(instance, tracefs)
    order = np.argsort(records.ts_ns, kind="stable")
    kinds = event_kinds([("ftrace", "print", tracefs.read("events/ftrace/print/format"))])
    (number, kind) = next(iter(kinds.items()))
    assert set(records.event.tolist()) == {number}
    columns = event_columns(records, order, kind.format)
    assert [text.rstrip("\n").encode() for text in columns["buf"]] == texts
    assert set(columns["common_pid"].tolist()) == {os.getpid()}
    assert [(int(s) * 10**6 + int(us), text.encode()) for s, us, text in kernel] == [
        (microseconds(ts_ns), text) for ts_ns, text in zip(records.ts_ns[order].tolist(), texts, strict=True)
    ]


def test_overwritten_records_are_as_many_as_the_kernel_counts(instance, tracefs):
    instance.write("tracing_on", "1")
    marked(instance, [b"%07d" % number + b"y" * 900 for number in range(3000)])
    instance.write("tracing_on", "0")
    overrun = sum(instance.counts(cpu)["overrun"] for cpu in instance.cpus)
    records = decoded(instance, tracefs)
    assert overrun > 0
    assert len(records) + overrun == 3000
    assert sum(records.lost.values()) == overrun


def test_switches_have_the_fields_of_the_kernel_s_own_text(instance, tracefs):
    child = subprocess.Popen([sys.executable, "-c", NAPS], stdin=subprocess.PIPE)
    instance.write("set_event_pid", str(child.pid))
    instance.write("events/sched/sched_switch/enable", "1")
    instance.write("tracing_on", "1")
    child.communicate(b"x")
    instance.write("tracing_on", "0")
    kernel = sorted(
        (int(s) * 10**6 + int(us), int(cpu), *rest)
        for cpu, s, us, *rest in re.findall(SWITCH, instance.read("trace"))
    )
    records = decoded(instance, tracefs)
    kinds = event_kinds([("sched", "sched_switch", tracefs.read("events/sched/sched_switch/format"))])
    columns = event_columns(records, np.arange(len(records)), next(iter(kinds.values())).format)
    ours = sorted(
        (microseconds(ts_ns), cpu, left, str(left_tid), following, str(following_tid))
        for ts_ns, cpu, left, left_tid, following, following_tid in zip(
            records.ts_ns.tolist(),
            records.cpu.tolist(),
            columns["prev_comm"],
            columns["prev_pid"].tolist(),
            columns["next_comm"],
            columns["next_pid"].tolist(),
            strict=True,
        )
    )
    assert len(ours) >= 2
    assert ours == kernel


def test_an_instance_ends_with_its_owner_s_close_and_a_dead_one_s_is_removed(tracefs):
    made = TraceInstance.create(tracefs)
    name = next(each for each in tracefs.names("instances") if each.startswith(owner_name()))
    made.write("events/sched/sched_switch/enable", "1")
    assert name not in " ".join(remove_dead(tracefs)), "its owner lives"
    made.close()
    assert name not in tracefs.names("instances")
    program = (
        "import os; from insitu.kernel.tracefs import Tracefs\n"
        "from insitu.kernel.trace_instance import TraceInstance\n"
        "made = TraceInstance.create(Tracefs.open()); made.write('set_event_pid', str(os.getpid()))\n"
        "made.write('events/sched/sched_switch/enable', '1'); print(os.getpid(), flush=True); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    mark = f"insitu-{killed.stdout.strip()}-"
    assert any(each.startswith(mark) for each in tracefs.names("instances"))
    assert any(mark in each for each in remove_dead(tracefs))
    assert not any(each.startswith(mark) for each in tracefs.names("instances"))


def lines(*words: object) -> list[str]:
    """What a command of insitu prints."""
    command = [sys.executable, "-m", "insitu", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()


def test_a_command_s_events_become_tables_of_its_threads(tmp_path):
    run, script = tmp_path / "run.insitu", "true; ls >/dev/null; exec ls >/dev/null"
    chosen = ["-e", "sched:sched_process_exec", "-e", "sched:sched_process_fork"]
    lines("events", "-q", *chosen, "-o", run, "--", "sh", "-c", script)
    query = "select name, filename from event.sched_process_exec join thread using (utid) order by ts_ns"
    assert [line.rpartition("/")[2] for line in lines("sql", run, query)[1:]] == ["sh", "ls", "ls"]
    assert lines("sql", run, "select count(*) from event.sched_process_fork")[-1] == "1"


@pytest.mark.parametrize("events", ["raw_syscalls:*", "syscalls:*_openat,syscalls:*_write"])
def test_recorded_system_calls_are_spans_as_many_as_strace_counts(events, tmp_path):
    command = ["/bin/cat", "/etc/hostname"]
    counted = subprocess.run(
        ["strace", "-c", "-U", "calls,name", *command], capture_output=True, text=True, check=True
    )
    expected = {name: int(count) for count, name in re.findall(r"^ *(\d+) (\w+)$", counted.stderr, re.MULTILINE)}
    words = [word for each in events.split(",") for word in ("-e", each)]
    lines("events", *words, "-o", tmp_path / "run.insitu", "--", *command)
    with insitu.open(tmp_path / "run.insitu") as session:
        found = session.sql(
            "select name, count(*), count(dur_ns) from span where category = 'syscall' group by name"
        ).rows()
    wanted = ("openat", "write") if events.startswith("syscalls") else ("openat", "write", "read", "mmap", "fstat")
    assert {name: (calls, ended) for name, calls, ended in found if name in wanted} == {
        name: (expected[name], expected[name]) for name in wanted if name in expected
    }


def test_a_filter_keeps_the_events_that_match():
    found = lines("events", "-e", "sched:sched_process_exec", "-F", 'filename ~ "*sh"', "--", "sh", "-c", "true; ls")
    assert sum("sched_process_exec" in line for line in found) == 1


def test_events_are_printed_as_the_kernel_prints_them(instance, tracefs):
    chosen = ["sched", "kmem", "filemap", "ext4", "task", "signal", "timer", "irq", "workqueue", "mmap", "block"]
    child = subprocess.Popen(
        ["sh", "-c", "read x; ls -l / >/dev/null; sleep 0.01; kill -9 $$"], stdin=subprocess.PIPE
    )
    instance.write("set_event_pid", str(child.pid))
    for option, value in (("event-fork", "1"), ("hash-ptr", "0")):
        instance.write(f"options/{option}", value)
    kinds = {}
    for category in filter(lambda each: instance.exists(f"events/{each}"), chosen):
        instance.write(f"events/{category}/enable", "1")
        kinds |= event_kinds(
            (category, name, tracefs.read(f"events/{category}/{name}/format"))
            for name in tracefs.names(f"events/{category}")
            if tracefs.exists(f"events/{category}/{name}/format")
        )
    instance.write("tracing_on", "1")
    child.communicate(b"x\n")
    instance.write("tracing_on", "0")
    kernel = re.findall(r"-(\d+) .*?\[(\d+)\] \S+ +([\d.]+): (\w+): (.*)", instance.read("trace"))
    out = io.StringIO()
    symbols = Symbolizer(live=True)

    def symbol(address: int) -> str:
        found = symbols.kernel_symbol(address)
        return f"{found[0]}+{found[1]:#x}" if found else f"{address:#x}"

    def constant(name: str) -> int | None:
        found = vmlinux().enumerator(name)
        return found[1] if found else None

    layout = page_layout(tracefs.read("events/header_page"), PAGE_BYTES)
    lines = TraceLines(
        layout,
        kinds,
        out,
        thread=lambda tid: "x",
        symbol=symbol,
        user_symbol=lambda pid, at: hex(at),
        constant=constant,
    )
    lines.add(pages(instance), 2**63 - 1)
    ours = re.findall(r"-(\d+) .*?\[(\d+)\] +([\d.]+): (\w+): +(.*)", out.getvalue())
    assert len({name for _, _, _, name, _ in kernel}) > 8

    def plain(found):
        """Without the sizes of symbols, and the addresses of struct page, which are known to the kernel alone."""
        text_of = partial(re.sub, r"(\+0x[0-9a-f]+)/0x[0-9a-f]+|(?<=page=)\S+", r"\1")
        return sorted((*rest, text_of(text).strip()) for *rest, text in found)

    assert plain(ours) == plain(kernel)


def test_live_stacks_are_lines_of_functions_below_their_event():
    found = lines("events", "-e", "sched:sched_process_exec", "--stack", "--", "true")
    at = next(number for number, line in enumerate(found) if "sched_process_exec: " in line)
    stack = list(takewhile(lambda line: line.startswith(" => "), found[at + 1 :]))
    assert stack, found
    assert any("execve" in line for line in stack)
    assert not any("trace_event_raw" in line for line in stack)


def test_a_recording_prints_the_functions_of_addresses(tmp_path):
    run = tmp_path / "run.insitu"
    lines("events", "-q", "-e", "kmem:kmalloc", "-o", run, "--", "true")
    sites = re.findall(r"call_site=(\S+)", "\n".join(lines("events", run)))
    assert sites and not any(site.startswith("0x") for site in sites)
