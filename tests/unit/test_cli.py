"""The command line itself: complaints of one line, closed and full outputs, signals."""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu import messages
from insitu.cli import command_parser, main
from insitu.commands import COMMANDS, _options
from insitu.commands._completions import preamble
from insitu.errors import InsituError

INSITU = [sys.executable, "-m", "insitu"]


@pytest.fixture
def folded(tmp_path):
    path = tmp_path / "run.folded"
    path.write_text("prog;main;work 10\n")
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["nope"],
        ["help", "nope"],
        ["report", "a", "b"],
        ["trace", "--programs", "--no-such-option"],
        ["trace", "-l", "--no-such-option"],
        ["callgraph", "x", "--min-width", "1"],
        ["report", "--nope", "x"],
        ["report", "x", "--limit", "-1"],
        ["report", "x", "--min-percent", "nan"],
        ["callgraph", "x", "--edge-thres", "101"],
        ["flame", "x", "--thread", "one"],
        ["diff", "x"],
    ],
)
def test_wrong_usage_is_one_line_that_names_the_help(words, tmp_path):
    done = subprocess.run([*INSITU, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("insitu: ") and done.stderr.count("\n") == 1 and "--help" in done.stderr


@pytest.mark.parametrize("words", [["report"], ["report", "--folded"], ["flame", "-o", "-"], ["callgraph"]])
@pytest.mark.parametrize(("redirection", "reason"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left")])
def test_an_output_that_takes_nothing_is_reported_in_one_line(folded, words, redirection, reason):
    command = ["sh", "-c", f'"$@" {redirection}', "sh", *INSITU, *words, folded]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.startswith(f"insitu: standard output: {reason}") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["profile", "--freq", "99", "--", "true"], "unknown option --freq; did you mean '--frequency'?"),
        (["report", "--limt=3"], "unknown option --limt; did you mean '--limit'?"),
        (["report", "--stdio"], "unknown option --stdio; a report is always text"),
        (["profile", "--call-graph", "dwarf"], "unknown option --call-graph; use --stacks fp or --stacks dwarf"),
        (["top", "-u", "root"], "unknown option -u; name the processes, which pgrep lists: insitu top PID,PID"),
        (["top", "-1"], "unknown option -1; each CPU is shown"),
        (["top", "--sort-key=CPU"], "unknown option --sort-key; use --sort COLUMN"),
        (["delays", "-c", "ls"], "unknown option -c; use -- COMMAND"),
        (["stat", "--topdown", "true"], "unknown option --topdown; use -M topdown"),
        (["report", "a", "b"], "unexpected argument 'b'"),
        (["top", "--ticks", "-1"], "--ticks: must be at least 1, not -1"),
        (["trace", "-l", "--nope"], "unknown option --nope"),
        (["report", "x", "--sort", "name"], "--sort: 'name' is not one of self, total"),
        (["profile", "-F", "0"], "-F/--frequency: must be at least 1, not 0"),
    ],
)
def test_wrong_usage_says_what_is_wrong_and_what_comes_close(words, line, tmp_path):
    done = subprocess.run([*INSITU, *words], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.stderr == f"insitu: {line} (see insitu {words[0]} --help)\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_hint_for_an_option_of_another_tool_names_options_that_exist(command):
    parser = command_parser(command)
    for option, hint in getattr(parser, "peer_options", {}).items():
        assert option not in parser._option_string_actions
        assert set(re.findall(r"(?<!\w)--?[a-zA-Z][\w-]*", hint)) <= {*parser._option_string_actions, "--thread"}


def test_a_remedy_is_never_in_parentheses_beside_others():
    assert str(InsituError("denied", remedy="run as root")) == "denied (run as root)"
    assert str(InsituError("denied (level 2)", remedy="run as root")) == "denied (level 2); run as root"
    assert str(InsituError("denied", remedy="a (b)")) == "denied; a (b)"


def test_an_output_that_cannot_be_written_is_named(folded, tmp_path):
    command = [*INSITU, "flame", folded, "-o", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stderr == f"insitu: cannot write {tmp_path}: Is a directory (choose another file)\n"
    assert done.returncode == 1


def test_a_page_of_some_kilobytes_is_not_0_megabytes(folded, tmp_path):
    command = [*INSITU, "flame", folded, "-o", "x.html"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.stdout == f"x.html: {(tmp_path / 'x.html').stat().st_size / 1024:.1f} KiB\n"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("selct", 'Parser Error: syntax error at or near "selct"'),
        ("from nosuch", "Table with name nosuch does not exist; Did you mean"),
        ("nosuch.insitu", "nosuch.insitu: no such file or directory"),
    ],
)
def test_a_word_after_the_recording_is_a_query_unless_it_looks_like_a_file(folded, query, says):
    done = subprocess.run([*INSITU, "sql", folded, query], capture_output=True, text=True, timeout=120)
    assert says in done.stderr.splitlines()[0] and len(done.stderr.splitlines()) == (3 if query == "selct" else 1)


def test_all_standard_streams_may_be_closed(folded, tmp_path):
    page = tmp_path / "x.folded"
    command = ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *INSITU, "export", folded, "-o", page]
    assert subprocess.run(command, timeout=300).returncode == 0
    assert page.read_text() == "prog;main;work 10\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_command_and_its_temporary_files(number, status, tmp_path):
    """`import -` keeps what comes from standard input in a file without a name while it waits for more."""
    command = [*INSITU, "import", "-", "-o", tmp_path / "x.insitu"]
    files = tmp_path / "temporary"
    files.mkdir()
    environment = os.environ | {"TMPDIR": str(files)}
    program = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, preexec_fn=_hear_all
    )
    while not _has_open(program.pid, files):
        assert program.poll() is None
        time.sleep(0.01)
    program.send_signal(number)
    assert program.wait(60) == status
    program.stdin.close()
    assert program.stderr.read() == b""
    program.stderr.close()
    assert not list(files.iterdir()) and not (tmp_path / "x.insitu").exists()


_LATE_SIGNAL = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>
static int sent;
static void send_once(void) { if (!sent++) raise(SIGINT); }
int poll(struct pollfd *fds, nfds_t count, int timeout)
{
    send_once();
    return ((int (*)(struct pollfd *, nfds_t, int))dlsym(RTLD_NEXT, "poll"))(fds, count, timeout);
}
ssize_t read(int fd, void *to, size_t size)
{
    if (fd == 0) send_once();
    return ((ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read"))(fd, to, size);
}
int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t room) { return poll(fds, count, timeout); }
ssize_t __read_chk(int fd, void *to, size_t size, size_t room) { return read(fd, to, size); }
"""


def test_a_signal_just_before_the_wait_for_input_ends_it(tmp_path):
    """After Python has looked for signals: from the function of the C library that waits."""
    (tmp_path / "late.c").write_text(_LATE_SIGNAL)
    late = tmp_path / "late.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", late, tmp_path / "late.c", "-ldl"], check=True)
    command = [*INSITU, "import", "-", "-o", tmp_path / "x.insitu"]
    environment = os.environ | {"LD_PRELOAD": str(late)}
    program = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, preexec_fn=_hear_all
    )
    assert (program.stderr.read(), program.wait()) == (b"", 130)
    program.stdin.close()
    program.stderr.close()


def _has_open(pid: int, directory: Path) -> bool:
    """Whether a process has a file in ``directory`` open, with or without a name."""
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if str(each.readlink()).startswith(str(directory)):
                return True
    return False


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _hear_all() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize(
    "words",
    [
        ["-F", str(1 << 64)],
        ["-m", str(1 << 63)],
        ["-d", "nan"],
        ["-d", "inf"],
        ["-d", "-1"],
        ["-d", "0"],
        ["-d", "1e300"],
        ["-F", "0"],
        ["-F", "-1"],
        ["-F", "nan"],
        ["-m", "3"],
        ["-p", "-1"],
        ["-p", "1,,2"],
        ["-p", "4194305"],
        ["--stacks", "dwarf,\N{SUPERSCRIPT TWO}"],
    ],
)
def test_numbers_that_make_no_sense_are_refused_before_anything_is_recorded(words, tmp_path):
    output = tmp_path / "x.insitu"
    done = subprocess.run(
        [*INSITU, "profile", "-o", output, *words, "--", "true"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert not output.exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_query_that_would_take_minutes(folded, number, status):
    query = "select count(*) from range(100000000000) where range % 7 = 3"
    program = subprocess.Popen([*INSITU, "sql", folded, query], stderr=subprocess.PIPE, preexec_fn=_hear_all)
    # Starting takes less than a second of CPU time.
    while _cpu_seconds(program.pid) < 3:
        assert program.poll() is None
        time.sleep(0.01)
    program.send_signal(number)
    _, said = program.communicate(timeout=300)
    assert (program.returncode, said) == (status, b"")


@pytest.mark.parametrize("command", list(COMMANDS))
def test_help_of_a_command_is_its_help_option(command):
    shown = [
        subprocess.run([*INSITU, *words], capture_output=True, text=True, timeout=300)
        for words in (["help", command], [command, "--help"])
    ]
    assert [each.returncode for each in shown] == [0, 0] and shown[0].stderr == ""
    assert shown[0].stdout == shown[1].stdout and shown[0].stdout.startswith(f"usage: insitu {command}")


# strace's letters, as its manual has them; where insitu has the letter already, insitu's.
_STRACE = {
    "-A": "--output-append-mode",
    "-c": "--summary-only",
    "-C": "--summary",
    "-E": "--env",
    "-f": "--follow-forks",
    "-k": "--stack-traces",
    "-N": "--syscall-number",
    "-P": "--trace-path",
    "-r": "--relative",
    "-s": "--string-limit",
    "-S": "--summary-sort-by",
    "-t": "--timestamps",
    "-T": "--call-times",
    "-U": "--summary-columns",
    "-w": "--summary-wall-clock",
    "-x": "--hex",
    "-X": "--const-print-style",
    "-y": "--descriptors",
    "-z": "--successful-only",
    "-Z": "--failed-only",
}


# perf stat's letters.
_PERF_STAT = {
    "-A": "--no-aggr",
    "-B": "--big-num",
    "-C": "--cpu",
    "-d": "--detailed",
    "-D": "--delay",
    "-G": "--cgroup",
    "-i": "--no-inherit",
    "-I": "--interval-print",
    "-j": "--json",
    "-M": "--metrics",
    "-n": "--null",
    "-r": "--repeat",
    "-S": "--sync",
    "-t": "--tid",
    "-x": "--field-separator",
}


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "lab"])
def test_every_short_option_has_a_long_one_and_letters_mean_the_same_everywhere(command):
    meanings = {
        "-a": "--all",
        "-b": "--batch",  # top's
        "-c": "--period" if command == "profile" else "--command",  # perf's, and bpftrace's
        "-d": "--duration",
        "-f": "--format",
        "-F": "--frequency",
        "-h": "--help",
        "-I": "--include-dir",
        "-k": "--runtime-warnings",  # bpftrace's
        "-l": "--list",
        "-m": "--pages",
        "-n": "--comm",
        "-o": "--output",
        "-p": "--pid",
        "-q": "--quiet",
        "-v": "--verbose",
    }
    if command == "syscalls":
        meanings |= _STRACE
    elif command == "stat":
        meanings |= _PERF_STAT
    elif command == "calls":
        meanings |= {"-b": "--buffer", "-c": "--summary", "-f": "--function", "-g": "--graph", "-n": "--no-function"}
    elif command == "events":
        meanings |= {"-b": "--buffer", "-F": "--filter", "-x": "--exec"}  # trace-cmd's, and perf probe's
    elif command == "cache":
        meanings |= {"-i": "--ignore", "-I": "--only", "-x": "--one-file-system"}  # vmtouch's, and find's
    elif command == "latency":
        meanings |= {"-t": "--threshold"}
    for action in command_parser(command)._actions:
        short = [each for each in action.option_strings if not each.startswith("--")]
        long = [each for each in action.option_strings if each.startswith("--")]
        assert len(short) <= 1 and (long or not short)
        if short and short != ["-e"]:
            assert long == [meanings[short[0]]]
        elif short:
            assert long[0] in ("--event", "--expression")


@pytest.mark.parametrize(
    "words", [["report", "--folded"], ["flame", "-o", "-"], ["callgraph"], ["sql", "from sample"]]
)
def test_without_run_the_newest_session_of_a_default_name_is_opened_and_named(words, folded, tmp_path):
    for name in ("profile.insitu", "trace.insitu", "other.insitu"):
        subprocess.run(
            [*INSITU, "import", folded, "-o", tmp_path / name], check=True, capture_output=True, timeout=300
        )
    os.utime(tmp_path / "profile.insitu/session.json", (2, 2))
    os.utime(tmp_path / "trace.insitu/session.json", (3, 3))
    done = subprocess.run([*INSITU, *words], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "insitu: opening trace.insitu\n")
    os.utime(tmp_path / "profile.insitu/session.json", (4, 4))
    named = [words[0], "profile.insitu", *words[1:]]
    expected, done = (
        subprocess.run([*INSITU, *each], capture_output=True, text=True, timeout=300, cwd=tmp_path)
        for each in (named, words)
    )
    assert (done.stdout, done.stderr) == (expected.stdout, "insitu: opening profile.insitu\n")


def test_without_run_and_without_a_session_it_says_what_to_do(tmp_path):
    done = subprocess.run([*INSITU, "report"], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "insitu profile -- COMMAND" in done.stderr


def test_a_unit_that_the_event_does_not_have_is_refused(folded):
    done = subprocess.run([*INSITU, "report", folded, "--unit", "time"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "--unit samples" in done.stderr


def test_messages_never_drive_a_terminal(tmp_path):
    name = "\x1b]0;title\x07 \u202e.folded"
    done = subprocess.run([*INSITU, "report", tmp_path / name], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr[:-1].isprintable() and "\\x1b]0;title" in done.stderr


def test_a_message_that_cannot_be_written_changes_no_status(folded):
    command = ["sh", "-c", '"$@" 2>/dev/full', "sh", *INSITU, "report", "/nowhere"]
    assert subprocess.run(command, timeout=300).returncode == 1


@pytest.mark.parametrize("module", ["insitu.commands._options", "insitu.convert.open", "numpy", "_duckdb"])
def test_ctrl_c_while_modules_are_imported_prints_nothing(module, folded):
    """-X importtime prints on standard error when the import of a module ends; then the command waits for input."""
    command = [sys.executable, "-X", "importtime", "-m", "insitu", "sql", folded]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    program = subprocess.Popen(command, text=True, preexec_fn=_hear_all, **pipes)
    for line in program.stderr:
        if line.split("|")[-1].strip() == module:
            break
    program.send_signal(signal.SIGINT)
    said = [line for line in program.stderr if not line.startswith("import time:")]
    assert (program.wait(60) in (130, -signal.SIGINT), said) == (True, [])
    program.stdin.close()
    program.stderr.close()


def test_completion_knows_every_command_and_its_options():
    for shell in ("bash", "zsh", "tcsh"):
        done = subprocess.run([*INSITU, "completion", shell], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0 and ("--duration" in done.stdout or shell == "tcsh")
        assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("evt.lat", ["evt.latency"]),
        ("'evt.type = open and fd.na", ["evt.type = open and fd.name"]),
        ('"evt.type in (open,openat2', ["evt.type in (open,openat2"]),
        ("'not (proc.vp", ["not (proc.vpid"]),
        ("'proc.name icont", ["proc.name icontains"]),
        ("nothing.of.this.name", []),
    ],
)
def test_bash_completes_the_last_word_of_a_filter(typed, completed):
    words = ["bash", "-c", 'eval "$1"; _insitu_filter "$2"', "bash", preamble("bash"), typed]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.splitlines() == completed


@pytest.mark.parametrize(
    ("convert", "text", "value"),
    [
        (_options.duration, "2.5", 2.5),
        (_options.duration, "500ms", 0.5),
        (_options.duration, "2m", 120.0),
        (_options.duration, ".5h", 1800.0),
        (_options.size, "512K", 524288),
        (_options.size, "1.5G", 1610612736),
        (_options.size, "4096", 4096),
        (_options.percent, "0", 0.0),
        (_options.percent, "12.5%", 12.5),
        (_options.pid_list, "1,22,1", (1, 22)),
        (_options.pages, "1024", 1024),
        (_options.count, "0", 0),
    ],
)
def test_numbers_with_units_are_read(convert, text, value):
    assert convert(text) == value


@pytest.mark.parametrize("convert", [_options.duration, _options.size, _options.percent, _options.pid_list])
@pytest.mark.parametrize(
    "text", ["", "nan", "inf", "-1", "-0", "1e5", "0x10", "1_0", " 1", "1 s", "\N{ARABIC-INDIC DIGIT ONE}", "9" * 400]
)
def test_what_is_not_a_plain_number_is_refused(convert, text):
    with pytest.raises(argparse.ArgumentTypeError):
        convert(text)


def test_processes_of_several_options_are_put_together() -> None:
    parser = command_parser("profile")
    assert parser.parse_args(["-p", "1,2", "--pid=3", "-p2", "-p", "4"]).pid == (1, 2, 3, 4)
    assert parser.parse_args(["-p", "7"]).pid == (7,)


def test_of_other_options_the_last_value_counts() -> None:
    assert command_parser("report").parse_args(["x", "--limit", "7", "--limit=8"]).limit == 8


def test_several_processes_are_refused_where_one_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "-p", "1", "-p", "2", "-e", "BEGIN { }"]) != 0
    assert "trace takes one process, not 2: 1, 2" in capsys.readouterr().err


@given(st.text(max_size=12))
def test_any_word_is_a_number_or_refused(text):
    for convert in (_options.count, _options.positive, _options.frequency, _options.pages, _options.duration):
        try:
            assert 0 <= convert(text) < 1 << 63
        except argparse.ArgumentTypeError as error:
            assert "\n" not in messages.one_line(str(error))


def test_processes_are_found_by_the_name_that_the_kernel_has_of_them(tmp_path):
    """The kernel keeps 15 bytes of it (TASK_COMM_LEN, include/linux/sched.h)."""
    program = tmp_path / "insitu-test-sleeper"
    shutil.copy(shutil.which("sleep"), program)
    with subprocess.Popen([program, "100"]) as child:
        try:
            # exec(2) closes the descriptor that Popen waits for before it sets the name.
            while Path(f"/proc/{child.pid}/comm").read_text() != "insitu-test-sle\n":
                time.sleep(0.001)
            assert _options.pids_named("insitu-test-sleeper") == (child.pid,)
            assert _options.pids_named("insitu-test-sle") == (child.pid,)
        finally:
            child.kill()
    with pytest.raises(InsituError, match="no process is named"):
        _options.pids_named("insitu-test-sleeper")


def test_a_message_takes_the_place_of_a_progress_line():
    ours, theirs = os.openpty()
    script = "from insitu import messages as m; m.progress('1 MB\\x1b'); m.progress('2 MB'); m.note('done')"
    subprocess.run([sys.executable, "-c", script], stderr=theirs, check=True, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 4096).replace(b"\r\n", b"\n")
    os.close(ours)
    erase = b"\r\x1b[K"
    assert shown == b"insitu: 1 MB\\x1b" + erase + b"insitu: 2 MB" + erase + b"insitu: done\n"
    quiet = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, check=True, timeout=60)
    assert quiet.stderr == b"insitu: done\n"


def test_data_that_does_not_fit_in_memory_is_one_line_with_a_remedy(tmp_path):
    import resource

    gibibyte = 1 << 30
    path = tmp_path / "large.folded"
    path.write_text("main;work 1\n" * 10_000)
    os.truncate(path, 32 * gibibyte)  # what follows the text is read as one more line
    done = subprocess.run(
        [sys.executable, "-m", "insitu", "report", path],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (16 * gibibyte, 16 * gibibyte)),
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "insitu: out of memory: the data does not fit in what this process may use "
        "(this process may have 16384 MiB; raise that: ulimit -v unlimited)"
    ]


def test_the_processes_of_calls_may_be_given_in_several_options() -> None:
    assert command_parser("calls").parse_args(["-f", "x", "-p", "1,2", "-p", "3"]).pid == (1, 2, 3)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["trace", ""], "the name of the script is empty"),
        (["sysctl", "vm", "--save", "/nowhere/file"], "--save keeps all settings"),
        (["dyndbg", "module"], "module has no value"),
        (["dyndbg", "modul"], "did you mean 'module'?"),
        (["stat", "--for-each-cgroup", "", "-a", "true"], "the name of a cgroup is empty"),
        (["stat", "-C", "0-99999999999", "true"], "online are"),
    ],
)
def test_values_that_make_no_sense_are_refused_in_one_line(words: list[str], reason: str) -> None:
    done = subprocess.run([*INSITU, *words], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and reason in done.stderr


def test_a_current_directory_that_was_removed_is_named(tmp_path: Path) -> None:
    words = 'cd "$0" && rmdir "$0" && exec "$@" events --lines main -x ./prog'
    (tmp_path / "gone").mkdir()
    done = subprocess.run(["sh", "-c", words, tmp_path / "gone", *INSITU], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "insitu: the current directory: No such file or directory\n")
