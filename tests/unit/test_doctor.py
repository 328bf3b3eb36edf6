"""The doctor's answers as text and JSON, and that asking leaves nothing behind."""

import errno
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from insitu import capabilities
from insitu.capabilities import Feature, Result, State, inspecting, laboratory, links, needs, profiling, tracing
from insitu.capabilities.result import asked_once, no, opened, partly, yes
from insitu.errors import InsituError
from insitu.kernel.perf_event import Sample
from insitu.kernel.tracefs import Tracefs
from insitu.views import doctor
from insitu.views.terminal import Screen

SAMPLE = (
    Feature("profile", "timer", yes("up to 1 Hz")),
    Feature("profile", "counters", no("there are none", "buy some")),
    Feature("trace", "a [red]longer[/red] name", partly("half of it")),
)


def doctor_says(*words: str, prefix: tuple[str, ...] = ()) -> str:
    command = [*prefix, sys.executable, "-m", "insitu", "doctor", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_json_names_the_host_and_every_feature_with_a_state() -> None:
    found = json.loads(doctor_says("--json"))
    assert (found["kernel"], found["uid"]) == (os.uname().release, os.geteuid())
    assert {feature["group"] for feature in found["features"]} == {"commands", "profile", "trace", "inspect", "lab"}
    assert {feature["state"] for feature in found["features"]} <= {"yes", "no", "partly"}


def test_what_is_missing_has_a_reason() -> None:
    assert [each for each in capabilities.ask() if not each.result.available and not each.result.reason] == []


def test_no_result_is_a_programming_mistake() -> None:
    for feature in capabilities.ask():
        assert "object has no attribute" not in feature.result.reason
        assert "argument" not in feature.result.reason


def test_a_pipe_gets_one_plain_line_for_each_feature() -> None:
    lines = doctor_says().splitlines()
    assert len(lines) == len(capabilities.ask()) + 1
    assert not any("\x1b" in line for line in lines)


def test_plain_lines_hold_state_reason_and_remedy() -> None:
    lines = doctor.plain(SAMPLE).splitlines()
    assert lines[1].split() == ["profile", "no", "counters", "there", "are", "none", "--", "buy", "some"]
    assert lines[-1] == "1 of 3 available, 1 in part, 1 missing"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_table_fits_any_width_and_shows_names_as_they_are(width: int) -> None:
    out = io.StringIO()
    Screen(out, width).write(doctor.rendered(SAMPLE))
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert max(map(len, text.splitlines())) <= width
    assert "[red]" in text
    assert "buy some" in text


def test_a_question_that_fails_in_any_way_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    @asked_once
    def refused() -> Result[None]:
        raise InsituError("not you", remedy="ask again")

    @asked_once
    def broken() -> Result[None]:
        raise ValueError("surprise")

    there = asked_once(lambda: yes())
    monkeypatch.setattr(laboratory, "PROBES", (("one", refused), ("two", broken), ("three", there)))
    found = [feature for feature in capabilities.ask() if feature.group == "lab"]
    assert found == [
        Feature("lab", "one", Result(State.NO, "not you", "ask again")),
        Feature("lab", "two", Result(State.NO, "surprise", "")),
        Feature("lab", "three", Result(State.YES)),
    ]


def test_a_question_is_asked_once() -> None:
    asked = []

    @asked_once
    def question() -> Result[int]:
        asked.append(1)
        return yes(details=len(asked))

    assert [question().details, question().details, len(asked)] == [1, 1, 1]
    question.forget()
    assert question().details == 2


def test_a_refusal_keeps_the_kernels_errno() -> None:
    def refuse() -> int:
        raise PermissionError(errno.EPERM, "not you")

    assert opened(refuse) == Result(State.NO, "not you", "", errno.EPERM)


def test_typed_details_are_what_the_kernel_says() -> None:
    def sysctl(name: str) -> int:
        return int(Path("/proc/sys/kernel", name).read_text())

    sampling = profiling.sampling().details
    assert sampling is not None
    assert sampling == (sysctl("perf_event_max_sample_rate"), sysctl("perf_event_max_stack"))
    ring = profiling.ring_memory().details
    assert ring is not None and ring.bytes_per_cpu == sysctl("perf_event_mlock_kb") * 1024
    held = tracing.privileges().details
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("CapEff")]
    assert held is not None
    assert ("CAP_SYS_ADMIN" in held.held) == bool(int(line.split()[1], 16) >> 21 & 1)
    assert not set(held.held) & set(held.missing)


def test_sample_fields_are_those_of_this_kernels_version() -> None:
    """include/uapi/linux/perf_event.h: CGROUP came with 5.7, DATA_PAGE_SIZE with 5.11, WEIGHT_STRUCT with 5.12."""
    fields = profiling.sample_types().details
    assert fields is not None
    release = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
    for flag, since in ((Sample.CGROUP, (5, 7)), (Sample.DATA_PAGE_SIZE, (5, 11)), (Sample.WEIGHT_STRUCT, (5, 12))):
        assert bool(fields.supported & flag) == (release >= since)
    assert fields.supported & Sample.IP and fields.supported & Sample.CALLCHAIN


def test_asking_leaves_no_descriptor_no_mount_and_no_child() -> None:
    def ask_anew() -> None:
        for module in (needs, profiling, tracing, laboratory, inspecting):
            for _, probe in module.PROBES:
                probe.forget()
        for link in (links.perf_links, links.kprobe_multi, links.uprobe_multi):
            link.forget()
        capabilities.ask()

    ask_anew()  # libraries that stay open are opened now
    before = _held()
    ask_anew()
    assert _held() == before


def _held() -> tuple[int, set[str], list[str]]:
    """Descriptors, mounts of what tracing needs, and children: this process runs other tests, too, and has guests."""
    kinds = ("tracefs", "debugfs", "bpf", "cgroup", "cgroup2")
    mounts = {line for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[2] in kinds}
    children = [word for file in Path("/proc/self/task").glob("*/children") for word in file.read_text().split()]
    return len(list(Path("/proc/self/fd").iterdir())), mounts, sorted(children)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for tracefs")
def test_tracefs_details_are_its_files() -> None:
    found = tracing.tracefs().details
    assert found is not None
    tree = Tracefs.open()
    try:
        assert list(found.tracers) == tree.read("available_tracers").split()
        assert found.tracepoint_ids["sched/sched_switch"] == tree.event("sched", "sched_switch").id
        assert tree.exists("instances") == ("instances" in found.files)
        assert not tree.exists("no_such_file")
    finally:
        tree.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a mount namespace")
def test_tracefs_is_read_where_it_is_not_mounted() -> None:
    # All that lie there; the debug file system would mount it anew.
    places = "/sys/kernel/tracing /sys/kernel/debug/tracing /sys/kernel/debug"
    script = f'for d in {places}; do while umount -l "$d"; do :; done; done 2>/dev/null; exec "$@"'
    found = {each["name"]: each for each in json.loads(doctor_says("--json"))["features"]}
    hidden = json.loads(doctor_says("--json", prefix=("unshare", "-m", "sh", "-c", script, "sh")))
    tracefs = next(each for each in hidden["features"] if each["name"] == "tracefs")
    assert tracefs["details"]["mounted_at"] == ""
    assert tracefs["details"]["tracepoint_ids"] == found["tracefs"]["details"]["tracepoint_ids"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_without_privileges_it_answers_no_and_says_how() -> None:
    prefix = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    if subprocess.run([*prefix, sys.executable, "-c", "import insitu"], capture_output=True, cwd="/").returncode:
        pytest.skip("the interpreter is out of reach for other users")
    found = {feature["name"]: feature for feature in json.loads(doctor_says("--json", prefix=prefix))["features"]}
    assert found["capabilities"]["state"] == "no"
    assert "root" in found["capabilities"]["remedy"]
    assert found["timer sampling"]["state"] == "yes"
    assert found["timer sampling"]["details"]["max_stack"] > 0


def test_the_documented_capabilities_are_those_that_the_doctor_asks_for() -> None:
    page = (Path(__file__).parents[2] / "docs/security.md").read_text()
    table = page.partition("| use | capabilities (CAP_...) | not needed with |\n| --- | --- | --- |\n")[2].partition(
        "\n\n"
    )[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert [(use, caps) for use, caps, _ in rows] == [
        (need.use, ", ".join(need.capabilities) or "none") for need in needs.NEEDS
    ]
    for need, (_, _, instead) in zip(needs.NEEDS, rows, strict=True):
        assert instead.startswith(f"`sysctl {need.instead}`" if need.instead else "") and bool(instead) == bool(
            need.sysctls
        )
