"""perf stat's options for places, filters, control and repeats, beside perf stat where it has an answer here."""

import os
import platform
import re
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import insitu
from insitu.record.counters import choose_counted
from insitu.record.event_names import all_events
from insitu.record.run import Destination, Outcome, Request
from insitu.record.run import run as run_sources
from insitu.record.sources.counting import CountingOptions, CountingSource

from .test_stat import CALLS, STAT, counted, counts, run, started  # noqa: F401 - fixtures

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for tracepoints")
_GETPPID = {"x86_64": 110, "aarch64": 173}.get(platform.machine(), -1)


def perf(*words: str) -> str:
    return subprocess.run(["perf", "stat", *words], capture_output=True, text=True, check=True).stderr


@pytest.mark.parametrize("places", ["core", "die", "socket", "node"])
def test_cores_sockets_and_nodes_have_perf_s_names_and_as_many_counters(places: str) -> None:
    words = ["-a", f"--per-{places}", "-x,", "-e", "cs", "--", "true"]
    ours, theirs = (
        [line.split(",")[:2] for line in text.splitlines()] for text in (run(*words).stderr, perf(*words))
    )
    assert ours == theirs and ours


def test_a_filter_counts_the_calls_that_it_names_as_perf_s_does(counted: str) -> None:  # noqa: F811
    words = ["-e", f"{CALLS}", "--filter", f"id == {_GETPPID}"]
    command = ["--", counted, "calls", "500"]
    assert counts(*words, *command)[CALLS] == 500
    assert perf("-x,", *words, *command).startswith("500,")


def test_a_session_has_a_track_for_each_socket(tmp_path: Path) -> None:
    path = tmp_path / "sockets.insitu"
    run("-a", "--per-socket", "-o", str(path), "-e", "cs", "--", "true")
    places = [line.split(",")[0] for line in perf("-a", "--per-socket", "-x,", "-e", "cs", "--", "true").splitlines()]
    with insitu.open(path) as session:
        assert session.sql("select device from track order by id")["device"].to_list() == places


def test_metrics_alone_say_why_there_are_none() -> None:
    text = run("-M", "faults", "--metric-only", "-e", "cs:u", "--", "true").stderr
    assert re.search(r"^ +CPUs utilized +page-faults /sec\n +[\d.]+ +[\d.]+\n", text, re.MULTILINE)
    assert "\n context-switches:u: it happens in the kernel" in text


def test_a_filter_that_the_kernel_refuses_is_named() -> None:
    done = run("-e", CALLS, "--filter", "none == 1", "--", "true", check=False)
    assert done.returncode == 2 and done.stderr.startswith(f"insitu: --filter none == 1: not a filter for {CALLS}")


def test_times_as_events_are_those_below_the_counts(counted: str) -> None:  # noqa: F811
    text = run("-e", "duration_time,user_time,system_time", "--", counted, "burns", "50").stderr
    for event, what in (("duration_time", "time elapsed"), ("user_time", "user"), ("system_time", "sys")):
        ns = re.search(rf"([\d,]+) ns +{event}", text)
        seconds = re.search(rf"([\d.]+) seconds {what}", text)
        assert ns and seconds and int(ns[1].replace(",", "")) == round(float(seconds[1]) * 1e9), event
    assert "<not counted>" in run("-a", "-e", "user_time", "--timeout", "20").stderr


@pytest.fixture
def pipes() -> Iterator[tuple[int, int, int, int]]:
    """Two pipes: words to insitu, and its answers."""
    made = (*os.pipe(), *os.pipe())
    yield made
    for fd in made:
        os.close(fd)


def said(word: str, to: int, answers: int) -> bytes:
    os.write(to, word.encode() + b"\n")
    assert select.select([answers], [], [], 60)[0]
    return os.read(answers, 100)


@pytest.mark.parametrize(("words", "calls"), [(("enable",), 2001), (("enable", "disable"), 0)])
def test_counting_starts_and_stops_when_the_control_channel_says_so(started, pipes, words, calls) -> None:  # noqa: F811
    read_words, write_words, read_answers, write_answers = pipes
    program = started("waits", 2000)
    process = subprocess.Popen(
        [
            *STAT,
            "-x,",
            "-D",
            "-1",
            "--control",
            f"fd:{read_words},{write_answers}",
            "-e",
            CALLS,
            "-p",
            str(program.pid),
        ],
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=(read_words, write_answers),
    )
    for word in words:
        assert said(word, write_words, read_answers) == b"ack\n"
    program.communicate(b"x")
    _, text = process.communicate(timeout=60)
    assert text.startswith(f"{calls},,{CALLS},"), text


def test_a_fifo_controls_too_and_stop_ends_it(started, tmp_path: Path) -> None:  # noqa: F811
    words, answers = tmp_path / "words", tmp_path / "answers"
    os.mkfifo(words)
    os.mkfifo(answers)
    program = started("waits", 10)
    control = f"fifo:{words},{answers}"
    process = subprocess.Popen([*STAT, "--control", control, "-e", "cs", "-p", str(program.pid)])
    held = [os.open(each, os.O_RDWR) for each in (words, answers)]
    os.write(held[0], b"ping\nstop\n")
    assert process.wait(timeout=60) == 0
    assert os.read(held[1], 100) == b"ack\nack\n"
    for fd in held:
        os.close(fd)


def test_pre_and_post_run_around_each_run(tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = ["-r", "2", "-S", "--pre", f"echo pre >>{log}", "--post", f"echo post >>{log}", "-e", "page-faults"]
    run(*words, "--", "sh", "-c", f"echo command >>{log}")
    assert log.read_text().split() == ["pre", "command", "post"] * 2
    done = run("--pre", "exit 3", "--", "touch", str(tmp_path / "mark"), check=False)
    assert (done.returncode, done.stderr) == (1, "insitu: --pre exit 3: exit status 3\n")
    assert not (tmp_path / "mark").exists()


def test_the_table_of_runs_has_deviations_that_cancel_out() -> None:
    text = run("-r", "3", "--table", "-e", "cs", "--", "true").stderr
    found = re.findall(r"^ +[\d.]+ \(([+-][\d.]+)\) #+$", text, re.MULTILINE)
    assert len(found) == 3 and abs(sum(map(float, found))) < 1e-5


def test_intervals_clear_a_terminal_and_nothing_else() -> None:
    terminal, end = os.openpty()
    words = ["-I", "20", "--interval-count", "2", "--interval-clear", "-e", "cs", "--", "sleep", "100"]
    run("--log-fd", str(end), *words, check=False, pass_fds=(end,))
    os.close(end)
    assert os.read(terminal, 10_000).count(b"\x1b[H\x1b[2J") == 2
    os.close(terminal)
    assert "\x1b" not in run(*words, check=False).stderr


def test_python_has_the_counts_that_the_command_has(counted: str) -> None:  # noqa: F811
    found = insitu.stat([counted, "calls", "700"], events=[CALLS, "page-faults", "cycles", "duration_time"])
    assert found[CALLS] == counts("-e", CALLS, "--", counted, "calls", "700")[CALLS]
    assert list(found) == [CALLS, "page-faults", "cycles", "duration_time"]
    assert found["duration_time"] == pytest.approx(found.elapsed_s * 1e9)
    assert (found["cycles"] is None) == ("cycles" in found.reasons)
    assert found.exit_status == 0 and "none" not in found
    assert insitu.stat(["sh", "-c", "exit 3"], events="cs").exit_status == 3


def test_python_has_the_metrics_of_counts(counted: str) -> None:  # noqa: F811
    found = insitu.stat([counted, "calls", "700"], events=["task-clock", CALLS, "cycles"])
    clock, calls = found["task-clock"], found[CALLS]
    assert clock and calls
    used = found.metrics["task-clock"]
    assert (used.value, used.unit) == (pytest.approx(clock / 1e9 / found.elapsed_s), "CPUs utilized")
    assert found.metrics[CALLS].plain.value == pytest.approx(calls / (clock / 1e9))
    assert ("cycles" in found.metrics) == (found["cycles"] is not None)


def test_repeated_without_an_end_each_run_is_shown_until_somebody_asks_to_stop(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shell = f'echo >>{runs}; if [ "$(wc -l <{runs})" = 3 ]; then kill -INT $PPID; exec sleep 3600; fi'
    done = run("-r", "0", "-e", "page-faults", "--", "sh", "-c", shell, check=False)
    assert done.returncode == 128 + signal.SIGTERM  # by which the command was ended, as it did not get the other one
    assert done.stderr.count("page-faults") == 3 and " runs):" not in done.stderr
    refused = run("-r", "0", "-a", check=False)
    assert refused.returncode == 2 and "-r repeats a command" in refused.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("where", ["--pre", "--post", "command"])
def test_a_signal_ends_the_repeats_where_no_run_ends_of_it(
    number: signal.Signals, where: str, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    ask = f"kill -{number.name[3:]} $PPID"
    words = ["-r", "3", "-e", "page-faults"]
    if where == "command":  # which ends by itself, with status 0
        shell = f"trap 'exit 0' TERM; echo >>{runs}; {ask}; while :; do sleep 0.01; done"
        done = run(*words, "--", "sh", "-c", shell, check=False)
    else:
        done = run(*words, where, f"echo >>{runs}; {ask}", "--", "true", check=False)
    assert runs.read_text() == "\n" and done.returncode == 128 + number
    assert done.stderr.count("page-faults") == (where != "--pre")  # what has been counted is shown


def test_a_signal_ends_a_comparison_whose_commands_end_by_themselves(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shell = f"echo >>{runs}; trap 'exit 0' TERM; kill -TERM $PPID; while :; do sleep 0.01; done"
    done = run("--compare", "true", "--", "sh", "-c", shell, check=False)
    assert runs.read_text() == "\n" and done.returncode == 128 + signal.SIGTERM


def test_the_counts_are_there_before_the_events_are_closed_which_may_take_long() -> None:
    chosen, _ = choose_counted(all_events("cs,page-faults"), [], whole_system=False)
    source = CountingSource(CountingOptions(chosen))
    events: list[tuple[int, int]] = []

    def ended(outcome: Outcome) -> None:
        assert source._counters is not None
        events.append((len(source.total.counts), len(source._counters.descriptors[""])))

    run_sources(Request(("true",)), [source], Destination(), ended=ended)
    assert events == [(2, 2)]


def test_python_keeps_cpus_apart() -> None:
    found = insitu.stat(whole_system=True, seconds=0.1, events="cpu-clock", per="cpu")
    assert len({each.place.cpu for each in found.places}) == os.sysconf("SC_NPROCESSORS_ONLN")
    assert found["cpu-clock"] == sum(each.value for each in found.places)
    cores = insitu.stat(whole_system=True, seconds=0.1, events="cpu-clock", per="socket").places
    assert sum(each.counters for each in cores) == os.sysconf("SC_NPROCESSORS_ONLN")
    assert {each.place.domain[0] for each in cores} == {"S"}
    with pytest.raises(insitu.InsituError, match="unknown event"):
        insitu.stat(["true"], events="pagefaults")


def test_what_cannot_be_written_is_a_failure_that_names_the_place(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for command in ("stat", "syscalls"):
        line = f"{' '.join([*STAT[:-1], command])} -- touch {mark} 2>&-"
        assert subprocess.run(["sh", "-c", line], timeout=60).returncode == 1
        assert not mark.exists()
    done = run("-o", "/dev/full", "--", "true", check=False)
    assert (done.returncode, done.stderr) == (1, "insitu: /dev/full: No space left on device\n")
