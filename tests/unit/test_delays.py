"""Delay accounting: where the kernel's structure has what, pressure files, and how both are shown."""

import io
import re
import struct
import subprocess
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.kernel import pressure, taskstats
from insitu.kernel.pressure import Stall, Throttled
from insitu.kernel.taskstats import KINDS, Delays, offsets
from insitu.session.special_tables import DELAY
from insitu.views.delays import Machine, blocks, document
from insitu.views.terminal import Screen

_HEADER = Path("/usr/include/linux/taskstats.h")


@pytest.mark.skipif(not _HEADER.exists(), reason="needs the kernel's headers for programs")
def test_the_structure_is_laid_out_as_the_kernels_header_does(tmp_path: Path) -> None:
    text = _HEADER.read_text()
    version = int(re.search(r"TASKSTATS_VERSION\s+(\d+)", text)[1])  # type: ignore[index]
    members = [f"{kind}_count" for kind in KINDS if f"{kind}_count;" in text]
    members += ["cpu_run_virtual_total", "ac_btime64"]
    lines = "".join(f'printf("%zu\\n", offsetof(struct taskstats, {name}));' for name in members)
    source = f"#include <linux/taskstats.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {{ {lines} }}"
    subprocess.run(["gcc", "-xc", "-", "-o", tmp_path / "it"], input=source.encode(), check=True)
    wanted = subprocess.run([tmp_path / "it"], capture_output=True, text=True, check=True).stdout.split()
    assert [offsets(version)[name.removesuffix("_count")] for name in members] == list(map(int, wanted))


def test_version_15_has_two_more_numbers_in_each_delay_and_later_ones_do_not() -> None:
    # Linux 6.15: cpu_delay_max and _min follow cpu_delay_total; since 6.16 they are at the end.
    assert [offsets(15)[kind] - offsets(15)["cpu"] for kind in ("cpu", "blkio", "swapin")] == [0, 32, 64]
    assert offsets(16) == offsets(14)


def test_what_an_older_kernel_does_not_have_is_left_out() -> None:
    data = bytearray(328)
    struct.pack_into("=H", data, 0, 8)
    struct.pack_into("=QQ", data, 16, 3, 700)
    struct.pack_into("=Q", data, 72, 5000)
    struct.pack_into("=QQ", data, 312, 2, 900)
    found = taskstats._decoded(bytes(data))
    assert found.run_ns == 5000 and found.delay_ns == {"cpu": 700, "blkio": 0, "swapin": 0, "freepages": 900}
    assert found.times["cpu"] == 3 and "thrashing" not in found.times
    with pytest.raises(InsituError, match="version 0"):
        taskstats._decoded(b"\x0f")


def test_attributes_of_a_message_end_where_their_lengths_are_wrong() -> None:
    # struct nlattr: length with its 4 bytes of head, type; padded to 4 bytes. The upper bits of a type are flags.
    first, second = struct.pack("=HHI", 8, 1, 77), struct.pack("=HH3s", 7, 0x8003, b"abc") + b"\0"
    assert taskstats._attributes(first + second) == {1: struct.pack("=I", 77), 3: b"abc"}
    assert taskstats._attributes(first + struct.pack("=HH", 3, 2) + second) == {1: struct.pack("=I", 77)}
    assert taskstats._attributes(b"\1") == {}


def test_both_together_are_a_sum_and_nothing_adds_nothing() -> None:
    one, other = Delays(5, {"cpu": 9, "irq": 4}, {"cpu": 3, "irq": 1}), Delays(2, {"cpu": 5}, {"cpu": 2})
    assert one.with_(other) == Delays(7, {"cpu": 14, "irq": 4}, {"cpu": 5, "irq": 1})
    assert one.with_(Delays(0, {}, {})) == one


def test_a_difference_is_by_kind() -> None:
    later, earlier = Delays(50, {"cpu": 9, "irq": 4}, {"cpu": 3, "irq": 1}), Delays(20, {"cpu": 5}, {"cpu": 2})
    assert later.since(earlier) == Delays(30, {"cpu": 4, "irq": 4}, {"cpu": 1, "irq": 1})


def test_pressure_and_throttling_of_a_cgroup_are_read(tmp_path: Path) -> None:
    (tmp_path / "io.pressure").write_text(
        "some avg10=1.50 avg60=0.25 avg300=0.10 total=2500\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=7\n"
    )
    (tmp_path / "cpu.pressure").write_text("gibberish\n")
    assert pressure.pressure(str(tmp_path)) == {
        "io": {"some": Stall(1.5, 0.25, 0.1, 2_500_000), "full": Stall(0.5, 0.0, 0.0, 7000)}
    }
    assert pressure.throttled(str(tmp_path)) is None
    (tmp_path / "cpu.stat").write_text("usage_usec 9\nnr_periods 20\nnr_throttled 4\nthrottled_usec 12\n")
    assert pressure.throttled(str(tmp_path)) == Throttled(4, 12_000)


_DELAYS = {7: Delays(2_000_000, {"cpu": 5_000}, {"cpu": 3}), 8: Delays(0, {"cpu": 90_000}, {"cpu": 1})}
_MACHINE = Machine({"": {"io": {"some": Stall(1.5, 0, 0, 2)}}}, {"/g": Throttled(2, 3_000_000)}, 0)


def test_what_is_not_accounted_is_a_dash_and_in_json_null() -> None:
    out = io.StringIO()
    Screen(out).write(blocks(_DELAYS, {7: "seven", 8: "eight"}, _MACHINE, 0))
    lines = out.getvalue().splitlines()
    assert lines[1].split() == ["8", "eight", "0", "ns", "90.000", "us", "(1)", "-"]  # the most delayed first
    assert "# not known: swapin, reclaim, thrashing, compact, wpcopy, irq" in lines
    assert lines[2].split()[:7] == ["7", "seven", "2.000", "ms", "5.000", "us", "(3)"]
    assert any("/g was throttled 2 times" in line and "3.000 ms" in line for line in lines)
    (first, _) = document(_DELAYS, {7: "seven"}, _MACHINE)["processes"]
    assert first["delays"]["cpu"] == {"ns": 5000, "count": 3} and first["delays"]["blkio"] is None


def test_a_limit_says_what_it_leaves_out() -> None:
    out = io.StringIO()
    Screen(out).write(blocks(_DELAYS, {}, Machine({}, {}, 0), 1))
    assert "# 1 more; --limit 0 shows all" in out.getvalue().splitlines()


def test_what_delayed_no_process_has_no_column_but_is_named() -> None:
    times = dict.fromkeys(KINDS, 0) | {"wpcopy": 2}
    out = io.StringIO()
    Screen(out).write(blocks({7: Delays(1, times, times)}, {}, Machine({}, {}, 0), 0))
    first, *others = out.getvalue().splitlines()
    assert first.split() == ["#", "pid", "name", "running", "cpu", "blkio", "wpcopy"]
    assert "# none by: swapin, reclaim, thrashing, compact, irq" in others


def test_the_table_has_a_duration_and_a_count_of_every_kind_of_delay() -> None:
    kinds = {column.name: column.type for column in DELAY.columns[3:]}
    assert kinds == {f"{kind}_ns": "duration" for kind in KINDS} | {f"{kind}_count": "count" for kind in KINDS}
