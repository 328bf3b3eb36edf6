"""Runs a built-in program while something known happens, and compares what it reports with an independent count.

Each function of CHECKS does so for the program of its name, and fails with AssertionError. Those of SYSTEM_WIDE trace
everything, or change the machine: in guests only. ``program_checks.py RESULTS [NAME...]`` runs them one after
another, and makes RESULTS a JSON object: name -> what failed, or "".
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["CHECKS", "SYSTEM_WIDE", "Checked", "apart"]

# Starts insitu with these words, standard output and errors into files: its pid.
Start = Callable[[list[str], Path, Path], int]
Events = list[dict[str, Any]]
_ACTOR = Path(__file__).with_name("program_actor.c")
# What a Python program does first: it waits to be let go; done() reports what it did, and waits again.
_GATED = """
import ctypes, json, os, signal, socket, sys, time
def done(**facts):
    print(json.dumps(facts), flush=True)
    sys.stdin.readline()
print("{}", flush=True)
sys.stdin.readline()
"""


def apart(words: list[str], output: Path, errors: Path) -> int:
    """insitu as a command."""
    with output.open("wb") as out, errors.open("wb") as err:
        return subprocess.Popen([sys.executable, "-m", "insitu", *words], stdout=out, stderr=err).pid


def forked(words: list[str], output: Path, errors: Path) -> int:
    """insitu in a copy of this process, which has loaded what it needs: that takes an emulated machine seconds."""
    pid = os.fork()
    if pid:
        return pid
    for descriptor, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    status = 1
    try:
        from insitu.cli import main

        signal.signal(signal.SIGINT, signal.default_int_handler)
        status = main(words)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(status)


class Gated:
    """A program that waits to be let go, acts, reports what it did, and waits for its end."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        self._line()

    def _line(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def go(self) -> Any:
        """Let it act: what it reports."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._line()

    def let_go(self) -> None:
        """Let it act, and wait for its end."""
        self._process.communicate("\n")


class Checked:
    """What the checks share: how insitu is started, and a directory for what they make."""

    def __init__(self, start: Start, directory: Path) -> None:
        self._start, self.directory, self._number = start, directory, 0
        self.stderr = ""

    def actor(self, act: str) -> Gated:
        """The C program, which is to do this."""
        program = self.directory / "actor"
        if not program.exists():
            flags = ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-pthread"]
            subprocess.run(["gcc", *flags, "-o", program, _ACTOR], check=True)
        return Gated(str(program), act)

    def python(self, script: str) -> Gated:
        """A Python program that is let go before ``script``."""
        return Gated(sys.executable, "-I", "-S", "-c", _GATED + script)

    @contextmanager
    def tracing(self, *words: object) -> Iterator[Events]:
        """Trace while the block runs; the list then has what insitu printed."""
        self._number += 1
        output, errors = (self.directory / f"{name}{self._number}" for name in ("output", "errors"))
        output.touch()
        pid = self._start(["trace", "--json", *map(str, words)], output, errors)
        while "attached_probes" not in output.read_text():
            ended, _ = os.waitpid(pid, os.WNOHANG)
            assert not ended, errors.read_text()
            time.sleep(0.01)
        found: Events = []
        try:
            yield found
        finally:
            os.kill(pid, signal.SIGINT)
            os.waitpid(pid, 0)
            self.stderr = errors.read_text()
        found += [json.loads(line) for line in output.read_text().splitlines() if line.strip()]

    def run(self, *words: object) -> str:
        """What insitu prints."""
        output, errors = self.directory / "output", self.directory / "errors"
        assert os.waitpid(self._start(list(map(str, words)), output, errors), 0)[1] == 0, errors.read_text()
        return output.read_text()

    def provoked(self, name: str, gated: Gated, *words: object) -> tuple[Events, Any]:
        """The events of the program, and what the process reported, traced from before it acts until after."""
        with self.tracing(name, gated.pid, *words) as found:
            facts = gated.go()
        gated.let_go()
        return found, facts


def _rows(found: Events, label: str) -> Events:
    return [each["data"] for each in found if each["type"] == "event" and each["label"] == label]


def _map(found: Events, name: str) -> Any:
    return next(each["data"][name] for each in found if each["type"] in ("map", "hist") and name in each["data"])


def _near(value: float, wanted: float, share: float, room: float = 0) -> None:
    assert abs(value - wanted) <= share * wanted + room, f"{value}, not about {wanted}"


# Processes


def _execs(checked: Checked) -> None:
    shell = "echo '{}'; read x; /bin/echo one 'two words' >&2; /bin/true; echo '{}'; read x"
    found, _ = checked.provoked("execs", Gated("sh", "-c", shell))
    rows = _rows(found, "exec")
    assert [(row["path"], row["arguments"]) for row in rows] == [
        ("/bin/echo", "/bin/echo one two words"),
        ("/bin/true", "/bin/true"),
    ]
    assert {row["parent"] for row in rows} == {"sh"}


_ENDS = "echo '{}'; read x; sh -c 'exit 3'; sh -c 'kill -9 $$'; sh -c 'kill -15 $$'; echo '{}'; read x"


def _exits(checked: Checked) -> None:
    shell = Gated("sh", "-c", _ENDS)
    rows = _rows(checked.provoked("exits", shell)[0], "exit")
    assert [(row["status"], row["signal"]) for row in rows] == [(3, 0), (0, 9), (0, 15)]
    assert all(row["ppid"] == shell.pid and row["age_ns"] < 100e9 for row in rows)


def _forks(checked: Checked) -> None:
    shell = Gated("sh", "-c", _ENDS)
    rows = _rows(checked.provoked("forks", shell)[0], "fork")
    assert [(row["kind"], row["pid"], row["parent"]) for row in rows] == [("process", shell.pid, "sh")] * 3
    rows = _rows(checked.provoked("forks", checked.actor("threads"))[0], "fork")
    assert [row["kind"] for row in rows] == ["thread"] * 5


def _signals(checked: Checked) -> None:
    gated = checked.python(
        "signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n"
        "for _ in range(7): os.kill(os.getpid(), signal.SIGUSR1)\n"
        "signal.signal(signal.SIGUSR2, lambda *_: None)\n"
        "for _ in range(3): os.kill(os.getpid(), signal.SIGUSR2)\n"
        "done()"
    )
    rows = _rows(checked.provoked("signals", gated)[0], "signal")
    sent = Counter((row["signal"], row["result"]) for row in rows if row["target"] == gated.pid)
    assert (sent[signal.SIGUSR1, 1], sent[signal.SIGUSR2, 0]) == (7, 3)


def _capable(checked: Checked) -> None:
    gated = checked.python(
        "for _ in range(4): os.chroot('/')\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "for _ in range(3):\n"
        "    try: os.chroot('/')\n"
        "    except PermissionError: pass\n"
        "done()"
    )
    rows = _rows(checked.provoked("capable", gated)[0], "capable")
    chroots = [(row["uid"], row["result"]) for row in rows if row["name"] == "SYS_CHROOT" and row["capability"] == 18]
    assert chroots == [(0, 0)] * 4 + [(65534, -1)] * 3


def _fdleak(checked: Checked) -> None:
    gated = checked.python(
        "import fcntl\n"
        "def there(): return {fd for fd in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + fd)}\n"
        "before = there()\n"
        "opened = [os.open('/dev/null', 0) for _ in range(5)]\n"
        "os.close(opened[1])\n"
        "pair = socket.socketpair()\n"
        "ends = os.pipe()\n"
        "os.close(ends[0])\n"
        "copies = [os.dup(1), fcntl.fcntl(1, fcntl.F_DUPFD, 40), fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 50)]\n"
        "many = [os.dup(0) for _ in range(6)]\n"
        "os.closerange(many[0], many[-1])\n"
        "listed = os.open('/proc/self/fd', 0)\n"
        "os.close(listed)\n"
        "done(left=sorted(map(int, there() - before)))"
    )
    found, facts = checked.provoked("fdleak", gated)
    reported = sorted(row["fd"] for row in _rows(found, "descriptor"))
    assert reported == facts["left"], f"{reported}, not {facts['left']}"
    assert len(facts["left"]) == 4 + 2 + 1 + 3 + 1


# CPU


def _schedstat(pid: int) -> tuple[int, int, int]:
    ran, waited, times = map(int, Path(f"/proc/{pid}/schedstat").read_text().split())
    return ran, waited, times


_WORK = (
    "for _ in range(12):\n"
    "    time.sleep(0.02)\n"
    "    end = time.process_time() + 0.01\n"
    "    while time.process_time() < end: pass\n"
    "done()"
)


def _compared_with_schedstat(checked: Checked, name: str) -> tuple[Events, int, int]:
    """What is printed; nanoseconds that the process ran meanwhile, and how many times, as the kernel counted."""
    gated = checked.python(_WORK)
    with checked.tracing(name, gated.pid) as found:
        before = _schedstat(gated.pid)
        gated.go()
        # It sleeps, so that all is counted.
        while Path(f"/proc/{gated.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
            time.sleep(0.01)
        after = _schedstat(gated.pid)
    gated.let_go()
    return found, after[0] - before[0], after[2] - before[2]


def _schedlat(checked: Checked) -> None:
    found, ran_ns, times = _compared_with_schedstat(checked, "schedlat")
    (row,) = _rows(found, "task")
    _near(row["runtime_ns"], ran_ns, 0.2, 10e6)
    assert times - 1 <= row["switches"] <= times + 1
    delays = [each["delay_ns"] for each in _rows(found, "delay")]
    assert (len(delays), sum(delays), max(delays)) == (row["switches"], row["delay_ns"], row["longest_ns"])


def _timehist(checked: Checked) -> None:
    found, ran_ns, times = _compared_with_schedstat(checked, "timehist")
    rows = _rows(found, "run")
    _near(sum(row["run_ns"] for row in rows), ran_ns, 0.2, 10e6)
    assert times - 1 <= len(rows) <= times + 1, (times, len(rows), checked.stderr)
    # A kernel may not run programs for switches from certain threads (docs/why.md): some waits are not seen.
    assert sum(row["wait_ns"] > 19e6 for row in rows) >= 6
    assert all(row["delay_ns"] <= row["wait_ns"] for row in rows[1:])


def _cpudist(checked: Checked) -> None:
    found, ran_ns, times = _compared_with_schedstat(checked, "cpudist")
    rows = _rows(found, "slice")
    _near(sum(row["ran_ns"] for row in rows), ran_ns, 0.2, 10e6)
    assert times - 1 <= len(rows) <= times + 1, (times, len(rows), checked.stderr)


def _wakeups(checked: Checked) -> None:
    gated = checked.python(
        "(a, b), (c, d) = os.pipe(), os.pipe()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    for _ in range(20): os.write(d, os.read(a, 1))\n"
        "    os._exit(0)\n"
        "for _ in range(20):\n"
        "    time.sleep(0.01)\n"
        "    os.write(b, b'x'); os.read(c, 1)\n"
        "done(child=child)"
    )
    found, facts = checked.provoked("wakeups", gated)
    rows = _rows(found, "wakeup")
    woken = sum((row["pid"], row["woken_pid"]) == (gated.pid, facts["child"]) for row in rows)
    assert 10 <= woken <= 30  # the child sleeps when the other one writes, unless the machine is very busy
    assert all(gated.pid in (row["pid"], row["woken_pid"]) for row in rows)


def _migrations(checked: Checked) -> None:
    cpus = sorted(os.sched_getaffinity(0))[:2]
    gated = checked.python(f"for n in range(21): os.sched_setaffinity(0, [{cpus}[n % 2]])\ndone()")
    rows = _rows(checked.provoked("migrations", gated)[0], "migration")
    moves = [(row["from"], row["to"]) for row in rows if row["thread"] == gated.pid]
    # Before the first change of its affinity it may be moved as well.
    assert moves[-20:] == [(cpus[n % 2], cpus[1 - n % 2]) for n in range(20)], moves


def _cpu_times() -> Counter[str]:
    """Milliseconds since the boot that each CPU was busy, and stolen: proc_stat(5), in ticks of each part."""
    lines = re.findall(r"^cpu(\d+) (.*)", Path("/proc/stat").read_text(), re.M)
    tick_ms = 1000 // os.sysconf("SC_CLK_TCK")
    found = Counter[str]()
    for cpu, line in lines:
        user, nice, system, _, _, irq, softirq, steal, *_ = (tick_ms * int(each) for each in line.split())
        found[f"busy {cpu}"], found[f"steal {cpu}"] = user + nice + system + irq + softirq, steal
    return found


def _steal(checked: Checked) -> None:
    spinning = [subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"]) for _ in range(3)]
    cpu = min(os.sched_getaffinity(0))
    for each in spinning:
        os.sched_setaffinity(each.pid, [cpu])
    before = _cpu_times()
    try:
        with checked.tracing("steal") as found:
            begun = _cpu_times()
            time.sleep(2.5)
            least = _cpu_times()
    finally:
        for each in spinning:
            each.kill()
            each.wait()
    most = _cpu_times()
    rows = _rows(found, "steal")
    parts = 5 * 1000 // os.sysconf("SC_CLK_TCK")  # each may be cut off
    for name in most:
        kind, on = name.split()
        sum_ms = sum(row[f"{kind}_ns"] for row in rows if row["on"] == int(on)) / 1e6
        assert least[name] - begun[name] - parts <= sum_ms <= most[name] - before[name] + parts, (name, sum_ms)
    queue = [row for row in rows if row["on"] == cpu]
    assert sum(row["waiting"] for row in queue) >= 1.5 * sum(row["samples"] for row in queue) > 0
    never = not any(n for name, n in before.items() if name.startswith("steal"))
    assert ("no steal since the boot" in json.dumps(found)) == never


# Locks


def _futexes(checked: Checked) -> None:
    found, facts = checked.provoked("futexes", checked.actor("mutex"))
    waits = [row["wait_ns"] for row in _rows(found, "futex") if row["lock"] == facts["lock"]]
    assert len(waits) >= facts["waits"]
    assert facts["least_s"] - 1e-5 <= sum(waits) / 1e9 <= facts["most_s"] + 1e-5


def _mutexes(checked: Checked) -> None:
    found, facts = checked.provoked("mutexes", checked.actor("mutex"))
    rows = [row for row in _rows(found, "mutex") if row["lock"] == facts["lock"]]
    assert [row["function"] for row in rows] == ["pthread_mutex_lock"] * facts["calls"]
    waited_s = sum(row["wait_ns"] for row in rows if row["tid"] == facts["waiter"]) / 1e9
    assert facts["least_s"] - 1e-5 <= waited_s <= facts["most_s"] + 1e-5


@contextmanager
def _counted_by_ftrace(event: str, pid: int) -> Iterator[list[int]]:
    """How often a tracepoint is passed by a process, threads that it makes included; in the list afterwards.

    Not by perf, whose events of a tracepoint get lost while a BPF program is attached to it.
    """
    tracing = Path("/sys/kernel/tracing")
    if not (tracing / "instances").exists():
        subprocess.run(["mount", "-t", "tracefs", "none", tracing], check=True)
    instance = tracing / f"instances/insitu-test-{os.getpid()}"
    instance.mkdir()
    found: list[int] = []
    try:
        (instance / "set_event_pid").write_text(str(pid))
        (instance / "options/event-fork").write_text("1")
        (instance / f"events/{event}/enable").write_text("1")
        yield found
        (instance / f"events/{event}/enable").write_text("0")
        texts = [path.read_text() for path in instance.glob("per_cpu/cpu*/stats")]
        found.append(sum(int(n) for text in texts for n in re.findall(r"^(?:entries|overrun): (\d+)", text, re.M)))
    finally:
        instance.rmdir()


def _lockstat(checked: Checked) -> None:
    actor = checked.actor("contend")
    with (
        checked.tracing("lockstat", "-p", actor.pid) as found,
        _counted_by_ftrace("lock/contention_end", actor.pid) as n,
    ):
        actor.go()
    actor.let_go()
    rows = _rows(found, "contention")
    _near(len(rows), n[0], 0.02, 3)
    assert "rwsem:W" in {row["type"] for row in rows}


# Memory


def _faults(checked: Checked) -> None:
    found, facts = checked.provoked("faults", checked.actor("pages"))
    there = [row for row in _rows(found, "fault") if re.search(r"\bpages\b", row["stack"])]
    assert facts["faults"] <= len(there) <= facts["faults"] + 10 and facts["faults"] >= facts["pages"]


def _pageallocs(checked: Checked) -> None:
    found, facts = checked.provoked("pageallocs", checked.actor("pages"))
    rows = [row for row in _rows(found, "pages") if re.search(r"\bpages\b", row["user"])]
    allocated = sum(row["pages"] for row in rows)
    assert facts["pages"] <= allocated <= facts["pages"] * 1.03 + 16  # page tables, too


def _kmallocs(checked: Checked) -> None:
    found, facts = checked.provoked("kmallocs", checked.actor("eventfds"))
    rows = _rows(found, "kmalloc")
    own = [row for row in rows if "do_eventfd" in row["stack"] and "anon_inode" not in row["stack"]]
    assert len(own) == facts["made"]
    assert all(row["allocated_bytes"] >= row["asked_bytes"] > 0 for row in own)
    assert sum(_map(found, "@allocations").values()) == len(rows)


def _mallocs(checked: Checked) -> None:
    found, facts = checked.provoked("mallocs", checked.actor("memory"))
    rows = _rows(found, "block")
    assert (len(rows), sum(row["asked_bytes"] for row in rows)) == (facts["blocks"], facts["bytes"])
    assert sum("leak" in row["stack"] for row in rows) == 59 and sum("zeroed" in row["stack"] for row in rows) == 10
    found, _ = checked.provoked("mallocs", checked.actor("memory"), 1000)
    assert not _rows(found, "block")


# What traces the whole machine


def _softirq_counts() -> Counter[str]:
    """Runs of each vector since the boot."""
    lines = Path("/proc/softirqs").read_text().splitlines()[1:]
    return Counter({line.split(":")[0].strip(): sum(map(int, line.split(":")[1].split())) for line in lines})


def _irq_counts() -> Counter[str]:
    """Interrupts by number since the boot."""
    lines = Path("/proc/interrupts").read_text().splitlines()[1:]
    rows = [line.split() for line in lines if re.match(r" *\d+:", line)]
    cpus = os.cpu_count() or 1
    return Counter({row[0].rstrip(":"): sum(map(int, row[1 : 1 + cpus])) for row in rows})


def _within(counted: dict[str, int], least: Counter[str], most: Counter[str]) -> None:
    """Counts of a trace lie between those of the time in which it surely ran, and of that around it."""
    assert counted
    for name, count in counted.items():
        assert least[name] <= count <= most[name], f"{name}: {count}, not {least[name]} to {most[name]}"


# Reads the guest's disk past the page cache.
_DISK = "/dev/vda"
_READ = (
    "import mmap\n"
    f"disk = os.open({_DISK!r}, os.O_RDONLY | os.O_DIRECT)\n"
    "for n in range(100): os.preadv(disk, [mmap.mmap(-1, 1 << 18)], n << 18)\n"
    "ticks = int(open('/proc/self/stat').read().rpartition(')')[2].split()[39])\n"
    "done(ticks=ticks)"
)


def _compared_with_counters(checked: Checked, name: str, counters: Callable[[], Counter[str]]) -> None:
    gated = checked.python(_READ)
    before = counters()
    with checked.tracing(name) as found:
        begun = counters()
        gated.go()
        time.sleep(1)
        least = counters() - begun
    most = counters() - before
    gated.let_go()
    _within({key.split(",")[0]: n for key, n in _map(found, "@count").items()}, least, most)


def _softirqs(checked: Checked) -> None:
    _compared_with_counters(checked, "softirqs", _softirq_counts)


def _hardirqs(checked: Checked) -> None:
    _compared_with_counters(checked, "hardirqs", _irq_counts)


def _arrivals() -> int:
    """How often a thread, idle ones excepted, began to run on a CPU (Documentation/scheduler/sched-stats.rst)."""
    lines = Path("/proc/schedstat").read_text().splitlines()
    return sum(int(line.split()[9]) for line in lines if line.startswith("cpu"))


def _runqlat(checked: Checked) -> None:
    gated = checked.python("for _ in range(500): time.sleep(0.002)\ndone()")
    before = _arrivals()
    with checked.tracing("runqlat") as found:
        gated.go()
    most = _arrivals() - before
    gated.let_go()
    assert 500 <= sum(each["count"] for each in _map(found, "@us")) <= most


def _runqlen(checked: Checked) -> None:
    spinning = [subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"]) for _ in range(3)]
    for each in spinning:
        os.sched_setaffinity(each.pid, [0])
    try:
        with checked.tracing("runqlen") as found:
            time.sleep(3)
    finally:
        for each in spinning:
            each.kill()
            each.wait()
    ranges = {each["min"]: each["count"] for each in _map(found, "@waiting")["0"]}
    assert sum(n for waiting, n in ranges.items() if waiting >= 2) > sum(ranges.values()) / 2


@contextmanager
def _memory_cgroup(limit: str) -> Iterator[Path]:
    """A cgroup whose processes may use so much memory."""
    root = Path("/sys/fs/cgroup")
    if not (root / "cgroup.procs").exists():
        subprocess.run(["mount", "-t", "cgroup2", "none", root], check=True)
    (root / "cgroup.subtree_control").write_text("+memory")
    group = root / "insitu-test"
    group.mkdir()
    try:
        (group / "memory.max").write_text(limit)
        yield group
    finally:
        group.rmdir()


def _memory_counts(group: Path, file: str) -> dict[str, int]:
    return {name: int(value) for name, value in map(str.split, (group / file).read_text().splitlines())}


def _oomkills(checked: Checked) -> None:
    with _memory_cgroup("24M") as group:
        gated = checked.python("b'x' * (200 << 20)")
        (group / "cgroup.procs").write_text(str(gated.pid))
        with checked.tracing("oomkills") as found:
            gated.let_go()
        kills = _memory_counts(group, "memory.events")["oom_kill"]
    assert [row["victim"] for row in _rows(found, "kill")] == [gated.pid] * kills and kills == 1


def _reclaims(checked: Checked) -> None:
    with _memory_cgroup("24M") as group:
        gated = checked.python(f"disk = open({_DISK!r}, 'rb')\nwhile disk.read(1 << 16): pass\ndone()")
        (group / "cgroup.procs").write_text(str(gated.pid))
        found, _ = checked.provoked("reclaims", gated)
        counts = _memory_counts(group, "memory.stat")
    reclaimed = sum(row["pages"] for row in _rows(found, "stall") if row["kind"] == "memcg")
    _near(reclaimed, counts["pgsteal_direct"], 0.05, 64)
    assert reclaimed > 1000


def _delays(checked: Checked) -> None:
    """insitu delays, of a process that reads a disk and works, against what /proc has of it."""
    Path("/proc/sys/kernel/task_delayacct").write_text("1")
    gated = checked.python(_READ)
    ticks = gated.go()["ticks"]
    (found,) = json.loads(checked.run("delays", "--json", gated.pid))["processes"]
    ran, waited, _ = _schedstat(gated.pid)
    gated.let_go()
    assert (found["run_ns"], found["delays"]["cpu"]["ns"]) == (ran, waited)
    _near(found["delays"]["blkio"]["ns"] / 1e9, ticks / os.sysconf("SC_CLK_TCK"), 0, 0.02)
    assert found["delays"]["blkio"]["count"] > 0


def _pagemoves(checked: Checked) -> None:
    def moved() -> Counter[str]:
        return Counter(_memory_counts(Path("/proc"), "vmstat"))

    before = moved()
    with checked.tracing("pagemoves") as found:
        begun = moved()
        for _ in range(3):
            Path("/proc/sys/vm/compact_memory").write_text("1")
        least = moved() - begun
    most = moved() - before
    rows = _rows(found, "migration")
    assert {row["reason"] for row in rows} >= {"compaction"}
    _within({"pgmigrate_success": sum(row["moved"] for row in rows)}, least, most)


# 8 huge pages: 4 are filled at once, then split by changing the protection of a small page, two of them also by
# giving one to other use; 4 are filled by small pages, and then collapsed.
_HUGE = """
import mmap
libc, huge = ctypes.CDLL(None, use_errno=True), 2 << 20
region = mmap.mmap(-1, 9 * huge, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
base = -(-ctypes.addressof(ctypes.c_char.from_buffer(region)) // huge) * huge
def advise(at, size, advice):
    assert libc.madvise(ctypes.c_void_p(at), ctypes.c_size_t(size), advice) == 0, ctypes.get_errno()
def touch(at, size, step):
    for each in range(at, at + size, step): ctypes.memset(each, 1, 1)
advise(base, 4 * huge, 14)  # MADV_HUGEPAGE
touch(base, 4 * huge, huge)
advise(base + 4 * huge, 4 * huge, 15)  # MADV_NOHUGEPAGE
touch(base + 4 * huge, 4 * huge, 4096)
advise(base + 4 * huge, 4 * huge, 14)
advise(base + 4 * huge, 4 * huge, 25)  # MADV_COLLAPSE
for each in range(4):
    assert libc.mprotect(ctypes.c_void_p(base + each * huge), ctypes.c_size_t(4096), 1) == 0
for each in range(2):
    advise(base + each * huge + 8192, 4096, 21)  # MADV_PAGEOUT
done()
"""


def _vmstat() -> Counter[str]:
    return Counter(_memory_counts(Path("/proc"), "vmstat"))


def _hugepages(checked: Checked) -> None:
    before = _vmstat()
    found, _ = checked.provoked("hugepages", checked.python(_HUGE))
    most = _vmstat() - before
    kinds = Counter(row["kind"] for row in _rows(found, "hugepage"))
    assert (kinds["collapse"], kinds["split-map"], kinds["split-page"]) == (4, 4, 2), (kinds, most)
    assert 4 <= kinds["fault"] <= most["thp_fault_alloc"]
    _within({"thp_collapse_alloc": 4, "thp_split_pmd": 4, "thp_split_page": 2}, Counter(), most)


_TWICE = f"""
with open({_DISK!r}, 'rb') as disk:  # its last close would empty the cache
    for _ in range(2):
        disk.seek(0)
        while disk.read(1 << 16): pass
    done()
"""


def _refaults(checked: Checked) -> None:
    with _memory_cgroup("24M") as group:
        gated = checked.python(_TWICE)
        (group / "cgroup.procs").write_text(str(gated.pid))
        before = _vmstat()
        with checked.tracing("refaults") as found:
            begun = _vmstat()
            gated.go()
            least = _vmstat() - begun
        most = _vmstat() - before
        gated.let_go()
    pages = sum(row["pages"] for row in _rows(found, "refault") if row["kind"] == "file")
    assert pages > 1000
    _within({"workingset_refault_file": pages}, least, most)


@contextmanager
def _cpu_quota() -> Iterator[Path]:
    """A cgroup whose processes may use a fifth of a CPU, of version 1 where the machine has that."""
    root = Path("/sys/fs/cgroup")
    first = (root / "cpu/cgroup.procs").exists()
    if not first:
        if not (root / "cgroup.procs").exists():
            subprocess.run(["mount", "-t", "cgroup2", "none", root], check=True)
        (root / "cgroup.subtree_control").write_text("+cpu")
    group = root / ("cpu" if first else "") / f"insitu-quota-{os.getpid()}"
    group.mkdir()
    try:
        if first:
            (group / "cpu.cfs_quota_us").write_text("20000")
        else:
            (group / "cpu.max").write_text("20000 100000")
        yield group
    finally:
        group.rmdir()


def _throttled(checked: Checked) -> None:
    with _cpu_quota() as group:
        number = group.stat().st_ino
        script = f"while int(open('{group}/cpu.stat').read().split('nr_throttled ')[1].split()[0]) < 12: pass\ndone()"
        gated = checked.python(script)
        (group / "cgroup.procs").write_text(str(gated.pid))
        with checked.tracing("throttled") as found:
            gated.go()
            gated.let_go()
        counts = _memory_counts(group, "cpu.stat")
    rows = [row for row in _rows(found, "throttled") if row["cgroup"] == number]
    throttled_us = counts["throttled_time"] / 1000 if "throttled_time" in counts else counts["throttled_usec"]
    sum_us = sum(row["throttled_ns"] for row in rows) / 1000
    if any(row["on"] < 0 for row in rows):  # without kprobes: the kernel's own sums
        assert abs(sum_us - throttled_us) < 1 + len(rows)
    else:
        # A late timer of the kernel counts the periods that it has missed, too.
        assert 5 < len(rows) <= counts["nr_throttled"] + 1
        _near(sum_us, throttled_us, 0.05, 20_000)


CHECKS: dict[str, Callable[[Checked], None]] = {
    "execs": _execs,
    "exits": _exits,
    "forks": _forks,
    "signals": _signals,
    "capable": _capable,
    "fdleak": _fdleak,
    "schedlat": _schedlat,
    "timehist": _timehist,
    "cpudist": _cpudist,
    "wakeups": _wakeups,
    "migrations": _migrations,
    "steal": _steal,
    "throttled": _throttled,
    "futexes": _futexes,
    "mutexes": _mutexes,
    "lockstat": _lockstat,
    "faults": _faults,
    "pageallocs": _pageallocs,
    "kmallocs": _kmallocs,
    "mallocs": _mallocs,
}
SYSTEM_WIDE: dict[str, Callable[[Checked], None]] = {
    "softirqs": _softirqs,
    "hardirqs": _hardirqs,
    "runqlat": _runqlat,
    "runqlen": _runqlen,
    "oomkills": _oomkills,
    "reclaims": _reclaims,
    "pagemoves": _pagemoves,
    "hugepages": _hugepages,
    "refaults": _refaults,
    "delays": _delays,
}


def _main(results: str, *names: str) -> None:
    from insitu.cli import main

    # Loads what all of them use, to be inherited by copies of this process.
    main(["trace", "-q", "-o", "/dev/null", "execs", "-d", "0.1"])
    found = {}
    for name, check in {**CHECKS, **SYSTEM_WIDE}.items():
        if names and name not in names:
            continue
        with tempfile.TemporaryDirectory() as directory:
            checked = Checked(forked, Path(directory))
            try:
                check(checked)
                found[name] = ""
            except BaseException:
                found[name] = f"{traceback.format_exc()}\n{checked.stderr}"
        Path(results).write_text(json.dumps(found))


if __name__ == "__main__":
    _main(*sys.argv[1:])
