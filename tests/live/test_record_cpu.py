"""CPU profiles of real programs, against arithmetic, perf and the kernel's own counters."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import insitu
from insitu.kernel import perf_event
from insitu.kernel.perf_event import Attr, Software, Type
from insitu.session.reader import Session
from insitu.views.call_tree import call_tree

from .tracing import cpu_seconds, wait_until

INSITU = [sys.executable, "-m", "insitu"]

SPIN = r"""
#include <linux/perf_event.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Uses `ms` on the CPU, nearly all of it in the function that this is expanded in. Measured by the kernel's counter
   of what the samples' clock runs by: CPU time leaves out what a hypervisor takes away, that clock does not. */
#define BURN(ms) do { \
    struct perf_event_attr a = {.type = PERF_TYPE_SOFTWARE, .config = PERF_COUNT_SW_CPU_CLOCK, .size = sizeof a}; \
    int fd = syscall(SYS_perf_event_open, &a, 0, -1, -1, 0); volatile long x = 0; long long ns = 0; \
    do { for (int i = 0; i < 200000; i++) x += i; if (read(fd, &ns, sizeof ns) != sizeof ns) abort(); } \
    while (ns < (ms) * 1000000LL); \
    close(fd); \
} while (0)

void sixty(void) { BURN(600); }
void thirty(void) { BURN(300); }
void ten(void) { BURN(100); }
void forever(void) { for (;;) BURN(100); }
void *burn_thread(void *name) { prctl(PR_SET_NAME, name); BURN(300); return 0; }
void *short_thread(void *unused) { BURN(3); return 0; }
void *forever_thread(void *name) { prctl(PR_SET_NAME, name); forever(); return 0; }

int main(int argc, char **argv) {
    pthread_t a, b;
    if (!strcmp(argv[1], "shares")) { sixty(); thirty(); ten(); }
    else if (!strcmp(argv[1], "halves")) {
        getchar(); BURN(500);
        puts("half"); fflush(stdout); getchar(); BURN(500);
    } else if (!strcmp(argv[1], "forever")) { alarm(60); forever(); }
    else if (!strcmp(argv[1], "forks")) {
        for (int i = 0; i < 2; i++)
            if (!fork()) { prctl(PR_SET_NAME, i ? "child-1" : "child-0"); BURN(200); _exit(0); }
        while (wait(0) > 0) ;
    } else if (!strcmp(argv[1], "churn")) {
        alarm(60);
        for (;;) { pthread_create(&a, 0, short_thread, 0); pthread_join(a, 0); }
    } else if (!strcmp(argv[1], "threads")) {
        alarm(60);
        pthread_create(&a, 0, forever_thread, "early");
        puts("ready"); fflush(stdout); getchar();
        pthread_create(&b, 0, burn_thread, "late"); pthread_join(b, 0);
        puts("done"); fflush(stdout); getchar();
    }
    return 0;
}
"""


def cpu_clock_opens() -> bool:
    try:
        os.close(perf_event.open_event(Attr(type=Type.SOFTWARE, config=Software.CPU_CLOCK)))
    except insitu.InsituError:
        return False
    return True


pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not cpu_clock_opens(), reason="the kernel has no perf software events"),
]


@pytest.fixture(scope="module")
def spin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("spin")
    source, program = directory / "spin.c", directory / "spin"
    source.write_text(SPIN)
    flags = ["-O1", "-fno-omit-frame-pointer", "-fno-inline", "-pthread"]
    subprocess.run(["gcc", *flags, "-o", program, source], check=True)
    return program


@pytest.fixture
def started() -> "Iterator[list[subprocess.Popen[str]]]":
    """Processes to end when the test ends."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def run(*words: "str | Path", check: bool = True, **options: object) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [*INSITU, "profile", *map(str, words)], capture_output=True, text=True, timeout=300, **options
    )
    assert "Traceback" not in done.stderr
    if check:
        assert done.returncode == 0, done.stderr
    return done


def samples_by_comm(session: Session) -> Counter[str]:
    stacks = session.stacks()
    found = Counter[str]()
    for thread, count in zip(stacks.thread.tolist(), stacks.count.tolist(), strict=True):
        found[stacks.threads[thread].name] += count
    return found


def recorded_bytes(session: Path) -> int:
    return sum(file.stat().st_size for file in session.glob("raw/perf/cpu*.records"))


def test_known_shares_come_out_within_sampling_error(spin: Path) -> None:
    session = insitu.profile([str(spin), "shares"], frequency=999)
    tree = call_tree(session.stacks(), value="count")
    own: Counter[str] = Counter()
    for name, weight in zip(tree.name, tree.own, strict=True):
        own[tree.names[name].function] += int(weight)
    total = sum(own.values())
    assert abs(total - 999) < 60  # one second of CPU time at 999 Hz
    for function, share in (("sixty", 0.6), ("thirty", 0.3), ("ten", 0.1)):
        sigma = (share * (1 - share) / total) ** 0.5
        assert abs(own[function] / total - share) < 4 * sigma + 0.01, own


def test_children_are_followed(spin: Path) -> None:
    found = samples_by_comm(insitu.profile([str(spin), "forks"], frequency=999))
    for child in ("child-0", "child-1"):
        assert abs(found[child] - 200) < 40, found


def test_threads_that_ran_before_and_those_that_start_later_are_recorded(
    spin: Path, tmp_path: Path, started: "list[subprocess.Popen[str]]"
) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    target = subprocess.Popen([spin, "threads"], **pipes)
    started.append(target)
    assert target.stdout.readline() == "ready\n"
    output = tmp_path / "x.insitu"
    words = ["profile", "-F", "999", "-o", str(output), "-p", str(target.pid)]
    recorder = subprocess.Popen([*INSITU, *words], stderr=subprocess.PIPE, text=True)
    started.append(recorder)
    wait_until(lambda: (output / "raw" / "perf" / "start.records").exists())
    target.stdin.write("\n")
    target.stdin.flush()
    assert target.stdout.readline() == "done\n"
    recorder.send_signal(signal.SIGINT)
    _, said = recorder.communicate(timeout=300)
    assert recorder.returncode == 0, said
    assert target.poll() is None
    found = samples_by_comm(insitu.open(output))
    assert abs(found["late"] - 300) < 50, found
    assert found["early"] > 10, found


def test_of_a_process_that_makes_threads_all_the_time_none_is_counted_twice(
    spin: Path, tmp_path: Path, started: "list[subprocess.Popen[str]]"
) -> None:
    target = subprocess.Popen([spin, "churn"], text=True)
    started.append(target)
    wait_until(lambda: cpu_seconds(target.pid) > 0.1)
    before = cpu_seconds(target.pid)
    session = insitu.profile(pid=target.pid, seconds=1.5, frequency=999)
    # The target's clock runs on while it is attached to and while the profile is converted.
    assert 10 < session.stacks().total_count < 999 * (cpu_seconds(target.pid) - before) + 50


@pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("kill -KILL $$", 137), ("kill -INT $$", 130)])
def test_the_commands_exit_status_is_passed_on(script: str, status: int, tmp_path: Path) -> None:
    assert run("-o", tmp_path / "x.insitu", "--", "sh", "-c", script, check=False).returncode == status


def test_a_command_that_cannot_run_leaves_nothing_behind(tmp_path: Path) -> None:
    assert run("-o", tmp_path / "x.insitu", "--", "no-such-command-here", check=False).returncode == 127
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF garbage")
    broken.chmod(0o755)
    assert run("-o", tmp_path / "x.insitu", "--", broken, check=False).returncode == 126
    assert not (tmp_path / "x.insitu").exists()


def test_an_output_that_cannot_be_written_is_refused_before_the_command_runs(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "file").write_text("precious")
    for output in (tmp_path / "file", tmp_path / "file" / "x.insitu", Path("/proc/x.insitu")):
        done = run("-o", output, "--", "touch", mark, check=False)
        assert done.returncode == 1
        assert len([line for line in done.stderr.splitlines() if "no PMU" not in line]) == 1, done.stderr
    assert not mark.exists()
    assert (tmp_path / "file").read_text() == "precious"


def test_the_sample_count_agrees_with_perfs(spin: Path, tmp_path: Path) -> None:
    data = tmp_path / "perf.data"
    perf = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "999", "-o", data, "--", spin, "shares"]
    if subprocess.run(perf, capture_output=True).returncode:
        pytest.skip("perf cannot record here")
    script = subprocess.run(["perf", "script", "-i", data, "-F", "ip"], capture_output=True, text=True, check=True)
    theirs = len(script.stdout.splitlines())
    ours = insitu.profile([str(spin), "shares"], frequency=999, events=["cpu-clock"]).stacks().total_count
    assert abs(ours - theirs) < 0.05 * theirs


def test_samples_and_losses_together_are_all_that_the_clock_made(
    spin: Path, tmp_path: Path, started: "list[subprocess.Popen[str]]"
) -> None:
    output = tmp_path / "x.insitu"
    words = ["profile", "-F", "5000", "-m", "1", "-o", str(output), "--", str(spin), "halves"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    recorder = subprocess.Popen([*INSITU, *words], **pipes, text=True)
    started.append(recorder)
    wait_until(lambda: (output / "raw" / "perf" / "start.records").exists())
    recorder.send_signal(signal.SIGSTOP)
    recorder.stdin.write("\n")
    recorder.stdin.flush()
    assert recorder.stdout.readline() == "half\n"
    recorder.send_signal(signal.SIGCONT)
    _, said = recorder.communicate("\n", timeout=300)
    assert recorder.returncode == 0, said
    session = insitu.open(output)
    lost = sum(session.stacks().losses.values())
    assert lost > 2000  # of half a second, all that a page of memory has no room for
    assert f" {lost} lost" in said
    assert "ring buffer too small: " in said and "profile -m 4 " in said  # four times as large
    # One second of CPU time; a few of the lost records are not samples but mappings.
    assert abs(session.stacks().total_count + lost - 5000) < 300


def test_a_ring_without_room_for_one_copied_stack_is_refused(tmp_path: Path) -> None:
    words = ["profile", "-m", "1", "--stacks", "dwarf,65528", "-o", str(tmp_path / "x.insitu"), "--", "true"]
    done = subprocess.run([*INSITU, *words], capture_output=True, text=True)
    assert done.returncode == 2 and not (tmp_path / "x.insitu").exists()
    assert (
        "a sample with 65528 bytes of stack does not fit into a ring buffer of 4096 bytes; use -m 256" in done.stderr
    )
    assert done.stderr.count("\n") == 1


def test_a_killed_recorder_leaves_a_session_that_opens_and_a_command_that_runs_on(
    spin: Path, tmp_path: Path, started: "list[subprocess.Popen[str]]"
) -> None:
    target = subprocess.Popen([spin, "forever"], text=True)
    started.append(target)
    output = tmp_path / "x.insitu"
    words = ["profile", "-F", "999", "-o", str(output), "-p", str(target.pid)]
    recorder = subprocess.Popen([*INSITU, *words], stderr=subprocess.DEVNULL, text=True)
    started.append(recorder)
    # What came is written once a second.
    wait_until(lambda: recorded_bytes(output) > 10_000)
    recorder.kill()
    recorder.wait()
    assert target.poll() is None
    session = insitu.open(output)
    assert session.stacks().total_count > 10
    assert set(samples_by_comm(session)) == {"spin"}
    assert any("the recorder was killed" in note for note in session.manifest.notes)


def test_a_full_disk_keeps_what_was_recorded(spin: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    script = (
        f"mount -t tmpfs -o size=400k none {small} || exit 99\n"
        f"{' '.join(INSITU)} profile -F 20000 -o {small}/x.insitu -- {spin} shares; status=$?\n"
        f"cp -r {small}/x.insitu {tmp_path}/copy.insitu; exit $status"
    )
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=300)
    if done.returncode == 99:
        pytest.skip("cannot mount a tmpfs")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "recording stopped: No space left on device" in done.stderr
    assert "its raw records are kept" in done.stderr
    session = insitu.open(tmp_path / "copy.insitu")
    assert session.stacks().total_count > 100
    stopped = f"{small}/x.insitu: recording stopped: No space left on device"
    assert stopped in session.manifest.notes and session.manifest.exit_status == 0
    report = subprocess.run([*INSITU, "report", tmp_path / "copy.insitu"], capture_output=True, text=True, check=True)
    assert stopped in report.stdout + report.stderr


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 143), (signal.SIGTERM, 143), (signal.SIGHUP, 143), (signal.SIGQUIT, 131)]
)
def test_asked_to_stop_the_recorder_ends_its_command_and_keeps_the_profile(
    number: signal.Signals, status: int, spin: Path, tmp_path: Path, started: "list[subprocess.Popen[str]]"
) -> None:
    output = tmp_path / "x.insitu"
    words = ["profile", "-F", "999", "-o", str(output), "--", str(spin), "forever"]
    recorder = subprocess.Popen([*INSITU, *words], stderr=subprocess.PIPE, text=True)
    started.append(recorder)
    wait_until(lambda: recorded_bytes(output) > 10_000)
    recorder.send_signal(number)
    _, said = recorder.communicate(timeout=300)
    assert "Traceback" not in said
    assert recorder.returncode == status
    assert insitu.open(output).stacks().total_count > 10


def test_interrupted_while_converting_the_recorder_leaves_at_once_and_loses_nothing(
    spin: Path, tmp_path: Path, started: "list[subprocess.Popen[str]]"
) -> None:
    output = tmp_path / "x.insitu"
    words = ["profile", "-F", "999", "-o", str(output), "--", str(spin), "shares"]
    recorder = subprocess.Popen([*INSITU, *words], stderr=subprocess.PIPE, text=True)
    started.append(recorder)
    wait_until(lambda: output.exists() and '"exit_status": 0' in (output / "session.json").read_text())
    wait_until(lambda: recorder.send_signal(signal.SIGINT) or recorder.poll() is not None)
    _, said = recorder.communicate(timeout=300)
    assert "Traceback" not in said
    assert insitu.open(output).stacks().total_count > 900


def test_a_duration_ends_the_recording_and_the_command(spin: Path, tmp_path: Path) -> None:
    run("-F", "999", "-d", "1", "-o", tmp_path / "x.insitu", "--", spin, "forever")
    session = insitu.open(tmp_path / "x.insitu")
    # How soon a busy machine gets to it is open above; it never uses more CPU time than there was.
    seconds = session.manifest.duration_ns / 1e9
    assert seconds >= 1
    assert 10 < session.stacks().total_count < 999 * seconds + 10


def test_the_end_of_the_target_ends_the_recording(
    tmp_path: Path, spin: Path, started: "list[subprocess.Popen[str]]"
) -> None:
    target = subprocess.Popen([spin, "forever"], text=True)
    started.append(target)
    output = tmp_path / "x.insitu"
    words = ["profile", "-F", "999", "-o", str(output), "-p", str(target.pid)]
    recorder = subprocess.Popen([*INSITU, *words], stderr=subprocess.PIPE, text=True)
    started.append(recorder)
    wait_until(lambda: recorded_bytes(output) > 10_000)
    target.kill()
    target.wait()
    _, said = recorder.communicate(timeout=300)
    assert recorder.returncode == 0, said
    assert insitu.open(output).stacks().total_count > 50


def test_a_process_named_twice_or_by_a_thread_is_recorded_once(
    spin: Path, tmp_path: Path, started: "list[subprocess.Popen[str]]"
) -> None:
    target = subprocess.Popen([spin, "threads"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    started.append(target)
    assert target.stdout.readline() == "ready\n"
    thread = max(int(entry.name) for entry in Path(f"/proc/{target.pid}/task").iterdir())
    session = insitu.profile(pid=[target.pid, thread, target.pid], seconds=1.5, frequency=999)
    seconds = session.manifest.duration_ns / 1e9
    assert 10 < session.stacks().total_count < 999 * seconds + 10  # only one of its threads runs
    assert session.manifest.pids == [target.pid]


def test_a_missing_process_is_one_clear_line(tmp_path: Path) -> None:
    done = run("-q", "-o", tmp_path / "x.insitu", "-p", "4194304", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "process 4194304 does not exist" in done.stderr
    assert not (tmp_path / "x.insitu").exists()


def test_without_privileges_user_code_is_recorded_and_others_processes_refused(
    spin: Path, tmp_path_factory: pytest.TempPathFactory, started: "list[subprocess.Popen[str]]"
) -> None:
    import tempfile

    if Path("/proc/sys/kernel/perf_event_paranoid").read_text().strip() not in ("2", "1"):
        pytest.skip("kernel.perf_event_paranoid lets users do more, or less")
    target = subprocess.Popen([spin, "forever"], text=True)
    started.append(target)
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        command = ["sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]
        words = [*nobody, *INSITU, "profile", "-F", "999", "-o", f"{name}/x.insitu"]
        done = subprocess.run([*words, "--", *command], capture_output=True, text=True, cwd=name)
        if "Permission denied" in done.stderr and "insitu" not in done.stderr:
            pytest.skip("the interpreter is out of reach for other users")
        assert done.returncode == 0, done.stderr
        assert "kernel samples excluded" in done.stderr
        assert insitu.open(f"{name}/x.insitu").stacks().total_count > 10
        done = subprocess.run([*words, "-p", str(target.pid)], capture_output=True, text=True, cwd=name)
        assert done.returncode == 1
        assert f"process {target.pid} belongs to another user (run as root, or with CAP_PERFMON)" in done.stderr
        done = subprocess.run([*words, "--off-cpu", "--", "true"], capture_output=True, text=True, cwd=name)
        assert done.returncode == 1
        assert done.stderr.startswith("insitu: cannot record waits (--off-cpu): ") and done.stderr.count("\n") == 1


TOUCH = r"""
#include <sys/mman.h>
#include <unistd.h>
__attribute__((noinline)) void touch(char *p, int pages) { for (int i = 0; i < pages; i++) p[4096 * i] = 1; }
int main(void) {
    char *p = mmap(0, 4096 * 3000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(p, 4096 * 3000, MADV_NOHUGEPAGE);
    touch(p, 3000);
    for (int i = 0; i < 40; i++) usleep(100);
    return 0;
}
"""


@pytest.fixture(scope="module")
def touching(tmp_path_factory: pytest.TempPathFactory) -> str:
    home = tmp_path_factory.mktemp("touch")
    (home / "t.c").write_text(TOUCH)
    subprocess.run(["gcc", "-O1", "-fno-omit-frame-pointer", "t.c", "-o", "t"], cwd=home, check=True)
    return str(home / "t")


@pytest.mark.parametrize(("period", "samples"), [(None, 3000), (10, 300)])
def test_each_page_fault_is_counted_where_it_happened(touching: str, period: int | None, samples: int) -> None:
    with insitu.profile([touching], period=period, events=["page-faults"]) as session:
        tree = call_tree(session.stacks(), value="weight")
        own = {tree.names[name].function: 0 for name in tree.name.tolist()}
        for name, weight in zip(tree.name.tolist(), tree.own.tolist(), strict=True):
            own[tree.names[name].function] += weight
        # A page each; with a period a sample stands for ten, of which the first and the last may be others' in part.
        assert abs(own["touch"] - 3000) <= (period or 0)
        rows = session.sql("select count(*)::int as n, any_value(weight)::int as each from sample").row(0)
        assert rows[1] == (period or 1) and samples <= rows[0] <= samples + 1000 // (period or 1)


def test_tracepoints_and_groups_are_sampled_as_often_as_they_happen(touching: str) -> None:
    events = ["sched:sched_switch", "{context-switches,page-faults}:k", "page-faults:u"]
    with insitu.profile([touching], events=events) as session:
        counted = dict(
            session.sql("select name, count(*)::int from event_type join sample on event_type = id group by 1").rows()
        )
        units = dict(session.sql("select name, unit from event_type").rows())
    assert counted["sched:sched_switch"] == counted["context-switches:k"] >= 40
    assert 3000 <= counted["page-faults:u"] < 4000
    assert units == {
        "sched:sched_switch": "sched:sched_switch",
        "context-switches:k": "context-switches",
        "page-faults:k": "page-faults",
        "page-faults:u": "page-faults",
    }
