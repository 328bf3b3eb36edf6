"""System calls by ptrace: strace is the judge of what a command has called, and of how it goes on."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from tests.live.syscall_lines import calls_of, lines, our_lines, strace_lines, trace
from tests.live.unprivileged import unprivileged

__all__ = ["unprivileged"]

from insitu.convert.open import open_session
from insitu.convert.sources import finish
from insitu.errors import InsituError
from insitu.record.run import Destination, Request, Run, record, run
from insitu.record.sources.ptrace import PtraceSource
from insitu.syscalls.argument import TextOptions
from insitu.syscalls.call import Enter, Event, Executed, Exit, Exited, Forked, Signal, Stopped
from insitu.syscalls.decode import call_name
from insitu.syscalls.engine_options import EngineOptions
from insitu.syscalls.event_bytes import read_events
from insitu.syscalls.facts import facts_of
from insitu.syscalls.injection import parse_injection

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """traced.c"""
    path = tmp_path_factory.mktemp("traced") / "traced"
    subprocess.run(["gcc", "-O1", "-pthread", "-o", path, HERE / "traced.c"], check=True)
    return str(path)


def names(events) -> Counter[str]:
    return Counter(call_name(each.abi, each.nr) for each in events if isinstance(each, Enter))


def strace_names(command, output: Path) -> Counter[str]:
    """How often strace has seen each call, in all processes and threads."""
    subprocess.run(["strace", "-f", "-qq", "-e", "signal=none", "-o", output, *command], check=False)
    words = (re.match(r"\d+ +(\w+)\(", line) for line in output.read_text("latin-1").splitlines())
    return Counter(word[1] for word in words if word)


def of_calls(*words: str) -> frozenset[tuple[str, int]]:
    return frozenset(("x86_64", facts_of("x86_64").numbers[word]) for word in words)


def tracer(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"TracerPid:\s+(\d+)", status)[1])


def test_the_first_call_is_exec_and_all_calls_are_those_of_strace(program, tmp_path):
    command = [program, "memory"]
    ours = our_lines(command, string_limit=4096, text=TextOptions(string_limit=4096))
    assert ours[0].startswith(f'execve("{program}", ["{program}", "memory"], 0x')
    theirs = [line for line in strace_lines(command, tmp_path / "strace") if not line.startswith("+++")]
    assert [line.partition("(")[0] for line in ours] == [line.partition("(")[0] for line in theirs]


def test_strings_at_the_end_of_memory_and_pointers_to_nothing_are_shown_as_strace_does(program, tmp_path):
    def accesses(found):
        # The address of the page is another one each time.
        return [re.sub(r"0x7f\w+", "ADDRESS", line) for line in found if re.match("(access|write|execve)", line)][2:]

    command = [program, "memory"]
    assert accesses(our_lines(command)) == accesses(strace_lines(command, tmp_path / "strace"))


@pytest.mark.parametrize("mode", [("threads", "20"), ("processes", "20")])
def test_threads_and_children_are_followed(program, tmp_path, mode):
    command = [program, *mode]
    events, status = trace(command)
    assert status == 0
    counted = names(events)
    expected = strace_names(command, tmp_path / "strace")
    # How long threads wait for each other is another matter.
    for word in ("getppid", "vfork", "wait4", "exit", "exit_group", "clone3", "rseq", "execve"):
        assert counted[word] == expected[word], word


def test_two_thousand_threads_are_all_seen(program):
    events, status = trace([program, "threads", "2000"], options=EngineOptions(calls=of_calls("getppid")))
    assert status == 0
    assert len({each.tid for each in events if isinstance(each, Enter)}) == 2000
    forked = {each.child_tid for each in events if isinstance(each, Forked)}
    assert len(forked) == 2000
    assert len({each.pid for each in events if isinstance(each, Exited)}) == 1
    assert {each.tid for each in events if isinstance(each, Exited)} >= forked


def test_ten_thousand_short_processes_are_all_seen_to_end(program):
    events, status = trace([program, "processes", "10000"], options=EngineOptions(calls=of_calls("exit_group")))
    assert status == 0
    ended = Counter(each.status for each in events if isinstance(each, Exited))
    expected = Counter((number & 63) << 8 for number in range(10000))
    expected[0] += 1
    assert ended == expected
    assert sum(isinstance(each, Forked) for each in events) == 10000  # each is announced once


def test_exec_by_a_thread_changes_its_number(program):
    events, status = trace([program, "exec-in-thread"])
    assert status == 0
    (first, second) = [each for each in events if isinstance(each, Executed)]
    assert first.old_tid == first.tid == first.pid
    assert second.tid == second.pid == first.pid != second.old_tid
    before = events.index(second)
    entered = [each for each in events[:before] if isinstance(each, Enter) and each.tid == second.old_tid][-1]
    assert call_name(entered.abi, entered.nr) == "execve"
    left = next(each for each in events[before:] if isinstance(each, Exit))
    assert (left.tid, left.ret) == (second.tid, 0)


def test_signals_and_exit_statuses_are_those_of_the_program():
    script = "kill -USR1 $$; trap 'exit 7' TERM; kill -TERM $$"
    events, status = trace(["sh", "-c", f"trap : USR1; {script}"])
    assert status == 7
    delivered = [each for each in events if isinstance(each, Signal)]
    assert [each.number for each in delivered] == [signal.SIGUSR1, signal.SIGTERM]
    assert all(each.sender_pid == each.pid and each.code == 0 for each in delivered)
    assert [each.status for each in events if isinstance(each, Exited)] == [7 << 8]
    assert trace(["sh", "-c", "kill -KILL $$"])[1] == 128 + signal.SIGKILL


def test_a_child_that_stops_is_left_stopped_until_it_is_continued(program):
    events, status = trace([program, "stop"])
    assert status == 5
    (stopped,) = [each for each in events if isinstance(each, Stopped)]
    assert stopped.number == signal.SIGSTOP
    own = [each for each in events if isinstance(each, Signal | Stopped) and each.tid == stopped.tid]
    assert [each.number for each in own] == [signal.SIGSTOP, signal.SIGSTOP, signal.SIGCONT]


@pytest.fixture
def echo(program):
    """A program of two threads that echoes its input, and waits for some."""
    with subprocess.Popen([program, "echo", "2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        say(running, b"a")  # its threads are there
        yield running
        running.stdin.close()


def say(running, what: bytes) -> None:
    running.stdin.write(what)
    running.stdin.flush()
    assert running.stdout.read(1) == what


def run_until(events: list[Event], source: PtraceSource, request: Request, enough) -> None:
    with closing(Run(request, [source], Destination())) as running:
        running.open()
        running.start()
        while not enough(events) and running.turn():
            pass
        running.finish()


def test_a_running_process_is_attached_to_with_all_threads_and_goes_on_untraced(echo):
    events: list[Event] = []

    def enough(found: list[Event]) -> bool:
        threads = {each.tid for each in found if isinstance(each, Enter)}
        return len(threads) == 2

    run_until(events, PtraceSource(EngineOptions(), events.extend), Request(pids=(echo.pid,)), enough)
    assert lines(events, echo.pid)[0].startswith("read(0, ")
    assert tracer(echo.pid) == 0
    say(echo, b"b")


def test_calls_of_an_attached_process_are_seen_and_its_end_ends_the_trace(echo):
    events: list[Event] = []
    source = PtraceSource(EngineOptions(), events.extend)
    with closing(Run(Request(pids=(echo.pid,)), [source], Destination())) as running:
        running.open()
        running.start()
        while not events:
            running.turn()
        say(echo, b"c")
        echo.stdin.close()
        while running.turn():
            pass
        running.finish()
    shown = [line for line in lines(events, echo.pid) if line.startswith(("read", "write"))]
    assert shown == ['read(0, "c", 1) = 1', 'write(1, "c", 1) = 1', 'read(0, "", 1) = 0']
    assert echo.wait() == 0
    assert [each.status for each in events if isinstance(each, Exited) and each.tid == echo.pid] == [0]


def test_a_sleep_that_runs_while_we_attach_is_a_call_that_was_running():
    with subprocess.Popen(["sleep", "1000"]) as sleeping:
        while "clock_nanosleep" not in call_name("x86_64", int(in_call(sleeping.pid) or -1)):
            pass
        events: list[Event] = []
        source = PtraceSource(EngineOptions(), events.extend)
        run_until(
            events, source, Request(pids=(sleeping.pid,)), lambda found: any(isinstance(e, Enter) for e in found)
        )
        sleeping.kill()
    first = next(each for each in events if isinstance(each, Enter))
    assert first.attached
    assert call_name(first.abi, first.nr) == "clock_nanosleep"


def in_call(pid: int) -> str:
    word = Path(f"/proc/{pid}/syscall").read_text().split()[0]
    return word if word.isdecimal() else ""


_TRACER = """
import sys
from insitu.record.run import *
from insitu.record.sources.ptrace import PtraceSource
from insitu.syscalls.engine_options import EngineOptions
from insitu.syscalls.argument import TextOptions
from insitu.syscalls.call import Enter
threads = set()
def deliver(events):
    threads.update(each.tid for each in events if isinstance(each, Enter))
    if len(threads) == 2:
        print("tracing", flush=True)
run(Request(pids=(int(sys.argv[1]),)), [PtraceSource(EngineOptions(), deliver)], Destination())
"""


@pytest.fixture
def other_tracer(echo):
    """Another process that traces the echoing program."""
    with subprocess.Popen([sys.executable, "-c", _TRACER, str(echo.pid)], stdout=subprocess.PIPE) as running:
        assert running.stdout.readline() == b"tracing\n"
        yield running
        running.kill()


def test_the_target_goes_on_untraced_when_its_tracer_is_killed(echo, other_tracer):
    say(echo, b"d")
    assert tracer(echo.pid) != 0
    other_tracer.kill()
    other_tracer.wait()
    assert tracer(echo.pid) == 0
    say(echo, b"e")
    assert echo.poll() is None


def test_interrupting_the_tracer_detaches(echo, other_tracer):
    other_tracer.send_signal(signal.SIGINT)
    other_tracer.wait()
    assert tracer(echo.pid) == 0
    say(echo, b"f")


def test_a_second_tracer_is_told_who_the_first_is(echo, other_tracer):
    with pytest.raises(InsituError, match=rf"process {echo.pid}: process \d+ \(python.*\) traces it already"):
        trace(pids=[echo.pid])


def test_kernel_threads_are_refused_by_name():
    with pytest.raises(InsituError, match="process 2: it is a kernel thread"):
        trace(pids=[2])


def test_a_process_that_has_ended_is_an_error_in_one_line():
    ended = subprocess.Popen(["true"])
    ended.wait()
    with pytest.raises(InsituError, match="does not exist"):
        trace(pids=[ended.pid])


def test_a_command_that_cannot_be_run_is_an_error_as_without_a_tracer(tmp_path):
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF nothing")
    broken.chmod(0o755)
    with pytest.raises(InsituError) as refused:
        trace([str(broken)])
    assert refused.value.status == 126


@pytest.mark.parametrize(
    ("flag", "entry", "abi", "number", "exit_code"),
    [
        ("-m32", "mov $1, %eax; mov $42, %ebx; int $0x80", "i386", 1, 42),
        ("-m64", "mov $0x4000003c, %eax; mov $42, %edi; syscall; mov $60, %eax; syscall", "x32", 0x4000003C, 42),
    ],
)
def test_calls_of_other_abis_are_told_apart(tmp_path, flag, entry, abi, number, exit_code):
    (tmp_path / "it.c").write_text(f'void _start(void) {{ __asm__("{entry}"); }}\n')
    made = ["gcc", flag, "-nostdlib", "-static", "-o", tmp_path / "it", tmp_path / "it.c"]
    if subprocess.run(made, capture_output=True, check=False).returncode:
        pytest.skip(f"gcc {flag} does not work here")
    events, status = trace([str(tmp_path / "it")])
    assert status == exit_code
    call = next(each for each in events if isinstance(each, Enter) and each.abi == abi)
    assert (call.nr, call.args[0]) == (number, 42)


def test_only_the_calls_asked_for_stop_a_filtered_program(program):
    options = EngineOptions(calls=of_calls("openat", "exit_group"), seccomp=True)
    events, status = trace([program, "calls", "100000"], options=options)
    assert status == 0
    assert set(names(events)) == {"openat", "exit_group"}
    assert all(call.exit is not None for call in calls_of(events) if call.enter.nr == 257)
    unfiltered, _ = trace([program, "calls", "10"], options=options._replace(seccomp=False))
    assert names(unfiltered) == names(events)


def test_a_filtered_program_and_its_children_are_followed(program):
    options = EngineOptions(calls=of_calls("exit_group"), seccomp=True)
    events, status = trace([program, "processes", "50"], options=options)
    assert status == 0
    assert names(events) == {"exit_group": 51}
    assert len([each for each in events if isinstance(each, Exited)]) == 51


def without_numbers(line: str) -> str:
    """Inodes, ports and process ids differ from run to run."""
    line = re.sub(r"((?:\[|->|ROUTE:|pid:|insitu-test-|1\]?:)\[?)\d{2,}", r"\1N", line)
    return re.sub(r"/directory-\w+", "/DIRECTORY", line.partition(", {st_mode")[0])


@pytest.mark.parametrize(("level", "option"), [(1, "-y"), (2, "-yy")])
def test_descriptors_are_described_as_strace_does(tmp_path, level, option):
    def command(name: str) -> list[str]:
        (tmp_path / name).mkdir()
        return [sys.executable, "-S", "-E", "-s", str(HERE / "open_descriptors.py"), str(tmp_path / name)]

    def chosen(found: list[str]) -> list[str]:
        return [without_numbers(line) for line in found if re.match(r"(newfstatat|fstat)\(\d|dup2|pipe2", line)]

    ours = our_lines(command("directory-a"), descriptors=level, text=TextOptions(descriptors=level))
    theirs = strace_lines(command("directory-b"), tmp_path / "strace", option)
    assert chosen(ours)[-30:] == chosen(theirs)[-30:]


class Kept(Destination):
    """Records to a directory, without a session around it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def directory(self, source):
        return self.path


def test_what_is_recorded_is_what_is_delivered(program, tmp_path):
    events: list[Event] = []
    source = PtraceSource(EngineOptions(), events.extend)
    outcome = run(Request(command=(program, "memory")), [source], Kept(tmp_path))
    file = tmp_path / "events.records"
    assert outcome.bytes_written == file.stat().st_size
    with file.open("rb") as records:
        assert lines(list(read_events(records))) == lines(events)


SPECS = [
    "openat:error=ENOENT:when=2+2",
    "openat:error=EPERM:when=3",
    "openat:retval=7:when=3..4",
    "read:signal=WINCH:when=2",
    "read:signal=USR1:when=2",
    "close:delay_enter=1000:when=2",
    "close:delay_exit=1ms:when=2",
    "openat:error=5:delay_exit=500us:when=1",
    "close,read:retval=0:when=1..3+2",
]


def resolve(names: str) -> frozenset[tuple[str, int]]:
    return of_calls(*names.split(","))


@pytest.mark.parametrize("spec", SPECS)
def test_faults_are_injected_where_strace_does(tmp_path, spec):
    def summary(found: list[str]) -> list[str]:
        return [re.sub(r"\(.*\) =", " =", line) for line in found if re.match(r"openat|read|close", line)]

    command = ["cat", "/etc/hostname", "/nonexistent", "/etc/hostname"]
    events, status = trace(command, options=EngineOptions(inject=(parse_injection(spec, resolve),)))
    theirs = strace_lines(command, tmp_path / "strace", "-e", f"inject={spec}")
    assert summary(lines(events)) == summary(theirs)
    last = theirs[-1]
    killed = re.search(r"killed by (SIG\w+)", last)
    assert status == (128 + signal.Signals[killed[1]] if killed else int(re.search(r"exited with (\d+)", last)[1]))


def test_each_thread_counts_its_own_calls_for_an_injection(program):
    injection = parse_injection("getppid:retval=77:when=1", resolve)
    events, _ = trace(
        [program, "threads", "5"], options=EngineOptions(calls=of_calls("getppid"), inject=(injection,))
    )
    returned = [(each.ret, each.injected) for each in events if isinstance(each, Exit)]
    assert returned == [(77, True)] * 5


def test_faults_are_injected_into_a_filtered_program(program):
    injection = parse_injection("getppid:error=EIO:when=2+", resolve)
    options = EngineOptions(calls=of_calls("getppid"), inject=(injection,), seccomp=True)
    events, status = trace([program, "calls", "3"], options=options)
    assert status == 0
    assert [each.injected for each in events if isinstance(each, Exit)] == [False, True, True]
    assert [each.ret for each in events if isinstance(each, Exit)][1:] == [-5, -5]


def test_stacks_are_those_of_strace(program, tmp_path):
    found: list[tuple[str, list[str]]] = []

    def deliver(events) -> None:
        entered = (each for each in events if isinstance(each, Enter))
        found.extend(
            (call_name(each.abi, each.nr), addresses(source.stack_frames(each.stack).splitlines()))
            for each in entered
        )

    def addresses(frames) -> list[str]:
        # Names differ: we read debug files, and strace only the symbols for dynamic linking.
        return [re.sub(r"\(.*?\) ", " ", frame) for frame in frames]

    source = PtraceSource(EngineOptions(stacks=True), deliver)
    run(Request(command=(program, "memory")), [source], Destination())
    theirs: list[tuple[str, list[str]]] = []
    for line in strace_lines([program, "memory"], tmp_path / "strace", "-k"):
        if line.startswith(" > "):
            theirs[-1][1].extend(addresses([line.removeprefix(" > ")]))
        elif "(" in line:
            theirs.append((line.partition("(")[0], []))
    # That of the first execve() is strace's after it, and ours before.
    assert found[1:] == theirs[1:]
    assert all(frames for _, frames in found)


_AS_USER = """
import sys
sys.path.insert(0, "src")
from insitu.record.run import *
from insitu.record.sources.ptrace import PtraceSource
from insitu.syscalls.engine_options import EngineOptions
from insitu.syscalls.facts import facts_of
from insitu.syscalls.call import Enter
seccomp = sys.argv[1] == "seccomp"
calls = frozenset([("x86_64", facts_of("x86_64").numbers["geteuid"])])
count = [0]
def deliver(events):
    count[0] += sum(isinstance(each, Enter) for each in events)
source = PtraceSource(EngineOptions(calls=calls, seccomp=seccomp), deliver)
outcome = run(Request(command=tuple(sys.argv[2:])), [source], Destination())
print(count[0] > 0, outcome.exit_status, *outcome.notes)
"""


@pytest.mark.parametrize("filtered", ["seccomp", "all"])
def test_users_trace_their_own_programs_and_set_user_id_programs_run_without_privilege(unprivileged, filtered):
    privileged = unprivileged.directory / "privileged-id"
    shutil.copy(shutil.which("id"), privileged)
    privileged.chmod(0o4755)
    done = unprivileged.python("-c", _AS_USER, filtered, str(privileged), "-u")
    *printed, last = done.stdout.splitlines()
    assert done.stderr == ""
    assert printed == ["65534"]
    assert last == f"True 0 {privileged} runs without its set-user-ID privilege while it is traced"


def test_another_users_process_is_refused(unprivileged, echo):
    script = _AS_USER.replace("command=tuple(sys.argv[2:])", "pids=(int(sys.argv[2]),)")
    done = unprivileged.python("-c", script, "all", str(echo.pid))
    assert "it belongs to user 0" in done.stderr


def test_a_stopped_process_stays_stopped_while_it_is_attached_to_and_afterwards(echo):
    echo.send_signal(signal.SIGSTOP)
    os.waitpid(echo.pid, os.WUNTRACED)
    events: list[Event] = []
    source = PtraceSource(EngineOptions(), events.extend)
    run_until(events, source, Request(pids=(echo.pid,)), lambda found: any(isinstance(e, Stopped) for e in found))
    assert tracer(echo.pid) == 0
    status, until_s = Path(f"/proc/{echo.pid}/status"), time.monotonic() + 60
    while not (stopped := re.search(r"State:\s+T ", status.read_text())) and time.monotonic() < until_s:
        time.sleep(0.01)  # detached, it is on its way into the stop again
    assert stopped
    echo.send_signal(signal.SIGCONT)
    say(echo, b"g")


@pytest.mark.parametrize("mode", [("threads", "300"), ("processes", "50"), ("exec-in-thread",), ("none",)])
def test_targets_that_change_or_end_while_they_are_attached_to(program, mode):
    for _ in range(10):
        with subprocess.Popen([program, *mode]) as running:
            try:
                events, status = trace(pids=[running.pid])
            except InsituError as error:
                assert re.search("has ended|does not exist", str(error))
            else:
                assert status == 0
                ended = [each.status for each in events if isinstance(each, Exited) and each.tid == running.pid]
                assert ended in ([], [0])
            assert running.wait() == 0


def test_a_session_has_as_many_calls_as_strace_counts(program, tmp_path):
    command = [program, "memory"]
    record(Request(command=tuple(command)), [PtraceSource(EngineOptions())], tmp_path / "run.insitu")
    finish(tmp_path / "run.insitu")
    with closing(open_session(tmp_path / "run.insitu")) as session:
        rows = session.sql("SELECT name, count(*)::int FROM span JOIN syscall ON span_id = id GROUP BY name").rows()
    assert Counter(dict(rows)) == strace_names(command, tmp_path / "strace")
