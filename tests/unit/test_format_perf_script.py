"""The text of perf script, as perf 6.1 prints it for recordings made for this test (names shortened)."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insitu.convert.formats.folded import folded_counts
from insitu.convert.formats.perf_script import is_perf_script, read_perf_script
from insitu.convert.formats.registry import importer_of
from insitu.errors import InsituError
from insitu.session.profile import Lost
from insitu.symbols.frame import JIT, KERNEL, Frame

DEFAULT = """\
# ========
# hostname : box
# os release : 6.1.0
# arch : x86_64
# nrcpus online : 2
# cmdline : /usr/bin/perf record -g -- ./prog
# ========
#
swapper     0     0.000000: PERF_RECORD_MMAP -1/0: [0xffffffff81000000(0x1276508) @ 0]: x [kernel]_text
npm install vit  2771 [001]  1681.808718:    2004008 cpu-clock:pppH:\x20
\tffffffff8225f7a7 exc_page_fault+0xd7 ([kernel.kallsyms])
\t          16db75 copy<Item (*)(int)>(int, char const*)+0x375 (inlined)
\t          16dbff std::function<void (int)>::operator()(int) const+0x3 (/tmp/w prog (deleted))
\t    562f73172f5f [unknown] (/usr/lib/libc.so.6)

npm install vit  2771 [001]  1681.808719:    2004008 cpu-clock:pppH:\x20
\tffffffff8225f7a7 exc_page_fault+0xd7 ([kernel.kallsyms])
\t          16db75 copy<Item (*)(int)>(int, char const*)+0x375 (inlined)
\t          16dbff std::function<void (int)>::operator()(int) const+0x3 (/tmp/w prog (deleted))
\t    562f73172f5f [unknown] (/usr/lib/libc.so.6)

dd  2771 [000]  1681.809000: PERF_RECORD_COMM exec: dd:2771/2771
dd  2771 [000]  1681.809703:         12 page-faults:u:\x20
\t    7f7a160a7840 LazyCompile:*leaf work.js:2+0x1 (/tmp/perf-2771.map)
\t               0 [unknown] ([unknown])

dd  2771 [000]  1681.809704: sched:sched_switch: prev_comm=perf prev_pid=3335 ==> next_comm=a next_pid=18
PERF_RECORD_FINISHED_ROUND
"""


def written(path: Path, text: str) -> Path:
    (path / "out.txt").write_text(text)
    return path / "out.txt"


def test_the_default_fields_are_read(tmp_path: Path):
    path = written(tmp_path, DEFAULT)
    assert importer_of(path).name == "perf script"
    profile = read_perf_script(path)
    assert profile.ts_ns.tolist() == [1681808718000, 1681808719000, 1681809703000, 1681809704000]
    assert profile.cpu.tolist() == [1, 1, 0, 0]
    assert profile.tid.tolist() == [2771] * 4
    assert profile.weight.tolist() == [2004008, 2004008, 12, 1]
    assert [profile.events[at] for at in profile.event] == [
        *("cpu-clock:pppH", "cpu-clock:pppH", "page-faults:u", "sched:sched_switch")
    ]
    assert profile.frames[:5] == [
        Frame("[unknown]", "/usr/lib/libc.so.6"),
        Frame("std::function<void (int)>::operator()(int) const", "/tmp/w prog (deleted)"),
        Frame("copy<Item (*)(int)>(int, char const*)", "/tmp/w prog (deleted)", inlined=True),
        Frame("exc_page_fault", "[kernel.kallsyms]", kind=KERNEL),
        Frame("[unknown]"),
    ]
    assert profile.frames[5] == Frame("LazyCompile:*leaf work.js:2", "/tmp/perf-2771.map", kind=JIT)
    assert (profile.info["host"], profile.info["kernel"], profile.info["cpus"]) == ("box", "6.1.0", 2)
    assert profile.info["command"] == ["/usr/bin/perf", "record", "-g", "--", "./prog"]


def test_a_thread_that_renames_itself_keeps_each_name_from_its_time_on(tmp_path: Path):
    counts = folded_counts(read_perf_script(written(tmp_path, DEFAULT)))
    assert {stack.partition(";")[0]: n for stack, n in counts.items()} == {"npm_install_vit": 2, "dd": 1}
    assert counts["dd"] == 1  # the tracepoint's, without a stack


def test_windows_line_ends_are_read(tmp_path: Path):
    path = tmp_path / "out.txt"
    path.write_bytes(DEFAULT.replace("\n", "\r\n").encode())
    assert folded_counts(read_perf_script(path)) == folded_counts(read_perf_script(written(tmp_path, DEFAULT)))


def test_frames_at_the_end_of_a_samples_line_are_read(tmp_path: Path):
    text = (
        "              bc 20235   879.191692:    1001 cpu-clock:u:      563536f6c139 inner+0x10 (/tmp/fm/p)\n"
        "              bc 20235   879.192687:    1001 cpu-clock:u:  ffffffff8225f7a7 do_it+0x21 ([kernel.kallsyms])\n"
    )
    profile = read_perf_script(written(tmp_path, text))
    assert folded_counts(profile) == {"bc;inner": 1, "bc;do_it": 1}
    assert profile.weight.tolist() == [1001, 1001]


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("my prog ", ("my prog", -1, 0, "samples")),
        ("my prog  2012 ", ("my prog", -1, 0, "samples")),
        ("my prog 7/2012  [003]  1.000000: cycles:u: ", ("my prog", 3, 10**9, "cycles samples")),
        ("my prog [003] ", ("my prog", 3, 0, "samples")),
        ("my prog  1.000000001: ", ("my prog", -1, 1_000_000_001, "samples")),
        ("my prog cycles:u: ", ("my prog", -1, 0, "cycles samples")),
        ("my prog 2012 [003] U      1.5:       77 cycles: ", ("my prog", 3, 1_500_000_000, "cycles")),
        ("cycles: ", ("out.txt", -1, 0, "cycles samples")),
        ("", ("out.txt", -1, 0, "samples")),
    ],
)
@pytest.mark.parametrize("frame", ["inner", "f(int (*)(char))", "(anonymous namespace)::f", "operator new"])
def test_any_choice_of_fields_is_read(tmp_path: Path, first: str, expected: tuple[str, int, int, str], frame: str):
    block = f"{first}\n\t            114a {frame}\n\t            1187 main\n\n"
    profile = read_perf_script(written(tmp_path, block * 3))
    row = (profile.comms(profile.tid)[0], int(profile.cpu[0]), int(profile.ts_ns[0]), profile.events[0])
    assert (row, len(profile)) == (expected, 3)
    assert [one.function for one in profile.frames] == ["main", frame]


def test_source_lines_belong_to_the_frame_above_them(tmp_path: Path):
    text = (
        "w  2771/2771  [001]  1681.816714:    2004008 cpu-clock: \n"
        "\t            1b1f part<A>+0xaf\n  stl_algo.h:1870 (inlined)\n"
        "\t            1b1f loop+0xaf (/tmp/w)\n  stl_algo.h:1921\n"
        "\t            1b6d main+0x1 (/tmp/w)\n  w[1b6d]\n"
        "\t            1b77 _start+0x1 (/tmp/w)\n  :0\n\n"
    )
    assert read_perf_script(written(tmp_path, text)).frames == [
        Frame("_start", "/tmp/w"),
        Frame("main", "/tmp/w"),
        Frame("loop", "/tmp/w", "stl_algo.h", 1921),
        Frame("part<A>", "/tmp/w", "stl_algo.h", 1870, inlined=True),
    ]


def test_losses_are_counted(tmp_path: Path):
    profile = read_perf_script(written(tmp_path, DEFAULT + "p 1 2.000000: PERF_RECORD_LOST lost 33\n"))
    assert profile.lost == [Lost(0, "perf script", -1, 33)]


def test_a_damaged_line_is_reported_with_its_number_or_left_out(tmp_path: Path):
    lines = DEFAULT.splitlines()
    lines[11] = "?? torn ??"  # line 12, the second frame of the first sample
    lines.insert(21, "\t  16db75 lost_its_sample+0x1 (/tmp/x)\n")
    path = written(tmp_path, "\n".join(lines))
    with pytest.raises(InsituError, match="line 12: not a line of perf script"):
        read_perf_script(path)
    profile = read_perf_script(path, skip_bad_lines=True)
    assert len(profile) == 4
    assert profile.info["notes"] == [
        "2 bad lines were left out (line 12: not a line of perf script; line 22: a frame without a sample)"
    ]


@pytest.mark.parametrize("text", ["a;b;c 3\n", "main 1\n", "some words\n", "a;f 1.5: x 2\n", "x.y 12 0.5\n"])
def test_other_text_is_not_taken_for_perf_script(text: str):
    assert not is_perf_script(text.encode())


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), skip=st.booleans())
def test_damaged_text_is_samples_or_one_line_of_error(tmp_path: Path, data: st.DataObject, skip: bool):
    text = bytearray(DEFAULT.encode())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    path = tmp_path / "out.txt"
    path.write_bytes(text)
    try:
        profile = read_perf_script(path, skip_bad_lines=skip)
    except InsituError as error:
        assert "\n" not in str(error) and (not skip or "no samples" in str(error))
        return
    assert len(profile.tid) == len(profile.stack) == len(profile.weight)
    assert (profile.stack < len(profile.stack_parent)).all()


def test_text_longer_than_is_read_at_once_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("insitu.convert.formats.perf_script._CHUNK", 1000)
    assert len(read_perf_script(written(tmp_path, DEFAULT * 20))) == 80
    lines = "".join(f"   p 1 {at}.000000: 1 cycles:  ffffffff81000000 f+0x1 (/x)\n" for at in range(100))
    assert read_perf_script(written(tmp_path, lines)).ts_ns.tolist() == [at * 10**9 for at in range(100)]
