"""The parts of a recorder that need no perf event: the held-back command, made-up records, requests."""

import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.kernel.perf_event import Record, Sample
from insitu.record import loop as loop_module
from insitu.record.interrupts import Interrupts
from insitu.record.launcher import Launched, executable
from insitu.record.loop import Loop
from insitu.record.run import Destination, Request, record, run
from insitu.record.source import Loss, Target
from insitu.record.sources.perf import PerfOptions
from insitu.record.synthesized import Synthesized, lost_in_records
from insitu.session.manifest import Manifest


def test_a_command_runs_only_when_it_is_released(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    command = Launched(["touch", str(mark)])
    assert procfs.comm(command.pid) != b"touch"
    assert not mark.exists()
    command.release()
    command.wait()
    assert mark.exists()
    assert command.exit_status == 0
    command.close()


def test_a_command_that_is_never_released_never_runs(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    command = Launched(["touch", str(mark)])
    command.close()
    assert command.ended()
    assert not mark.exists()


def test_a_command_whose_recorder_is_killed_before_releasing_it_never_runs(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    recorder = (
        "import os, signal; from insitu.record.launcher import Launched\n"
        f"w = Launched(['touch', {str(mark)!r}]); print(w.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", recorder], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    child = int(done.stdout)
    for _ in range(200):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        threading.Event().wait(0.01)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
)
def test_the_exit_status_is_a_shells(script: str, status: int) -> None:
    command = Launched(["sh", "-c", script])
    command.release()
    command.wait()
    assert command.exit_status == status
    command.close()


def test_what_cannot_be_run_has_a_shells_status(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    for name, status in (("no-such-command-here", 127), (str(plain), 126), (str(tmp_path), 126)):
        with pytest.raises(InsituError) as caught:
            executable([name])
        assert caught.value.status == status


def test_a_file_of_no_known_format_fails_at_exec_with_126(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF garbage")
    broken.chmod(0o755)
    command = Launched([str(broken)])
    with pytest.raises(InsituError) as caught:
        command.release()
    assert caught.value.status == 126
    command.close()


def test_a_command_that_has_settled_has_prepared_itself() -> None:
    with Interrupts() as interrupts:
        command = Launched(["true"], interrupts.ignored_before)
        command.settle()
        status = Path(f"/proc/{command.pid}/status").read_text()
        caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt:")).split()[1], 16)
        assert not caught & 1 << signal.SIGTERM - 1
        command.settle()
        command.release()
        command.wait()
        assert command.exit_status == 0
        command.close()


def test_the_commands_sigpipe_is_not_ignored() -> None:
    command = Launched(["sh", "-c", "grep -q 'SigIgn:.*[13579bdf]...$' /proc/self/status && exit 1; exit 0"])
    command.release()
    command.wait()
    assert command.exit_status == 0
    command.close()


def test_interrupts_are_counted_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts() as interrupts:
        assert interrupts.seen() == 0
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.seen() == 2
    assert signal.getsignal(signal.SIGTERM) == before


class _Signalled:
    """A source that gets a signal in one of its steps."""

    id, notes, options, fds, wait_s, ended = "signalled", (), {}, (), 0.01, False

    def __init__(self, number: signal.Signals, step: str) -> None:
        self._number, self._step = number, step

    def _reach(self, step: str) -> None:
        if step == self._step:
            os.kill(os.getpid(), self._number)

    def open(self, target: Target) -> None:
        self._reach("open")

    def start(self, directory: Path | None, start_ns: int) -> None:
        self._reach("start")

    def drain(self) -> int:
        self._reach("drain")
        return 0

    def stop(self, end_ns: int) -> None: ...

    def losses(self) -> list[Loss]:
        return []

    def close(self) -> None: ...


def test_the_time_of_a_recording_does_not_include_that_of_attaching(tmp_path: Path) -> None:
    class Slow(_Signalled):
        def start(self, directory: Path | None, start_ns: int) -> None:
            self.begun_ns, self.attached_ns = start_ns, time.monotonic_ns()

        def stop(self, end_ns: int) -> None:
            self.end_ns = end_ns

        def layout(self) -> dict[str, str]:
            return {"kind": "perf"}

    source = Slow(signal.SIGINT, "never")
    record(Request(("true",)), [source], tmp_path / "x.insitu")
    manifest = Manifest.read(tmp_path / "x.insitu")
    assert source.begun_ns < source.attached_ns <= manifest.start_ns <= source.end_ns == manifest.end_ns
    # The two clocks that say when it started go together.
    offset_ns = time.time_ns() - time.monotonic_ns()
    assert abs(manifest.start_realtime_ns - manifest.start_ns - offset_ns) < 60e9


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)],
)
@pytest.mark.parametrize("step", ["open", "start"])
def test_a_signal_before_the_recording_gives_the_status_of_a_shell(
    number: signal.Signals, status: int, step: str, tmp_path: Path
) -> None:
    command = ("touch", str(tmp_path / "made"))
    with pytest.raises(InsituError, match="interrupted before the recording began") as caught:
        run(Request(command), [_Signalled(number, step)], Destination())
    assert caught.value.status == status
    assert not (tmp_path / "made").exists()


def test_sigquit_ends_the_command_and_the_recording_with_131() -> None:
    class Quit(_Signalled):
        pid = 0

        def open(self, target: Target) -> None:
            assert target.launched is not None
            self.pid = target.launched.pid

    source = Quit(signal.SIGQUIT, "drain")
    outcome = run(Request(("sleep", "1000")), [source], Destination())
    assert (outcome.exit_status, outcome.quit) == (131, True)
    with pytest.raises(ChildProcessError):  # nothing of it is left
        os.waitpid(source.pid, os.WNOHANG)


def test_a_command_does_not_inherit_the_handling_of_signals() -> None:
    with Interrupts() as interrupts:
        command = Launched(["sh", "-c", "kill -QUIT $$; exit 5"], interrupts.ignored_before)
        command.release()
        command.wait()
        assert command.exit_status == 131
        command.close()


def test_an_ignored_interrupt_is_heard_and_goes_on_being_ignored_by_the_command() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            command = Launched(["sh", "-c", "kill -INT $$; exit 5"], interrupts.ignored_before)
            command.release()
            command.wait()
            assert command.exit_status == 5
            command.close()
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupts.seen() == 1
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_of_the_main_thread_interrupts_change_nothing() -> None:
    seen: list[int] = []

    def use() -> None:
        with Interrupts() as interrupts:
            seen.append(interrupts.seen())

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert seen == [0]


@pytest.mark.parametrize(
    "asked",
    [
        Request(),
        Request(command=("true",), pids=(1,)),
        Request(pids=(1,), whole_system=True),
        Request(command=("true",), seconds=-1),
        Request(command=("true",), seconds=float("nan")),
        PerfOptions(frequency=0),
        PerfOptions(user=False, kernel=False),
        PerfOptions(ring_pages=3),
        PerfOptions(stack_bytes=65536),
    ],
)
def test_requests_that_make_no_sense_are_wrong_usage(asked: Request | PerfOptions) -> None:
    with pytest.raises(InsituError) as caught:
        asked.check()
    assert caught.value.status == 2


def records(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        kind, _, size = struct.unpack_from("=IHH", data)
        found.append((kind, data[8:size]))
        data = data[size:]
    return found


FULL = Sample.TID | Sample.TIME | Sample.ID | Sample.STREAM_ID | Sample.CPU | Sample.IDENTIFIER


@given(st.binary(max_size=64).filter(lambda name: b"\0" not in name))
def test_made_up_records_are_whole_words_with_a_terminated_name(name: bytes) -> None:
    record = Synthesized(FULL, 77, 123).comm(5, 6, name)
    assert len(record) % 8 == 0
    [(kind, body)] = records(record)
    assert kind == Record.COMM
    assert struct.unpack_from("=II", body) == (5, 6)
    assert body[8:].split(b"\0", 1)[0] == name
    # struct sample_id, in the kernel's order: tid, time, id, stream id, cpu, identifier.
    assert struct.unpack("=IIQQQIIQ", body[-48:]) == (5, 6, 123, 77, 77, 0, 0, 77)


def test_this_process_is_described_by_its_threads_and_its_executable_mappings() -> None:
    pid = os.getpid()
    found = records(b"".join(Synthesized(Sample.TIME, 0, 9).of_processes([pid])))
    assert {struct.unpack_from("=IIII", body)[2] for kind, body in found if kind == Record.FORK} == set(
        procfs.threads(pid)
    )
    starts = {struct.unpack_from("=IIQ", body)[2] for kind, body in found if kind == Record.MMAP2}
    lines = Path("/proc/self/maps").read_text().splitlines()
    executables = [line for line in lines if "x" in line.split()[1] and "vsyscall" not in line]
    assert starts == {int(line.split("-")[0], 16) for line in executables}


def test_a_process_that_has_gone_is_left_out() -> None:
    assert list(Synthesized(Sample.TIME, 0, 0).of_processes([4194304])) == []


@given(st.lists(st.integers(1, 1 << 40), max_size=6), st.integers(0, 40), st.binary(max_size=30))
def test_losses_are_summed_up_to_what_is_torn(counts: list[int], cut: int, tail: bytes) -> None:
    made = Synthesized(FULL, 1, 2)
    whole = [made.lost(count, 0) for count in counts]
    data = b"".join(made.comm(1, 1, b"x") + record for record in whole)
    assert lost_in(data) == sum(counts)
    if whole:
        assert lost_in(data[: -1 - cut]) == sum(counts[:-1])
    lost_in(data + tail)  # whatever follows, no exception


def lost_in(data: bytes) -> int:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return lost_in_records(Path(file.name))


def test_a_stopped_command_ends_with_its_recording() -> None:
    command = Launched(["sh", "-c", "kill -STOP $$"])
    command.release()
    os.waitid(os.P_PID, command.pid, os.WSTOPPED | os.WNOWAIT)
    loop = Loop([], lambda: None, launched=command, seconds=0.0)
    assert not loop.end_command()
    assert command.exit_status == 128 + signal.SIGTERM
    assert loop.exit_status() == 0  # as for any command that the recording's end has terminated
    command.close()


def test_a_command_that_ignores_sigterm_is_killed_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loop_module, "_GRACE_S", 0.01)
    monkeypatch.setattr(loop_module, "_KILL_AFTER_S", 0.02)
    command = Launched(["sleep", "1000"], ignoring=[signal.SIGTERM])
    command.release()
    loop = Loop([], lambda: None, launched=command, seconds=0.0)
    assert not loop.end_command()
    assert command.exit_status == 128 + signal.SIGKILL
    assert "the command did not end within 0.02 s of SIGTERM: killed" in capsys.readouterr().err
    command.close()


def test_a_command_that_even_sigkill_does_not_end_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one that waits in the kernel; here its signals do not arrive."""
    monkeypatch.setattr(loop_module, "_GRACE_S", 0.01)
    monkeypatch.setattr(loop_module, "_KILL_AFTER_S", 0.02)
    command = Launched(["sleep", "1000"])
    command.release()
    with monkeypatch.context() as lost:
        lost.setattr(command, "signal", lambda number: None)
        loop = Loop([], lambda: None, launched=command, seconds=0.0)
        assert not loop.end_command()
    assert loop.exit_status() == 128 + signal.SIGKILL
    assert "cannot be killed" in capsys.readouterr().err
    assert command.left_running
    command.signal(signal.SIGKILL)
    command.wait()
    command.close()
