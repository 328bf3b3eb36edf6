"""Runs a target in several processes under a limit of memory and a deadline, and writes what they find."""

import contextlib
import mmap
import os
import pickle
import resource
import select
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple

from fuzz.engine import DEADLINE_SECONDS, MEMORY_BYTES, Engine, Finding, bound_memory, limited, name_of
from fuzz.registry import Target

__all__ = ["FINDINGS", "Outcome", "run"]

FINDINGS: Final = Path(__file__).parent / "findings"
_SLOT: Final = struct.Struct("<QdI")  # inputs done, when the last one began (time.monotonic), its bytes
_SLOT_BYTES: Final = 1 << 20
_HANGS_SECONDS: Final = 60.0  # of wall time, for native code that signals cannot end, and for waiting
_MOST_OF_A_KIND: Final = 5
_HOME: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None  # of the inputs that have to be files


class Outcome(NamedTuple):
    """What a run of a target did: ``lines`` of insitu reached, in the process that reached most."""

    mutations: int
    seconds: float
    lines: int
    findings: list[Finding]


class _Worker:
    """A forked process and the input that it reads now, which the parent sees even if it dies."""

    def __init__(self, target: Target, seed: str, mutations: int, until: float, *, guided: bool) -> None:
        self.seed, self.mutations = seed, mutations
        self.slot = mmap.mmap(-1, _SLOT_BYTES)
        self._results = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the worker is of interest
        self.pid = os.fork()
        if not self.pid:
            try:
                _work(target, seed, mutations, until, self.slot, self._results, guided=guided)
            finally:
                os._exit(0)
        self.pidfd = os.pidfd_open(self.pid)

    @property
    def state(self) -> tuple[int, float, bytes]:
        """Inputs done, when the current one began, and the input."""
        done, begun, size = _SLOT.unpack_from(self.slot)
        return done, begun, self.slot[_SLOT.size : _SLOT.size + size]

    def result(self) -> tuple[int, list[Finding]]:
        """Wait for the process: how many lines it reached, -1 if it died, and its findings."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        self._results.seek(0)
        findings: list[Finding] = []
        with self._results as file, contextlib.suppress(EOFError):
            while True:
                found = pickle.load(file)
                if isinstance(found, int):
                    return found, findings
                findings.append(found)
        return -1, [*findings, _death(status, self.state[2])]


def run(target: Target, *, seconds: float, mutations: int, seed: int, processes: int, guided: bool = True) -> Outcome:
    """Give the target inputs until the time or the number of ``mutations`` (0: any) has been reached.

    The same seed, number of processes and corpus give the same inputs. Findings are written to FINDINGS.
    """
    begun = time.monotonic()
    until = begun + seconds
    each = -(-mutations // processes)
    found: dict[str, list[Finding]] = {}
    done = lines = 0
    workers: dict[int, _Worker] = {}
    poll = select.poll()
    waiting = [(f"{seed}-{target.name}-{number}", each) for number in range(processes)]
    while workers or waiting:
        for name, left in waiting:
            worker = _Worker(target, name, left, until, guided=guided)
            workers[worker.pidfd] = worker
            poll.register(worker.pidfd, select.POLLIN)
        waiting = []
        for pidfd, _ in poll.poll(1000):
            poll.unregister(pidfd)
            worker = workers.pop(pidfd)
            reached, findings = worker.result()
            here, _, _ = worker.state
            done += here
            lines = max(lines, reached)
            for finding in findings:
                _keep(target, finding, found)
            # One that died, or that used too much memory, is followed by another.
            unfinished = time.monotonic() < until and (not mutations or here < worker.mutations)
            if unfinished:
                waiting.append((f"{worker.seed}+{here}", worker.mutations - here if mutations else 0))
        for worker in workers.values():
            if worker.state[1] and time.monotonic() - worker.state[1] > _HANGS_SECONDS:
                os.kill(worker.pid, signal.SIGKILL)
    return Outcome(done, time.monotonic() - begun, lines, [kinds[0] for kinds in found.values()])


def _death(status: int, data: bytes) -> Finding:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        what = "hang" if number == signal.SIGKILL else f"killed by {signal.Signals(number).name}"
    else:
        what = f"exit with status {os.waitstatus_to_exitcode(status)}"
    return Finding(what, what, "", data)


def _keep(target: Target, finding: Finding, found: dict[str, list[Finding]]) -> None:
    """Write a finding, if few of its kind have been written."""
    same = found.setdefault(finding.key, [])
    same.append(finding)
    if len(same) > _MOST_OF_A_KIND:
        return
    FINDINGS.mkdir(exist_ok=True)
    file = FINDINGS / f"{target.name}-{name_of(finding.data)}"
    file.write_bytes(finding.data)
    command = f"python -m fuzz --target {target.name} --input {os.path.relpath(file)}"
    file.with_suffix(".txt").write_text(f"{finding.what}\n{command}\n\n{finding.trace}")
    if len(same) == 1:
        print(f"{target.name}: {finding.what}\n    {command}", file=sys.stderr)


def _work(
    target: Target, seed: str, mutations: int, until: float, slot: mmap.mmap, results: IO[bytes], *, guided: bool
) -> None:
    """In the worker: read inputs, and send lines and findings when done."""
    with tempfile.TemporaryDirectory(prefix="insitu-fuzz-", dir=_HOME) as directory, _quiet():
        read = target.reader(Path(directory))
        engine = Engine(read, target.inputs(), seed, text=target.text)
        begin = len(target.inputs())
        sent: set[str] = set()

        def send(finding: Finding) -> None:
            if finding.key not in sent:
                sent.add(finding.key)
                pickle.dump(finding, results)
                results.flush()

        ready, before = False, 0
        for number, data in enumerate(engine.inputs()):
            if time.monotonic() > until or (mutations and number - begin >= mutations):
                break
            _SLOT.pack_into(slot, 0, max(0, number - begin), time.monotonic(), len(data))
            slot[_SLOT.size : _SLOT.size + len(data)] = data
            if not ready and number >= begin:  # what is imported late and the pools of native threads are there
                bound_memory()
                before = _peak_bytes()
                ready = True
            with limited(DEADLINE_SECONDS):
                finding = engine.examine(data, guided=guided)
            if finding is not None:
                send(finding)
            if ready and _peak_bytes() - before > MEMORY_BYTES:
                send(Finding("memory", "memory above the limit", "", data))
                break
        _SLOT.pack_into(slot, 0, engine.done - min(begin, engine.done), 0.0, 0)
        pickle.dump(engine.lines, results)
        results.flush()


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What parsers print is not shown."""
    with open(os.devnull, "r+b") as nowhere:  # noqa: PTH123
        for number in (0, 1, 2):
            os.dup2(nowhere.fileno(), number)
    yield
