"""The text of perf script, as perf 6.1 prints it for recordings made for this test (names shortened)."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insitu.convert.formats.perf_script import import_perf_script, is_perf_script
from insitu.convert.formats.registry import ImportOptions, importer_of
from insitu.errors import InsituError
from insitu.symbols.frame import JIT, KERNEL, Frame

from .imported import Imported, imported

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
    read = imported(path)
    assert read.column("ts_ns") == [1681808718000, 1681808719000, 1681809703000, 1681809704000]
    assert read.column("cpu") == [1, 1, 0, 0]
    assert {read.writer.processes.label(utid)[0] for utid in read.column("utid")} == {2771}
    assert read.column("weight") == [2004008, 2004008, 12, 1]
    assert read.events() == ["cpu-clock:pppH", "cpu-clock:pppH", "page-faults:u", "sched:sched_switch"]
    assert [unit for _, unit, *_ in read.writer.event_types] == ["ns", "page-faults", "sched:sched_switch"]
    first, second, third, fourth = read.frames()
    assert (
        first
        == second
        == [
            Frame("[unknown]", "/usr/lib/libc.so.6", symbolized=False),
            Frame("std::function<void (int)>::operator()(int) const", "/tmp/w prog (deleted)"),
            Frame("copy<Item (*)(int)>(int, char const*)", "/tmp/w prog (deleted)", inlined=True),
            Frame("exc_page_fault", "[kernel.kallsyms]", kind=KERNEL),
        ]
    )
    assert third == [
        Frame("[unknown]", symbolized=False),
        Frame("LazyCompile:*leaf work.js:2", "/tmp/perf-2771.map", kind=JIT),
    ]
    assert fourth == []
    manifest = read.writer.manifest
    assert (manifest.host, manifest.kernel, manifest.cpus) == ("box", "6.1.0", 2)
    assert manifest.command == ["/usr/bin/perf", "record", "-g", "--", "./prog"]


def test_a_thread_that_renames_itself_keeps_each_name_from_its_time_on(tmp_path: Path):
    read = imported(written(tmp_path, DEFAULT))
    assert read.comms() == ["npm install vit", "npm install vit", "dd", "dd"]
    assert len(set(read.column("utid"))) == 1


def test_the_idle_task_is_one_thread_of_each_cpu(tmp_path: Path):
    text = "swapper     0 [001]     1.000000:    100 cycles: \n\tffffffff8225f7a7 idle+0xd7 ([kernel.kallsyms])\n\n"
    read = imported(written(tmp_path, text))
    assert (read.comms(), read.column("utid")) == (["swapper"], [0])


def test_windows_line_ends_are_read(tmp_path: Path):
    path = tmp_path / "out.txt"
    path.write_bytes(DEFAULT.replace("\n", "\r\n").encode())
    assert imported(path).frames() == imported(written(tmp_path, DEFAULT)).frames()


def test_frames_at_the_end_of_a_samples_line_are_read(tmp_path: Path):
    text = (
        "              bc 20235   879.191692:    1001 cpu-clock:u:      563536f6c139 inner+0x10 (/tmp/fm/p)\n"
        "              bc 20235   879.192687:    1001 cpu-clock:u:  ffffffff8225f7a7 do_it+0x21 ([kernel.kallsyms])\n"
    )
    read = imported(written(tmp_path, text))
    assert (read.comms(), read.functions()) == (["bc", "bc"], [["inner"], ["do_it"]])
    assert read.column("weight") == [1001, 1001]


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
    read = imported(written(tmp_path, block * 3))
    assert (read.comms()[0], read.column("cpu")[0], read.column("ts_ns")[0], read.events()[0]) == expected
    assert read.functions() == [["main", frame]] * 3


def test_source_lines_belong_to_the_frame_above_them(tmp_path: Path):
    text = (
        "w  2771/2771  [001]  1681.816714:    2004008 cpu-clock: \n"
        "\t            1b1f part<A>+0xaf\n  stl_algo.h:1870 (inlined)\n"
        "\t            1b1f loop+0xaf (/tmp/w)\n  stl_algo.h:1921\n"
        "\t            1b6d main+0x1 (/tmp/w)\n  w[1b6d]\n"
        "\t            1b77 _start+0x1 (/tmp/w)\n  :0\n\n"
    )
    (frames,) = imported(written(tmp_path, text)).frames()
    assert frames == [
        Frame("_start", "/tmp/w"),
        Frame("main", "/tmp/w"),
        Frame("loop", "/tmp/w", "stl_algo.h", 1921),
        Frame("part<A>", "/tmp/w", "stl_algo.h", 1870, inlined=True),
    ]


def test_losses_are_counted(tmp_path: Path):
    read = imported(written(tmp_path, DEFAULT + "p 1 2.000000: PERF_RECORD_LOST lost 33\n"))
    assert read.writer.losses_by_source() == {"perf": 33}


def test_a_damaged_line_is_reported_with_its_number_or_left_out(tmp_path: Path):
    lines = DEFAULT.splitlines()
    lines[11] = "?? torn ??"  # line 12, the second frame of the first sample
    lines.insert(21, "\t  16db75 lost_its_sample+0x1 (/tmp/x)\n")
    path = written(tmp_path, "\n".join(lines))
    with pytest.raises(InsituError, match="line 12: not a line of perf script"):
        imported(path)
    read = imported(path, skip_bad_lines=True)
    assert len(read.column("stack")) == 4
    assert read.notes == [
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
        read = Imported(lambda writer: import_perf_script(path, writer, ImportOptions(skip_bad_lines=skip)))
    except InsituError as error:
        assert "\n" not in str(error) and (not skip or "no samples" in str(error))
        return
    assert max(read.column("stack")) < len(read.writer.stacks)
    read.stacks()


def test_text_longer_than_is_read_at_once_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("insitu.convert.formats.perf_script._CHUNK", 1000)
    assert len(imported(written(tmp_path, DEFAULT * 20)).column("stack")) == 80
    lines = "".join(f"   p 1 {at}.000000: 1 cycles:  ffffffff81000000 f+0x1 (/x)\n" for at in range(100))
    assert imported(written(tmp_path, lines)).column("ts_ns") == [at * 10**9 for at in range(100)]
