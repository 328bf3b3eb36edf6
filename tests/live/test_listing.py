"""`insitu trace -l`: searches, processes, scripts, and arguments."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.live.tracing import run_trace

from insitu.probe.listing import list_probes
from insitu.symbols.btf import Btf, Kind
from insitu.symbols.kernel_btf import vmlinux

if os.geteuid() != 0:
    pytest.skip("needs root, for tracefs", allow_module_level=True)

_SOURCE = """
#include <unistd.h>
struct point { int x, y; };
__attribute__((noinline)) int add(struct point *to, int by, const char *name) { asm volatile(""); return to->x + by; }
int main(void) { struct point p = {1, 2}; pause(); return add(&p, 3, "z"); }
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("listing")
    (found / "prog.c").write_text(_SOURCE)
    subprocess.run(["gcc", "-g", "-O1", "-o", found / "prog", found / "prog.c"], check=True)
    return found


@pytest.fixture
def here(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory)


@pytest.fixture
def running(directory: Path) -> Iterator[int]:
    with subprocess.Popen([directory / "prog"]) as process:
        yield process.pid
        process.kill()


def _listed(*words: str, status: int = 0) -> list[str]:
    return run_trace("-l", *words, status=status).stdout.splitlines()


_SWITCH = ["tracepoint:sched:sched_switch", "rawtracepoint:vmlinux:sched_switch"]


@pytest.mark.parametrize(
    "pattern", ["*sched_switch*", "sched_swit*", "sched_switch", "*:sched_switch", "*sched_swit?h"]
)
def test_a_search_without_a_kind_finds_names_of_all_kinds(pattern: str) -> None:
    if "?" in pattern:  # a star is the only wildcard
        assert _listed(pattern, status=1) == []
    else:
        assert _listed(pattern) == _SWITCH


def test_a_pattern_of_several_parts_is_not_taken_for_one_of_kinds_that_have_fewer() -> None:
    assert _listed("*:sched:sched_switch") == _SWITCH[:1]
    assert _listed("*:sys_enter_open_by*") == ["tracepoint:syscalls:sys_enter_open_by_handle_at"]


def test_a_kind_and_an_event_may_be_named_by_their_aliases() -> None:
    assert _listed("t:sched:sched_switch") == _SWITCH[:1]
    assert _listed("s:c*") == [
        f"software:{name}:" for name in ("context-switches", "cpu", "cpu-clock", "cpu-migrations", "cs")
    ]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("pattern", "shown"),
    [
        ("uprobe:./prog:add", "uprobe:./prog:add"),
        ("u:./pr*:a*d", "uprobe:./prog:add"),
        ("ur:../listing*/prog:add", None),
    ],
)
def test_a_path_is_shown_as_it_was_given(pattern: str, shown: str | None, directory: Path) -> None:
    shown = shown or f"uretprobe:../{directory.name}/prog:add"
    assert shown in _listed(pattern)


def test_of_a_process_its_own_probes_are_listed(running: int, directory: Path) -> None:
    found = _listed("-p", str(running))
    assert f"uprobe:{directory}/prog:add" in found
    assert {line.partition(":")[0] for line in found} <= {"uprobe", "usdt"}
    assert any(line.endswith("libc.so.6:malloc") for line in found)
    searched = _listed("-p", str(running), "*:ad*d")
    assert f"uprobe:{directory}/prog:add" in searched
    assert all(line.rpartition(":")[2].startswith("ad") and line.endswith("d") for line in searched)


@pytest.mark.usefixtures("here")
def test_the_probes_of_a_script_are_listed(directory: Path) -> None:
    (directory / "it.bt").write_text(
        "config = { max_probes = 1 }\n"
        "BEGIN { @[probe] = 1 } t:sched:sched_swi*, u:./prog:add, u:./prog:subtract { } profile:hz:$1 { exit() }\n"
        "rt:sched_switch, t:sched:sched_w* /0/ { }\n"
    )
    done = run_trace("-l", "it.bt", "99")
    points = done.stdout.splitlines()
    assert points[:5] == ["BEGIN", _SWITCH[0], "uprobe:./prog:add", "profile:hz:99", _SWITCH[1]]
    assert len(points) > 7 and all(line.startswith("tracepoint:sched:sched_w") for line in points[5:])
    assert "it.bt:2:58: there is no function subtract in ./prog" in done.stderr
    arguments = run_trace("-lv", "-e", "uprobe:./prog:add { }").stdout.splitlines()
    assert arguments == ["uprobe:./prog:add", "    struct point * to", "    int by", "    const char * name"]
    assert "unexpected end of script" in run_trace("-l", "-e", "tracepoint:", status=1).stderr
    assert "unknown probe kind 'nope'" in run_trace("-l", "-e", "nope:x { }", status=1).stderr


def test_more_than_one_pattern_is_refused() -> None:
    assert "unexpected argument b (quote the pattern)" in run_trace("-l", "a*", "b", status=2).stderr


def test_arguments_of_a_raw_tracepoint_are_those_of_its_prototype() -> None:
    # include/trace/events/sched.h: TP_PROTO of sched_process_fork
    assert _listed("-v", "rt:sched_process_fork") == [
        "rawtracepoint:vmlinux:sched_process_fork",
        "    struct task_struct * parent",
        "    struct task_struct * child",
    ]


def test_arguments_of_many_probes_do_not_search_the_kernels_types_for_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    searches = []
    search = Btf._string_offsets

    def counted(btf: Btf, name: str) -> list[int]:
        searches.append(name)
        return search(btf, name)

    monkeypatch.setattr(Btf, "_string_offsets", counted)
    vmlinux.cache_clear()
    assert list_probes("rawtracepoint:*", verbose=True, pid=None) == 0
    shown = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("rawtracepoint:") for line in shown) > 500 > 5 * len(searches)


def test_types_are_the_same_whether_searched_for_or_in_an_index() -> None:
    vmlinux.cache_clear()
    names = ["vfs_read", "do_exit", "schedule", "tcp_sendmsg", "no such function"]
    searched = [vmlinux().find(name, Kind.FUNC) for name in names]
    index = vmlinux().names(Kind.FUNC)
    assert [index.get(name) for name in names] == [found and found.id for found in searched]
    assert [vmlinux().find(name, Kind.FUNC) for name in names] == searched
    prototype = vmlinux().prototype("vfs_read")
    assert prototype and [parameter.name for parameter in prototype.parameters] == ["file", "buf", "count", "pos"]


_DOLLARS = """
int first(int a) __asm__("worker$run"); int first(int a) { return a; }
int second(int a) __asm__("_ZN4core3fmt9Formatter$LT$T$GT$3newE"); int second(int a) { return a; }
int main(void) { return first(second(0)); }
"""


def test_a_dollar_in_a_functions_name_that_a_shell_has_taken_explains_itself(tmp_path: Path) -> None:
    (tmp_path / "it.c").write_text(_DOLLARS)
    subprocess.run(["gcc", "-o", tmp_path / "it", tmp_path / "it.c"], check=True)
    probe = f"uprobe:{tmp_path}/it"
    assert _listed(f"{probe}:worker$run") == [f"{probe}:worker$run"]
    for name in ("worker$run", '"worker$run"', '"_ZN4core3fmt9Formatter$LT$T$GT$3newE"'):
        assert len(_listed("-e", f"{probe}:{name} {{ }}")) == 1
    # What is left of them in double quotes: $3 is a parameter, which has one digit.
    expected = {"worker": "worker$run", "_ZN4core3fmt9FormatternewE": "_ZN4core3fmt9Formatter$LT$T$GT$3newE"}
    for left, name in expected.items():
        for words in (["--dry-run", "-e", f"{probe}:{left} {{ }}"], ["-l", f"{probe}:{left}"]):
            shown = run_trace(*words, status=1).stderr
            assert f"there is no function {left} in {tmp_path}/it, but {name}" in shown
            assert "put the script in single quotes" in shown
    shown = run_trace("-e", f"{probe}:_ZN4core3fmt9Formatter$LT$T$GT$3newE {{ }}", status=1).stderr
    assert "positional parameter $3 is not given" in shown and "put the name in double quotes" in shown


def test_a_name_that_nothing_has_is_reported_with_similar_ones() -> None:
    shown = run_trace("-l", "tracepoint:sched:sched_swich", status=1).stderr
    assert shown.startswith("insitu: no probe matches tracepoint:sched:sched_swich") and "sched:sched_switch" in shown
