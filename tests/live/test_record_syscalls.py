"""System calls by eBPF on this kernel: events, sessions and counts beside strace's of the same program."""

import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

import insitu
from insitu.convert.sources import finish
from insitu.record.run import Destination, Outcome, Request, record, run
from insitu.record.sources.off_cpu import OffCpuSource
from insitu.record.sources.processes import ProcessesSource
from insitu.record.sources.syscalls import SyscallsSource
from insitu.record.sources.syscalls_summary import SummaryRow, SummarySource
from insitu.syscalls.call import Call, Enter, Event, Executed, Exit, Exited, Forked, LostHere, Signal
from insitu.syscalls.decode import Decoder, call_name
from insitu.syscalls.engine_options import EngineOptions

# Calls of two processes and of a thread, which each return something else; paths that are not in memory at first.
_PROGRAM = r"""
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
static void *other(void *arg) { for (int i = 0; i < 10; i++) { lseek(-1, i, 0); } return arg; }
int main(void)
{
    pthread_t thread;
    int ends[2];
    char byte;
    struct iovec parts[2] = {{"hello", 5}, {" world", 6}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    pthread_create(&thread, 0, other, 0);
    pthread_join(thread, 0);
    for (int i = 0; i < 100; i++) { close(open("/does/not/exist", O_RDONLY)); }
    socketpair(AF_UNIX, SOCK_DGRAM, 0, ends);
    sendmsg(ends[0], &message, 0);
    read(ends[1], &byte, 1);
    signal(SIGUSR1, SIG_IGN);
    if (!fork()) { execl("/bin/true", "true", "an argument", (char *)0); }
    wait(0);
    kill(getpid(), SIGTERM);
}
"""
# Which of these there are, and how often, depends on scheduling.
_UNSTEADY = {"futex", "restart_syscall", "sched_yield", "rt_sigreturn"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("calls")
    (directory / "calls.c").write_text(_PROGRAM)
    subprocess.run(["gcc", "-O1", "-pthread", "-o", directory / "calls", directory / "calls.c"], check=True)
    return str(directory / "calls")


@pytest.fixture(scope="module")
def straced(program: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines of strace, without what it says of signals and ends."""
    output = tmp_path_factory.mktemp("strace") / "out"
    subprocess.run(["strace", "-f", "-qq", "-o", output, program], check=False)
    lines = output.read_text().splitlines()
    return [line.split(None, 1)[1] for line in lines if not re.search(r"(\+\+\+|---| resumed>)", line)]


def _counts(names: Sequence[str]) -> Counter[str]:
    return Counter(name for name in names if name not in _UNSTEADY)


@pytest.fixture(scope="module")
def events(program: str) -> list[Event]:
    found: list[Event] = []
    outcome = run(Request(command=(program,)), [SyscallsSource(EngineOptions(), found.extend)], Destination())
    assert outcome.exit_status == 128 + 15 and not outcome.lost
    return found


def test_the_calls_of_a_program_are_those_that_strace_sees(events: list[Event], straced: list[str]) -> None:
    names = [call_name(event.abi, event.nr) for event in events if isinstance(event, Enter)]
    assert _counts(names) == _counts([line.partition("(")[0] for line in straced])
    assert not [event for event in events if isinstance(event, LostHere)]


def test_events_are_in_order_of_time_and_each_exit_follows_its_entry(events: list[Event]) -> None:
    assert [event[0] for event in events] == sorted(event[0] for event in events)
    inside: set[int] = set()
    for event in events:
        if isinstance(event, Executed):
            inside.discard(event.old_tid)
            inside.add(event.tid)
        elif isinstance(event, Enter):
            assert event.tid not in inside
            inside.add(event.tid)
        elif isinstance(event, Exit):
            inside.remove(event.tid)


def test_the_text_of_calls_is_straces(events: list[Event], straced: list[str]) -> None:
    decoder, opened, lines = Decoder(), {}, []
    for event in events:
        if isinstance(event, Enter):
            opened[event.tid] = event
        elif isinstance(event, Exit):
            call = Call(opened.pop(event.tid), event)
            text = ", ".join(piece.text for piece in decoder.arguments(call))
            lines.append(f"{call_name(call.enter.abi, call.enter.nr)}({text}) = {decoder.result(call)}")
    wanted = [re.sub(r"\) +=", ") =", line) for line in straced]
    for name in ("openat", "access", "sendmsg", "socketpair", "lseek"):
        assert Counter(line for line in lines if line.startswith(f"{name}(")) == Counter(
            line for line in wanted if line.startswith(f"{name}(")
        )
    assert any('["true", "an argument"]' in line for line in lines)


def test_children_threads_programs_signals_and_ends_are_events(events: list[Event]) -> None:
    forked = [event for event in events if isinstance(event, Forked)]
    assert [event.child_pid == event.child_tid for event in forked] == [False, True]
    assert len([event for event in events if isinstance(event, Executed)]) == 2
    ends = {event.tid: event.status for event in events if isinstance(event, Exited)}
    main = forked[0].pid
    assert ends == {main: 15, forked[0].child_tid: 0, forked[1].child_tid: 0}
    signals = [(event.tid, event.number) for event in events if isinstance(event, Signal)]
    assert signals == [(main, 17), (main, 15)]  # what is ignored, too


def test_a_session_has_the_calls_with_their_text(program: str, straced: list[str], tmp_path: Path) -> None:
    path = tmp_path / "x.insitu"
    assert not record(Request(command=(program,)), [SyscallsSource(EngineOptions())], path).lost
    finish(path)
    with insitu.open(path) as session:
        rows = session.sql("select name, arguments, errno, dur_ns, path from span join syscall on span_id = span.id")
        ends = session.sql(  # not those that were inherited
            "select path, until_ns, upid from descriptor"
            " where kind = 'socket' and from_ns > (select min(ts_ns) from span)"
        )
    # The child has inherited both ends.
    assert len(ends) == 4 and len(set(ends["path"])) == len(set(ends["upid"])) == 2
    assert ends["until_ns"].null_count() == 4
    programs = [text.partition(", 0x")[0] for text in rows.filter(rows["name"] == "execve")["arguments"]]
    wanted = [line.removeprefix("execve(").partition(", 0x")[0] for line in straced if line.startswith("execve(")]
    assert programs == wanted and wanted[1] == '"/bin/true", ["true", "an argument"]'
    assert _counts(list(rows["name"])) == _counts([line.partition("(")[0] for line in straced])
    missing = rows.filter(rows["path"] == "/does/not/exist")
    assert len(missing) == 100 and set(missing["errno"]) == {2}
    assert set(missing["arguments"]) == {'AT_FDCWD, "/does/not/exist", O_RDONLY'}


class _Rows(Destination):
    """Reads the counts when the run has ended."""

    def __init__(self, source: SummarySource) -> None:
        self.source = source
        self.rows: Sequence[SummaryRow] = ()

    def end(self, end_ns: int, outcome: Outcome) -> None:
        """See Destination."""
        self.rows = self.source.rows()


def test_counts_are_those_of_strace_and_times_add_up(program: str, tmp_path: Path) -> None:
    source = SummarySource(EngineOptions())
    counted = _Rows(source)
    run(Request(command=(program,)), [source], counted)
    subprocess.run(["strace", "-f", "-c", "-o", tmp_path / "counts", program], check=False)
    columns = [line.split() for line in (tmp_path / "counts").read_text().splitlines()[2:-2]]
    wanted = {each[-1]: (int(each[3]), int(each[4]) if len(each) == 6 else 0) for each in columns}
    found = {row.name: (row.calls, row.errors) for row in counted.rows}
    for name in ("openat", "close", "lseek", "sendmsg", "execve", "mmap", "wait4"):
        assert found[name] == wanted[name]
    for row in counted.rows:
        assert row.least_ns <= row.percentiles_ns[0] <= row.percentiles_ns[-1] <= row.most_ns <= row.wall_ns
        assert 0 < row.system_ns <= row.wall_ns


def test_a_call_that_runs_when_the_recording_begins_is_attached() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as target:
        assert target.stdin is not None
        state = Path(f"/proc/{target.pid}/syscall")
        while not state.read_text().startswith("0 0x0 "):
            pass
        found: list[Event] = []

        class Started(Destination):
            """Lets the program go on, once it is recorded."""

            def settle(self) -> None:
                """See Destination."""
                assert target.stdin is not None
                target.stdin.close()

        run(Request(pids=(target.pid,)), [SyscallsSource(EngineOptions(), found.extend)], Started())
    entered, left = [event for event in found if isinstance(event, Enter | Exit)][:2]
    assert isinstance(entered, Enter) and entered.attached and (entered.nr, entered.args[0]) == (0, 0)
    assert isinstance(left, Exit) and left.ret == 0


def test_waits_and_calls_of_one_session_have_ids_of_their_own(program: str, tmp_path: Path) -> None:
    path = tmp_path / "x.insitu"
    sources = [ProcessesSource(), OffCpuSource(), SyscallsSource(EngineOptions())]
    record(Request(command=(program,)), sources, path)
    finish(path)
    with insitu.open(path) as session:
        spans = session.sql("select id, category from span")
        joined = session.sql("select category from span join syscall on span_id = span.id")
    assert set(spans["category"]) == {"off-cpu", "syscall"}
    assert spans["id"].n_unique() == len(spans)
    assert set(joined["category"]) == {"syscall"}
