"""Windows over the pages of several CPUs: bounded, in the order of time, and every record once."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.trace_page_bytes import HEADER_PAGE, PAGE_BYTES, Written, bytes_of, page

from insitu.convert import trace_windows
from insitu.convert.file_bytes import FileBytes
from insitu.convert.trace_pages import page_layout

LAYOUT = page_layout(HEADER_PAGE, PAGE_BYTES)
STEPS = st.lists(st.integers(0, 30), min_size=1, max_size=40)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, min_size=1, max_size=3), st.integers(1, 3), st.integers(1, 4))
def test_a_window_has_few_pages_of_each_cpu_and_all_records_from_before_the_time_that_it_names(
    tmp_path: Path, cpus: list[list[int]], each: int, pages: int
) -> None:
    """``each``: records of a page."""
    files, wanted = {}, []
    for cpu, steps in enumerate(cpus):
        times = [sum(steps[: at + 1]) for at in range(len(steps))]
        wanted += [(ts_ns, cpu) for ts_ns in times]
        parts = [times[at : at + each] for at in range(0, len(times), each)]
        path = tmp_path / f"cpu{cpu}"
        path.write_bytes(b"".join(page([Written(ts_ns, bytes_of(1, 7)) for ts_ns in part]) for part in parts))
        files[cpu] = FileBytes(path.open("rb"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace_windows, "_WINDOW_BYTES", pages * PAGE_BYTES * len(cpus))
        found = [*trace_windows.windows(files, LAYOUT)]
    seen, until_ns = [], -1
    for window in found:
        assert len(window.memory) <= pages * PAGE_BYTES * len(cpus)
        assert all(ts_ns >= until_ns for ts_ns in window.ts_ns.tolist())
        until_ns = window.until_ns
        seen += zip(window.ts_ns.tolist(), window.cpu.tolist(), strict=True)
    assert sorted(seen) == sorted(wanted)


def test_pages_that_all_begin_at_one_time_are_read_too(tmp_path: Path) -> None:
    """A forged file: no page is later than another."""
    files = {}
    for cpu in (0, 1):
        path = tmp_path / f"cpu{cpu}"
        path.write_bytes(b"".join(page([Written(5, bytes_of(1, 7))]) for _ in range(600)))
        files[cpu] = FileBytes(path.open("rb"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace_windows, "_WINDOW_BYTES", 8 * PAGE_BYTES)
        assert sum(map(len, trace_windows.windows(files, LAYOUT))) == 1200
