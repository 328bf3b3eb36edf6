"""`insitu lab`'s command line: bad values end in one line and status 2 before a guest is started."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from insitu import cli
from insitu.errors import InsituError
from insitu.lab.compare.compare import compare
from insitu.lab.guests.guest import Guest
from insitu.lab.guests.machine import Options
from insitu.lab.kernels.kernel import Kernel

RUN = ["run", "-k", "6.1"]
COMPARE = ["compare", "-k", "6.1,6.1"]
KERNEL = Kernel("x", "x", Path(__file__))
ABBREVIATED = [["run", "--time", "5", "x"], ["run", "--mem=1G", "x"], ["compare", "-k", "a,b", "--run", "5", "x"]]


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line in which `insitu lab` refuses these words, without "insitu: "."""
    assert cli.main(["lab", *words]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    [line] = errors.splitlines()
    return line.removeprefix("insitu: ")


@pytest.mark.parametrize("value", ["0", "-3", "nan", "inf", "1.5", "", "9" * 30, "\u0661"])
@pytest.mark.parametrize("words", [[*COMPARE, "-n"], [*RUN, "--cpus"], [*RUN, "--numa"], ["build", "-j"]])
def test_a_number_of_things_must_be_whole_and_at_least_1(
    capsys: pytest.CaptureFixture[str], words: list[str], value: str
) -> None:
    message = refusal(
        capsys, *words[:-1], f"{words[-1]}{value}" if words[-1][1] != "-" else f"{words[-1]}={value}", "x"
    )
    bounded = re.search(r"must be at (least|most) \d+, not (\S+)", message)
    assert value == "" or f"{value!r} is not a whole number" in message or (bounded and bounded[2] == value)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "-inf", "1e3", "9" * 12, "x"])
@pytest.mark.parametrize("words", [[*RUN, "--timeout"], ["trace", "--duration"]])
def test_a_duration_must_be_above_0_and_finite(
    capsys: pytest.CaptureFixture[str], words: list[str], value: str
) -> None:
    message = refusal(capsys, *words[:-1], f"{words[-1]}={value}", "x")
    assert f"{value!r} is not a duration" in message


@pytest.mark.parametrize("words", [*ABBREVIATED, ["ps", "--js"]])
def test_an_abbreviated_option_is_refused(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert "unknown option --" in refusal(capsys, *words)


@pytest.mark.parametrize("size", ["", "1T", "-1G", "nan", "1e9G", "64M"])
def test_a_size_of_memory_must_be_a_size(size: str) -> None:
    with pytest.raises(InsituError) as caught:
        Guest(KERNEL, Options(memory=size))
    assert caught.value.status == 2


@pytest.mark.parametrize("crashkernel", ["-3", "nan", "256M quiet"])
def test_memory_for_a_crash_kernel_must_be_a_size(crashkernel: str) -> None:
    with pytest.raises(InsituError, match="not a size such as 256M"):
        Options(crashkernel=crashkernel).check(KERNEL)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_boot_timeout_must_be_above_0_and_finite(seconds: float) -> None:
    with pytest.raises(InsituError, match="boot_timeout="):
        Options(boot_timeout=seconds).check(KERNEL)


@pytest.mark.parametrize("name", ["a,b", "../x", ".", "a b", "-x", "x\n", "ü"])
def test_a_guests_name_is_letters_digits_and_a_few_signs(name: str) -> None:
    with pytest.raises(InsituError, match="use letters, digits"):
        Guest(KERNEL, Options(), name=name)


@pytest.mark.parametrize("runs", [0, -1])
def test_no_runs_are_refused_from_python_too(runs: int) -> None:
    with pytest.raises(InsituError, match=r"-n .*: must be at least 1"):
        compare([("6.1", ""), ("6.1", "")], ["true"], runs=runs)


def test_one_disk_for_two_guests_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "two guests cannot use the same --disk" in refusal(capsys, *COMPARE, "--disk", __file__, "--", "true")


def test_a_report_that_cannot_be_written_is_refused_before_the_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert "/nonexistent/x.html" in refusal(capsys, *COMPARE, "-o", "/nonexistent/x.html", "--", "true")


def test_the_lab_is_reached_through_the_package() -> None:
    code = "import insitu; print(insitu.lab.guest.__name__, insitu.lab.Options.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "guest Options\n"
