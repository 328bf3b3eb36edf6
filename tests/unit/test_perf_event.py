"""Layouts and numbers of perf_event_open(2), against the C compiler's reading of the kernel's header."""

import ctypes
import errno
import subprocess
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.kernel import perf_event
from insitu.kernel.perf_event import (
    Attr,
    Flag,
    Hardware,
    Ioctl,
    ReadFormat,
    Record,
    Sample,
    Software,
    Type,
    open_event,
)

HEADER = Path("/usr/include/linux/perf_event.h")
pytestmark = pytest.mark.skipif(not HEADER.exists(), reason="needs the kernel's user headers (linux-libc-dev)")

PREFIXES = {
    Type: "PERF_TYPE_",
    Hardware: "PERF_COUNT_HW_",
    Software: "PERF_COUNT_SW_",
    Sample: "PERF_SAMPLE_",
    ReadFormat: "PERF_FORMAT_",
    Record: "PERF_RECORD_",
    Ioctl: "PERF_EVENT_IOC_",
    Flag: "PERF_FLAG_",
}


def run_c(directory: Path, statements: list[str]) -> dict[str, str]:
    """Compile a main() of statements that print "name value" lines, and run it."""
    source = directory / "print.c"
    body = "\n".join(statements)
    source.write_text(
        "#include <linux/perf_event.h>\n#include <stdio.h>\n#include <string.h>\n#include <stddef.h>\n"
        "#include <sys/ioctl.h>\nint main(void) {\n" + body + "\nreturn 0; }\n"
    )
    program = directory / "print"
    subprocess.run(["gcc", "-w", "-o", program, source], check=True)
    out = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return dict(line.split(" ", 1) for line in out.splitlines())


def test_every_number_is_the_headers(tmp_path: Path) -> None:
    text = HEADER.read_text()
    ours = {
        prefix + member.name: member.value
        for kind, prefix in PREFIXES.items()
        for member in kind
        if prefix + member.name in text
    }
    assert len(ours) > 90
    theirs = run_c(tmp_path, [f'printf("{name} %lld\\n", (long long){name});' for name in ours])
    assert {name: int(value) for name, value in theirs.items()} == ours


def test_every_field_of_the_attributes_lies_where_c_puts_it(tmp_path: Path) -> None:
    text = HEADER.read_text()
    plain = [name for name, *_ in Attr._fields_ if len(_) == 1 and f"\t{name};" in text]
    assert "sample_regs_user" in plain
    theirs = run_c(
        tmp_path, [f'printf("{name} %zu\\n", offsetof(struct perf_event_attr, {name}));' for name in plain]
    )
    assert {name: int(at) for name, at in theirs.items()} == {name: getattr(Attr, name).offset for name in plain}


def test_every_flag_of_the_attributes_is_the_bit_that_c_sets(tmp_path: Path) -> None:
    text = HEADER.read_text()
    flags = [name for name, *rest in Attr._fields_ if len(rest) == 2 and name in text and "reserved" not in name]
    assert len(flags) > 30
    statements = [
        f'memset(&a, 0, sizeof a); a.{name} = -1; memcpy(&word, (char *)&a + 40, 8); printf("{name} %llx\\n", word);'
        for name in flags
    ]
    theirs = run_c(tmp_path, ["struct perf_event_attr a; unsigned long long word;", *statements])
    for name in flags:
        attr = Attr(**{name: 3 if name == "precise_ip" else 1})
        assert int.from_bytes(bytes(attr)[40:48], "little") == int(theirs[name], 16), name


def test_the_size_of_the_attributes_is_filled_in() -> None:
    assert Attr().size == ctypes.sizeof(Attr) == 136


def test_an_unknown_event_type_is_one_clear_line() -> None:
    with pytest.raises(perf_event.InsituError) as caught:
        perf_event.open_event(Attr(type=4000, exclude_kernel=1, exclude_hv=1))
    assert "\n" not in str(caught.value)
    assert "type 4000" in str(caught.value)


def test_a_missing_process_is_named() -> None:
    attr = Attr(type=Type.SOFTWARE, config=Software.CPU_CLOCK, exclude_kernel=1, exclude_hv=1)
    with pytest.raises(perf_event.InsituError, match="no process or thread 4194304"):
        perf_event.open_event(attr, pid=4194304)  # one more than PID_MAX_LIMIT allows


@pytest.mark.parametrize(("level", "capability"), [("2", "CAP_PERFMON"), ("3", "CAP_SYS_ADMIN")])
def test_a_refusal_names_the_capability_that_would_do(
    monkeypatch: pytest.MonkeyPatch, level: str, capability: str
) -> None:
    """Debian's 6.1 at level 3 refuses a process with CAP_PERFMON."""
    monkeypatch.setattr(perf_event.procfs, "sysctl", lambda name: level)
    monkeypatch.setattr(perf_event, "syscall", _refuse)
    with pytest.raises(InsituError) as caught:
        open_event(Attr(type=Type.SOFTWARE), pid=-1, cpu=0)
    assert caught.value.remedy.startswith(f"run as root or with {capability}, ")


def _refuse(*arguments: object) -> int:
    raise OSError(errno.EACCES, "Permission denied")
