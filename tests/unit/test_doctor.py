"""The doctor's answers as text and JSON, and that asking leaves nothing behind."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from insitu import capabilities
from insitu.capabilities import Feature, State, btf_function
from insitu.capabilities import result as answer
from insitu.errors import InsituError
from insitu.views import doctor

SAMPLE = (
    Feature("profile", "timer", State.YES, "up to 1 Hz", ""),
    Feature("profile", "counters", State.NO, "there are none", "buy some"),
    Feature("trace", "a [red]longer[/red] name", State.PARTLY, "half of it", ""),
)


def doctor_says(*words: str, prefix: tuple[str, ...] = ()) -> str:
    command = [*prefix, sys.executable, "-m", "insitu", "doctor", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_json_names_the_host_and_every_feature_with_a_state() -> None:
    found = json.loads(doctor_says("--json"))
    assert (found["kernel"], found["uid"]) == (os.uname().release, os.geteuid())
    assert {feature["group"] for feature in found["features"]} == {"profile", "trace", "inspect", "lab"}
    assert {feature["state"] for feature in found["features"]} <= {"yes", "no", "partly"}


def test_what_is_missing_has_a_reason() -> None:
    assert [feature for feature in capabilities.ask() if feature.state is State.NO and not feature.why] == []


def test_no_answer_is_a_programming_mistake() -> None:
    for feature in capabilities.ask():
        assert "object has no attribute" not in feature.why
        assert "argument" not in feature.why


def test_a_pipe_gets_one_plain_line_for_each_feature() -> None:
    lines = doctor_says().splitlines()
    assert len(lines) == len(capabilities.ask()) + 1
    assert not any("\x1b" in line for line in lines)


def test_plain_lines_hold_state_reason_and_remedy() -> None:
    lines = doctor.plain(SAMPLE).splitlines()
    assert lines[1].split() == ["profile", "no", "counters", "there", "are", "none", "--", "buy", "some"]
    assert lines[-1] == "1 of 3 there, 1 in part, 1 missing"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_table_fits_any_width_and_shows_names_as_they_are(width: int) -> None:
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(doctor.rendered(SAMPLE))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "[red]" in text
    assert "buy some" in text


def test_a_probe_that_fails_in_any_way_answers_no(monkeypatch: pytest.MonkeyPatch) -> None:
    from insitu.capabilities import laboratory

    def refused() -> answer.Answer:
        raise InsituError("not you", remedy="ask again")

    def broken() -> answer.Answer:
        raise ValueError("surprise")

    monkeypatch.setattr(laboratory, "PROBES", (("one", refused), ("two", broken), ("three", answer.yes)))
    found = [feature for feature in capabilities.ask.__wrapped__() if feature.group == "lab"]
    assert found == [
        Feature("lab", "one", State.NO, "not you", "ask again"),
        Feature("lab", "two", State.NO, "surprise", ""),
        Feature("lab", "three", State.YES, "", ""),
    ]


def test_asking_leaves_no_descriptor_no_mount_and_no_child() -> None:
    capabilities.ask.__wrapped__()  # libraries that stay open are opened now
    before = (len(list(Path("/proc/self/fd").iterdir())), Path("/proc/self/mounts").read_text())
    capabilities.tracing.visit.cache_clear()
    capabilities.ask.__wrapped__()
    assert (len(list(Path("/proc/self/fd").iterdir())), Path("/proc/self/mounts").read_text()) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_without_privileges_it_answers_no_and_says_how() -> None:
    prefix = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    if subprocess.run([*prefix, sys.executable, "-c", "import insitu"], capture_output=True, cwd="/").returncode:
        pytest.skip("the interpreter is out of reach for other users")
    found = {feature["name"]: feature for feature in json.loads(doctor_says("--json", prefix=prefix))["features"]}
    assert found["capabilities"]["state"] == "no"
    assert "root" in found["capabilities"]["remedy"]
    assert found["timer sampling"]["state"] == "yes"


BTF = Path("/sys/kernel/btf/vmlinux")


@pytest.mark.skipif(not BTF.exists(), reason="the kernel has no BTF")
def test_only_functions_that_the_kernel_has_get_an_id() -> None:
    names = ("bpf_iter_task", "no_such_function_here")
    found = btf_function.function_ids(names)
    assert set(found) <= {"bpf_iter_task"}
    assert all(number > 0 for number in found.values())


@pytest.mark.parametrize("data", [b"", b"\x9f", b"\x9f\xeb" + bytes(60), b"\x9f\xeb" + b"\xff" * 60, b"junk" * 20])
def test_broken_btf_holds_no_function(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "btf"
    file.write_bytes(data)
    try:
        assert btf_function.function_ids(("f",), str(file)) == {}
    except InsituError as error:
        assert "is not BTF" in str(error)
