"""Hints where a recording could be better, by shares that are known; none where nothing would be."""

from dataclasses import replace

import pytest

from insitu.session.manifest import Manifest
from insitu.symbols.frame import JIT, PYTHON, Frame
from insitu.views.diff import diff_stacks
from insitu.views.hints import hints
from insitu.views.report import build_report

FP = Manifest(sources=[{"id": "perf", "kind": "perf", "options": {"stacks": "fp"}}])
DWARF = Manifest(sources=[{"id": "perf", "kind": "perf", "options": {"stacks": "dwarf"}}])
UNKNOWN = Frame("[unknown]", symbolized=False)
JITTED = Frame("0x7f0000001000", symbolized=False)
EVAL = Frame("_PyEval_EvalFrameDefault", "/usr/bin/python3.13")


def test_broken_stacks_say_what_would_mend_them(profile_of):
    rows = [("p", 1, [UNKNOWN, "inner"], 3), ("p", 1, ["main", "inner"], 7)]
    assert [hint.partition(" of ")[0] for hint in hints(profile_of(rows, manifest=FP))] == ["30%"]
    assert "--stacks dwarf" in hints(profile_of(rows, manifest=FP))[0]
    assert (
        "perf record --call-graph dwarf" in hints(profile_of(rows, manifest=Manifest(imported_from="perf.data")))[0]
    )
    assert hints(profile_of(rows, manifest=DWARF)) == []
    assert hints(profile_of([("p", 1, [UNKNOWN, "inner"], 1), ("p", 1, ["main"], 9)], manifest=FP)) == []


@pytest.mark.parametrize(
    ("module", "says"),
    [("/usr/bin/node", "--perf-basic-prof"), ("/jdk/lib/server/libjvm.so", "PreserveFramePointer")],
)
def test_code_of_a_jit_compiler_without_names_says_how_to_get_them(profile_of, module, says):
    stack = [Frame("start", module), JITTED, UNKNOWN, JITTED]
    assert [says in hint for hint in hints(profile_of([("p", 1, stack, 5)], manifest=FP))] == [True]
    named = [Frame("start", module), Frame("JS:*hot", "[jit]", kind=JIT)]
    assert hints(profile_of([("p", 1, named, 5), ("p", 1, stack, 1)], manifest=DWARF)) == []


def test_python_without_its_functions_says_how_to_get_them(profile_of):
    [hint] = hints(profile_of([("p", 1, ["main", EVAL], 4)], manifest=DWARF))
    assert hint.startswith("100% of the samples: Python functions have no names") and "-X perf" in hint
    assert "3.13 cannot" not in hint and hint.endswith(
        "insitu stacks has those of now, insitu why of waits (3.11 to 3.13)"
    )
    older = Frame("_PyEval_EvalFrameDefault", "/usr/lib/libpython3.11.so.1.0")
    [hint] = hints(profile_of([("p", 1, ["main", older], 4)], manifest=DWARF))
    assert "3.11 cannot give them, python3 -X perf of 3.12 can; insitu stacks " in hint
    named = [EVAL, Frame("py::f:/a.py", "[jit]", kind=PYTHON), EVAL]
    assert hints(profile_of([("p", 1, named, 4)], manifest=DWARF)) == []


def test_a_report_says_whom_it_is_about(profile_of):
    rows = [("server", 41, ["main"], 3), ("worker", 42, ["main"], 3)]
    info = build_report(profile_of(rows, manifest=Manifest(pids=[41, 99]))).info
    assert info["target"] == "process 41 (server), process 99"
    assert build_report(profile_of(rows, manifest=Manifest(whole_system=True))).info["target"] == "the whole machine"
    assert "target" not in build_report(profile_of(rows, manifest=Manifest(command=["./prog"]))).info


def test_a_diff_of_recordings_that_were_made_differently_says_so(profile_of):
    rows = [("p", 1, ["main"], 9)]
    sides = [
        profile_of(rows, manifest=each.changed(kernel=kernel)) for each, kernel in ((FP, "6.1"), (DWARF, "6.12"))
    ]
    assert diff_stacks(*sides).notes == [
        "recorded differently: call stacks fp before, dwarf after",
        "recorded differently: kernel 6.1 before, 6.12 after",
    ]
    assert diff_stacks(sides[0], sides[0]).notes == []


def test_functions_of_stripped_files_say_which_files_and_what_gives_symbols(profile_of):
    own, compiler = (Frame(f"[{name}]", f"/opt/{name}", symbolized=False) for name in ("sl_s", "cc1plus"))
    [hint] = hints(profile_of([("p", 1, ["main", own], 94), ("p", 1, ["main"], 6)], manifest=DWARF))
    assert hint.startswith("94% of the samples: functions of sl_s have no symbols") and "DEBUGINFOD_URLS" in hint
    [hint] = hints(profile_of([("p", 1, [own], 1), ("p", 1, [compiler], 2), ("p", 1, ["main"], 7)], manifest=DWARF))
    assert hint.startswith("30% of the samples: functions of cc1plus and sl_s have no symbols")


def test_nothing_is_said_of_symbols_where_it_would_not_be_true_or_not_help(profile_of):
    stripped = Frame("[sl_s]", "/opt/sl_s", symbolized=False)
    rows = [("p", 1, [stripped], 5), ("p", 1, ["main"], 5)]
    missing = ("no symbols: 1 file is not here: /opt/sl_s (--symfs DIR)",)
    assert hints(replace(profile_of(rows, manifest=DWARF), notes=missing)) == []  # said already
    assert hints(profile_of([("p", 1, [stripped], 1), ("p", 1, ["main"], 9)], manifest=DWARF)) == []
    assert hints(profile_of([("p", 1, [stripped, "main"], 9)], manifest=DWARF)) == []  # it only called
    for module in ("/memfd:code (deleted)", "/dev/zero", "/opt/gone (deleted)", "[vdso]"):
        frame = Frame("[x]", module, symbolized=False)
        assert hints(profile_of([("p", 1, [frame], 9)], manifest=DWARF)) == []
