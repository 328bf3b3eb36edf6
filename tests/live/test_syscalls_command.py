"""`insitu syscalls` as its users start it; strace, where it is installed, is the judge of its lines."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.live.tracing import wait_until

import insitu

INSITU = [sys.executable, "-m", "insitu", "syscalls"]
BACKENDS = ["ptrace", pytest.param("bpf", marks=pytest.mark.skipif(os.geteuid() != 0, reason="BPF needs root"))]


def syscalls(*words: str, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*INSITU, *words], capture_output=True, text=True, timeout=300, env={**os.environ, **(env or {})}
    )


def normal(lines: Sequence[str]) -> list[str]:
    """Lines without what differs from run to run: addresses, process ids within them, CPU time."""
    text = re.sub(r"0x[0-9a-f]{6,}", "ADDRESS", "\n".join(lines))
    text = re.sub(r"(si_pid=|kill\()\d+", r"\1PID", text)
    return re.sub(r"(si_[us]time=)\d+", r"\1N", text).splitlines()


def by_thread(lines: Sequence[str]) -> dict[str, list[str]]:
    """The lines of each thread, by id, the two halves of interrupted calls joined."""
    found: dict[str, list[str]] = {}
    for line in lines:
        pid, _, text = line.partition(" ")
        found.setdefault(pid, []).append(text.lstrip())
    for texts in found.values():
        joined: list[str] = []
        for text in texts:
            resumed = re.match(r"<\.\.\. \w+ resumed>", text)
            if resumed and joined and joined[-1].endswith(" <unfinished ...>"):
                joined[-1] = joined[-1].removesuffix(" <unfinished ...>") + text[resumed.end() :]
            else:
                joined.append(text)
        texts[:] = [re.sub(r"\) +(= )", r") \1", text) for text in joined]
    return found


SIMPLE = "trace=openat,close,access,exit_group,pipe2,dup2"


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "command",
    [
        ("true",),
        ("cat", "/etc/hostname", "/does/not/exist"),
        ("sh", "-c", "kill -SEGV $$"),
        ("sh", "-c", "exit 3"),
        ("sh", "-c", "true; sh -c 'exit 4'"),
    ],
)
def test_lines_are_straces(backend: str, command: Sequence[str], tmp_path: Path) -> None:
    subprocess.run(["strace", "-f", "-e", SIMPLE, "-o", tmp_path / "theirs", *command], capture_output=True)
    syscalls("--backend", backend, "-e", SIMPLE, "-o", str(tmp_path / "ours"), *command)
    ours, theirs = (
        list(by_thread(normal((tmp_path / name).read_text().splitlines())).values()) for name in ("ours", "theirs")
    )
    assert ours == theirs


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_exit_status_is_the_commands(backend: str) -> None:
    assert syscalls("-qq", "--backend", backend, "-e", "none", "sh", "-c", "exit 3").returncode == 3
    assert syscalls("-qq", "--backend", backend, "-e", "none", "sh", "-c", "kill -9 $$").returncode == 137


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_the_command_has_left_running_is_traced_to_its_end(backend: str, tmp_path: Path) -> None:
    """As strace -f does: a daemon is what is left when the command has ended."""
    fifo, late, out = tmp_path / "fifo", tmp_path / "late", tmp_path / "out"
    os.mkfifo(fifo)
    words = ["-qq", "--backend", backend, "-e", "openat", "-o", str(out)]
    script = f"(read line < {fifo}; echo $line > {late}) & echo $$ > {tmp_path}/pid; exit 3"
    with subprocess.Popen([*INSITU, *words, "sh", "-c", script]) as tracer:
        wait_until(lambda: tracer.poll() is not None or _has_ended(tmp_path / "pid"))
        fifo.write_text("late\n")
        assert tracer.wait(timeout=60) == 3
    assert f'"{late}", O_WRONLY|O_CREAT|O_TRUNC, 0666' in out.read_text()
    count = syscalls("--backend", backend, "-c", "-e", "nanosleep,clock_nanosleep", "sh", "-c", "sleep 0.1 & exit 4")
    assert count.returncode == 4
    assert "nanosleep" in count.stderr


def _has_ended(file: Path) -> bool:
    """Whether the process whose number a file has is gone, or waits to be reaped."""
    if not file.exists() or not (number := file.read_text().strip()):
        return False
    state = Path(f"/proc/{number}/stat")
    return not state.exists() or state.read_text().rpartition(") ")[2].startswith("Z")


@pytest.mark.parametrize("backend", BACKENDS)
def test_ctrl_c_ends_it_while_something_is_left_running(backend: str, tmp_path: Path) -> None:
    words = ["-qq", "--backend", backend, "-e", "none", "-o", str(tmp_path / "out")]
    script = f"sleep 1000 & echo $! > {tmp_path}/left; echo $$ > {tmp_path}/pid; exit 3"
    with subprocess.Popen([*INSITU, *words, "sh", "-c", script]) as tracer:
        wait_until(lambda: tracer.poll() is not None or _has_ended(tmp_path / "pid"))
        tracer.send_signal(signal.SIGINT)
        assert tracer.wait(timeout=60) == 3
    left = int((tmp_path / "left").read_text())
    assert not _has_ended(tmp_path / "left")
    os.kill(left, signal.SIGKILL)


def test_options_stop_at_the_command() -> None:
    done = syscalls("-qq", "-e", "trace=write", "sh", "-c", "echo $0 $1", "-e", "-x")
    assert done.stdout == "-e -x\n"
    assert 'write(1, "-e -x\\n", 6) ' in done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_failed_calls_on_a_path(backend: str, tmp_path: Path) -> None:
    words = ["-qq", "--backend", backend, "-Z", "-P", "/does/not/exist", "-o", str(tmp_path / "out")]
    syscalls(*words, "cat", "/does/not/exist")
    lines = (tmp_path / "out").read_text().splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        'openat(AT_FDCWD, "/does/not/exist", O_RDONLY) = -1 ENOENT (No such file or directory)'
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_filter_expression_selects_calls(backend: str) -> None:
    done = syscalls(
        *("--backend", backend, "--filter"),
        "evt.type = openat and fd.name startswith /etc/host and proc.name = cat and proc.aname = sh",
        *("sh", "-c", "cat /etc/hostname /etc/passwd; true"),
    )
    lines = [line for line in done.stderr.splitlines() if not line.startswith("insitu:")]
    assert [re.sub(r"^\[pid +\d+\] ", "", line) for line in lines] == [
        'openat(AT_FDCWD, "/etc/hostname", O_RDONLY) = 3'
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_summary_counts_what_strace_counts(backend: str, tmp_path: Path) -> None:
    command = ["cat", "/etc/hostname", "/does/not/exist"]
    out = tmp_path / "out"
    syscalls("--backend", backend, "-c", "-U", "calls,errors,name", "-S", "name", "-o", str(out), *command)
    counts = {line.split()[-1]: line.split()[:-1] for line in out.read_text().splitlines()[2:-2]}
    theirs = tmp_path / "theirs"
    strace = ["strace", "-f", "-c", "-U", "calls,errors,name", "-S", "name", "-o", str(theirs)]
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    subprocess.run([*strace, *command], capture_output=True)
    assert counts == {line.split()[-1]: line.split()[:-1] for line in theirs.read_text().splitlines()[2:-2]}


@pytest.mark.parametrize("backend", BACKENDS)
def test_json_has_a_line_for_each_call(backend: str, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    syscalls("--backend", backend, "--json", "-e", "openat,exit_group", "-o", str(out), "cat", "/etc/hostname")
    found = [json.loads(line) for line in out.read_text().splitlines()]
    calls = [each for each in found if each["type"] == "call"]
    assert [each["args"][1]["path"] for each in calls if each["name"] == "openat"][-1] == "/etc/hostname"
    assert all(each["dur_ns"] > 0 and each["ret"] >= -4095 for each in calls if each["name"] == "openat")
    assert calls[-1]["name"] == "exit_group" and calls[-1]["ret"] is None
    assert [each["status"] for each in found if each["type"] == "exit"] == [0]


def test_an_injected_error_is_seen_by_the_command(tmp_path: Path) -> None:
    out = tmp_path / "calls.txt"  # cat writes its message in pieces: on one standard error they would mix with ours
    done = syscalls(
        "-qq", "-e", "openat", "-e", "inject=openat:error=EPERM:when=3+", "-o", str(out), "cat", "/etc/hostname"
    )
    assert done.returncode == 1
    assert "(Operation not permitted) (INJECTED)" in out.read_text()
    assert "cat: /etc/hostname: Operation not permitted" in done.stderr


def test_names_with_escape_sequences_do_not_drive_the_terminal(tmp_path: Path) -> None:
    name = tmp_path / "a\nb\x1b[31mc\x9b"
    name.write_text("x")
    link = tmp_path / "link"
    link.symlink_to(name)
    done = subprocess.run([*INSITU, "-y", "-e", "openat,read,readlink", "cat", link, name], capture_output=True)
    assert done.returncode == 0
    text = done.stderr.decode()
    assert "\x1b" not in text and "\x9b" not in text
    assert "a\\nb\\33[31mc" in text


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_reader_that_has_enough_leaves_the_program_alone_and_says_nothing(backend: str, tmp_path: Path) -> None:
    busy = f"for i in $(seq 300); do echo x > /dev/null; done; echo done > {tmp_path}/ran; exit 7"
    script = f"{' '.join(INSITU)} -qq --backend {backend} sh -c '{busy}' 2>&1 | head -n 3; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 7
    assert (tmp_path / "ran").read_text() == "done\n"
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr == ""


def test_a_full_disk_is_one_line_and_leaves_the_program_alone(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    script = (
        f"mount -t tmpfs -o size=16k none {small} || exit 99\n"
        f"exec {' '.join(INSITU)} -o {small}/out sh -c"
        f" 'for i in $(seq 300); do echo x > /dev/null; done; echo done > {tmp_path}/ran'"
    )
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=300)
    if done.returncode == 99:
        pytest.skip("cannot mount a tmpfs")
    assert done.returncode == 1
    assert (tmp_path / "ran").read_text() == "done\n"
    lines = [line for line in done.stderr.splitlines() if not line.endswith(" attached")]
    what = "No space left on device: what follows is not written; the command runs on"
    assert lines == [f"insitu: {small}/out: {what}"]


@pytest.fixture
def started() -> "Iterator[list[subprocess.Popen[str]]]":
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_ctrl_c_leaves_an_attached_process_running(
    backend: str, tmp_path: Path, started: "list[subprocess.Popen[str]]"
) -> None:
    target = subprocess.Popen(
        ["sh", "-c", "while read x; do echo $x > /dev/null; done"], stdin=subprocess.PIPE, text=True
    )
    started.append(target)
    out = tmp_path / "out"
    words = ["--backend", backend, "-e", "openat", "-o", str(out), "-p", str(target.pid)]
    tracer = subprocess.Popen([*INSITU, *words], stderr=subprocess.PIPE, text=True)
    started.append(tracer)
    assert target.stdin is not None

    def seen() -> bool:
        assert target.stdin is not None and tracer.poll() is None
        target.stdin.write("x\n")
        target.stdin.flush()
        return out.exists() and out.read_text().count("/dev/null") > 3

    wait_until(seen)
    tracer.send_signal(signal.SIGINT)
    assert tracer.wait(timeout=60) == 0
    assert target.poll() is None
    assert "TracerPid:\t0" in Path(f"/proc/{target.pid}/status").read_text()
    target.stdin.close()
    assert target.wait(timeout=60) == 0


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 2, "nothing to trace"),
        (("-e", "opnat", "true"), 2, "did you mean 'openat'"),
        (("-p", "1", "true"), 2, "cannot be combined"),
        (("-b", "execve", "true"), 2, "detaches at Ctrl-C"),
        (("-i", "true"), 2, "use -k"),
        (("--filter", "fd.nam = x", "true"), 2, "did you mean 'fd.name'"),
        (("-S", "cals", "true"), 2, "did you mean 'calls'"),
        (("-ff", "-o", "|cat", "true"), 2, "-o FILE"),
        (("-z", "-Z", "true"), 2, "not allowed with"),
        (("--backend", "bpf", "-e", "fault=read", "true"), 2, "ptrace engine"),
        (("-a", "60", "true"), 2, "--columns 60"),
        (("-n", "no-such-prog"), 2, "strace's -n is -N"),
        (("/does/not/exist",), 127, "command not found"),
        (("-o", "/does/not/exist/out", "true"), 1, "No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_one_line(words: Sequence[str], status: int, said: str) -> None:
    done = syscalls(*words)
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("insitu: ")


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_attached_to_is_said_unless_quiet(backend: str, started: "list[subprocess.Popen[str]]") -> None:
    code = "import threading; threading.Thread(target=input).start(); print('ready', flush=True)"
    target = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    started.append(target)
    assert target.stdout is not None and target.stdout.readline() == "ready\n"
    name = Path(f"/proc/{target.pid}/comm").read_text().rstrip()
    words = ("--backend", backend, "-e", "none", "-d", "0.1", "-p", str(target.pid))
    assert f"insitu: attached to {target.pid} ({name}), 2 threads\n" in syscalls(*words).stderr
    assert "attached" not in syscalls("-q", *words).stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_process_that_has_just_ended_is_said_to_have(backend: str, started: "list[subprocess.Popen[str]]") -> None:
    target = subprocess.Popen(["true"], text=True)
    started.append(target)
    wait_until(lambda: Path(f"/proc/{target.pid}/stat").read_text().split()[2] == "Z")
    done = syscalls("--backend", backend, "-p", str(target.pid))
    assert (done.returncode, done.stderr) == (1, f"insitu: process {target.pid} has ended\n")
    alive = subprocess.Popen(["sleep", "60"], text=True)  # of several, those that are left are followed
    started.append(alive)
    done = syscalls("--backend", backend, "-d", "0.2", "-p", f"{target.pid},{alive.pid}")
    assert done.returncode == 0 and "has ended" not in done.stderr


def test_a_fifo_without_a_reader_is_waited_for_in_words(
    tmp_path: Path, started: "list[subprocess.Popen[str]]"
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    tracer = subprocess.Popen([*INSITU, "-o", str(fifo), "true"], stderr=subprocess.PIPE, text=True)
    started.append(tracer)
    assert tracer.stderr is not None
    assert tracer.stderr.readline() == f"insitu: {fifo} is a FIFO: waiting for a reader\n"
    assert "+++ exited with 0 +++" in fifo.read_text()
    assert tracer.wait(timeout=60) == 0


def test_output_goes_through_a_command(tmp_path: Path) -> None:
    done = syscalls("-e", "exit_group", "-o", f"|cat > {tmp_path}/out", "true")
    assert done.returncode == 0
    assert "exit_group(0)" in (tmp_path / "out").read_text()


def test_variables_of_the_command_are_set_and_unset() -> None:
    done = syscalls(
        "-qq", "-e", "none", "-E", "SET=yes", "-E", "GONE", "sh", "-c", "echo $SET $GONE.", env={"GONE": "x"}
    )
    assert done.stdout == "yes .\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="BPF needs root")
def test_a_session_is_printed_as_it_would_have_been_live(tmp_path: Path) -> None:
    run = tmp_path / "run.insitu"
    command = ["sh", "-c", "cat /etc/hostname /does/not/exist; exit 3"]
    done = syscalls("--backend", "bpf", "-o", str(run), *command)
    assert done.returncode == 3
    assert "0 lost" in done.stderr
    words = ["-e", SIMPLE]
    live = syscalls("--backend", "bpf", *words, "-o", str(tmp_path / "live"), *command)
    assert live.returncode == 3
    printed = syscalls(*words, "-o", str(tmp_path / "printed"), str(run))
    assert (printed.returncode, printed.stderr) == (0, "")
    ours, again = (
        list(by_thread(normal((tmp_path / name).read_text().splitlines())).values()) for name in ("live", "printed")
    )
    # A session does not have who sent a signal's status and CPU time.
    ours, again = ([[line for line in each if "SIGCHLD" not in line] for each in lines] for lines in (ours, again))
    assert again == ours


@pytest.mark.skipif(os.geteuid() != 0, reason="BPF needs root")
def test_filters_and_summaries_are_of_sessions_too(tmp_path: Path) -> None:
    run = tmp_path / "run.insitu"
    syscalls("--backend", "bpf", "-o", str(run), "sh", "-c", "cat /etc/hostname /does/not/exist; true")
    expression = "proc.name = cat and evt.failed = true and fd.name = /does/not/exist and evt.cpu >= 0"
    found = syscalls("--filter", expression, str(run))
    assert [re.sub(r"^\[pid +\d+\] ", "", line) for line in found.stdout.splitlines()] == [
        'openat(AT_FDCWD, "/does/not/exist", O_RDONLY) = -1 ENOENT (No such file or directory)'
    ]
    as_json = syscalls("--json", "--filter", expression, str(run))
    (call,) = (each for each in map(json.loads, as_json.stdout.splitlines()) if each["type"] == "call")
    assert (call["errno"], call["args"][1]["path"]) == ("ENOENT", "/does/not/exist")
    table = syscalls("-c", "-U", "calls,errors,name", "--filter", expression, str(run)).stdout.splitlines()
    assert table[2].split() == ["1", "1", "openat"]


def test_what_is_of_printing_is_refused_for_recording_and_the_other_way_round(tmp_path: Path) -> None:
    recorded = syscalls("-o", str(tmp_path / "run.insitu"), "--filter", "evt.type = open", "true")
    assert (recorded.returncode, recorded.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "run.insitu").exists()


WORDS = ["two words", 'it\'s "quoted"', "two\nlines", "", "$HOME", "-x", "\x1b[31m", "*", "\N{SNOWMAN}"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_session_has_the_command_line_of_each_process_as_a_shell_takes_it(backend: str, tmp_path: Path) -> None:
    run = tmp_path / "run.insitu"
    # The shell runs a program, and a child of it that is never another program.
    script = 'cat /dev/null; cat "$@" 2>/dev/null; (echo > /dev/null); :'
    command = ["sh", "-c", script, "sh", *WORDS]
    syscalls("-q", "--backend", backend, "-o", str(run), *command)
    with insitu.open(run) as session:
        found = session.sql("select exe, cmdline from process where cmdline <> ''")
    lines = [shlex.split(line) for line in found["cmdline"]]
    assert lines == [command, ["cat", "/dev/null"], ["cat", *WORDS], command]
    shell, cat = (os.path.realpath(shutil.which(name) or "") for name in ("sh", "cat"))
    assert list(found["exe"]) == [shell, cat, cat, shell]
    echoed = subprocess.run(["sh", "-c", f"printf '%s\\0' {found['cmdline'][0]}"], capture_output=True, check=True)
    assert echoed.stdout.decode().split("\0")[:-1] == command


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_session_of_a_running_process_has_its_command_line(
    backend: str, tmp_path: Path, started: "list[subprocess.Popen[str]]"
) -> None:
    target = subprocess.Popen(["cat", "--", "-", *WORDS], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    started.append(target)
    run = tmp_path / "run.insitu"
    tracer = subprocess.Popen([*INSITU, "-q", "--backend", backend, "-o", str(run), "-p", str(target.pid)])
    started.append(tracer)
    records = run / "raw" / "syscalls" / "events.records"
    wait_until(lambda: tracer.poll() is not None or (records.exists() and records.stat().st_size))
    assert target.stdin is not None
    target.stdin.close()
    assert tracer.wait(timeout=60) == 0
    with insitu.open(run) as session:
        ((pid, line),) = session.sql("select pid, cmdline from process where cmdline <> ''").iter_rows()
    assert pid == target.pid
    assert shlex.split(line) == ["cat", "--", "-", *WORDS]


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_a_long_command_line_the_beginning_is_kept(backend: str, tmp_path: Path) -> None:
    run = tmp_path / "run.insitu"
    syscalls("-q", "--backend", backend, "-o", str(run), "true", "a" * 3000, "b" * 3000)
    with insitu.open(run) as session:
        ((line,),) = session.sql("select cmdline from process where cmdline <> ''").iter_rows()
    assert line == f"true {'a' * 3000} {'b' * (4096 - 3000 - len('true') - 2)}"
