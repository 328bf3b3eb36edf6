"""A small session of each format, written once and kept: what was recorded years ago must open as it was.

The numbers are arithmetic: 30 samples of 10 ns, one each 50 ns from 1000 ns on, in three leaves in turn; the thread
is called sh until 1500 ns, then prog. One wait of 40 ns, one still open; one event of 7 ns; 5 records lost.
"""

import shutil
from pathlib import Path

import pytest

from insitu.convert.formats.folded import folded_counts
from insitu.convert.open import open_session
from insitu.session.weighted_stacks import Selection

GOLDEN = Path(__file__).parents[1] / "golden"
FORMATS = sorted(path.name for path in GOLDEN.iterdir())


@pytest.mark.parametrize("name", FORMATS)
def test_a_session_of_every_format_opens_as_it_was_recorded(name: str, tmp_path: Path):
    path = shutil.copytree(GOLDEN / name, tmp_path / "golden.insitu")
    with open_session(path) as session:
        stacks = session.stacks()
        assert folded_counts(stacks, value="weight") == {
            **{f"sh;main;leaf{leaf}": count * 10 for leaf, count in ((0, 4), (1, 3), (2, 3))},
            **{f"prog;main;leaf{leaf}": count * 10 for leaf, count in ((0, 6), (1, 7), (2, 7))},
        }
        assert (stacks.event, stacks.unit, stacks.duration_ns) == ("cpu-clock", "ns", 2000)
        assert stacks.losses == {"ring buffer": 5}
        assert session.manifest.frequency_hz == 99
        waits = session.stacks(Selection(table="span"))
        assert (waits.unit, waits.total_count, int(waits.weight.sum())) == ("ns", 2, 40)
        opens = session.stacks(Selection(table="event.open"))
        assert folded_counts(opens) == {"sh;main;leaf2": 7}  # at 1300 ns
        assert session.sql("select file, took_ns from event.open").rows() == [("/etc/passwd", 7)]
        assert session.sql("select pid, exe from process where pid = 10").rows() == [(10, "/bin/prog")]
        assert session.sql("select file, line from frame where function = 'main'").rows() == [("prog.c", 10)]
