"""Exported trace.dat files: what trace-cmd report prints of them, and what our own reader reads."""

import re
import shutil
import subprocess

import numpy as np
import polars
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit import trace_dat_files as files
from tests.unit.sessions import empty_session

from insitu.convert.formats.registry import ExportOptions
from insitu.convert.formats.trace_dat_writer import export_trace_dat
from insitu.convert.formats.trace_page_writer import HEADER_PAGE, PAGE_BYTES, Bodies, bodies, pages
from insitu.convert.open import import_file, open_session
from insitu.convert.trace_pages import decode_pages, page_layout
from insitu.errors import InsituError
from insitu.kernel.tracefs import EventFormat, Field


def _exported(source, directory):
    """The file that is exported from an import of ``source``."""
    import_file(source, directory / "run.insitu")
    with open_session(directory / "run.insitu") as session:
        path = directory / "exported.dat"
        path.write_bytes(b"".join(export_trace_dat(session, ExportOptions("run"))))
    return path


@pytest.mark.skipif(shutil.which("trace-cmd") is None, reason="needs trace-cmd")
@pytest.mark.parametrize(
    ("name", "events", "other"),
    [
        ("version_7", 120, r"call_site=\S+ |\([\w+.]+\) "),  # kernel symbols are not exported, nor is the date
        ("buffers", 26, r"\d+\.\d+: "),
    ],
)
def test_trace_cmd_prints_the_lines_of_the_file_that_was_imported(name, events, other, tmp_path):
    source = files.file(name, tmp_path)
    printed = []
    for path in (source, _exported(source, tmp_path)):
        ran = subprocess.run(["trace-cmd", "report", "-t", path], capture_output=True, text=True, check=True)
        # Threads that the first file lists no name for have one in ours.
        lines = [re.sub(r"^(\w+: )? *\S.*?-(\d+ +\[)", r"\1\2", line) for line in ran.stdout.splitlines()]
        printed.append(sorted(re.sub(other, "", line) for line in lines if "[" in line))
    assert printed[0] == printed[1]
    assert len(printed[0]) == events


@pytest.mark.parametrize("name", ["version_7", "buffers"])
def test_an_exported_file_is_imported_with_every_event_and_field(name, tmp_path):
    exported = _exported(files.file(name, tmp_path), tmp_path)
    import_file(exported, tmp_path / "again.insitu")
    with open_session(tmp_path / "run.insitu") as first, open_session(tmp_path / "again.insitu") as second:
        tables = [name for name in first.tables if name.startswith("event.")]
        assert [name for name in second.tables if name.startswith("event.")] == tables
        for table in tables:
            rows = [_known(session[table]).sort("ts_ns").rows() for session in (first, second)]
            assert rows[0] == rows[1]


def _known(frame):
    """The columns but for the names of addresses far from any function that the file's short list of them has."""
    near = {
        name: pl.col(f"{name.removesuffix('_function')}_offset") < 1 << 16
        for name in frame.columns
        if name.endswith("_function")
    }
    return frame.drop("utid").with_columns(
        pl.when(is_near).then(pl.col(name)).alias(name) for name, is_near in near.items()
    )


def test_a_session_without_trace_events_is_refused(tmp_path):
    with (
        open_session(empty_session(tmp_path / "run.insitu")) as session,
        pytest.raises(InsituError, match="no trace events of the kernel"),
    ):
        list(export_trace_dat(session, ExportOptions("run")))


def test_an_event_that_no_page_holds_is_refused():
    shape = EventFormat("x:y", 1, (), (Field("buffer", "char", 8, 5000, False, 5000),), "")
    with pytest.raises(InsituError, match="5008 bytes, more than a page holds"):
        bodies(shape, np.array([1]), polars.DataFrame({"buffer": ["text"]}))


_RECORDS = st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(1, 600)), min_size=1, max_size=80)


@given(_RECORDS, st.integers(0, 1 << 60))
def test_any_records_are_read_back_from_their_pages(records, start_ns):
    steps, words = (np.array(column, np.int64) for column in zip(*records, strict=True))
    ts_ns = start_ns + np.cumsum(steps)
    size = words * 4
    memory = np.arange(int(size.sum()), dtype=np.int64).astype(np.uint8)
    at = np.cumsum(size) - size
    found = np.frombuffer(pages(ts_ns, Bodies(memory, at, size)), np.uint8).copy()
    cpus = np.zeros(len(found) // PAGE_BYTES, np.int32)
    read = decode_pages(found, cpus, page_layout(HEADER_PAGE, PAGE_BYTES))
    assert read.damaged == 0
    assert read.ts_ns.tolist() == ts_ns.tolist()
    assert [bytes(found[low : low + length]) for low, length in zip(read.at, size, strict=True)] == [
        bytes(memory[low : low + length]) for low, length in zip(at, size, strict=True)
    ]
