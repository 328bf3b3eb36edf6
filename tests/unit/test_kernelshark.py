"""Exported trace.dat files in KernelShark's library."""

import ctypes
import subprocess
import sys

import pytest
from tests.unit import kernelshark_entries
from tests.unit import trace_dat_files as files

from insitu.convert.formats.registry import ExportOptions
from insitu.convert.formats.trace_dat_writer import export_trace_dat
from insitu.convert.open import import_file, open_session

try:
    ctypes.CDLL(kernelshark_entries.LIBRARY)
except OSError:
    pytest.skip("needs KernelShark's library, Debian's package libkshark2", allow_module_level=True)


def _entries(path):
    """(time, CPU, thread, event, its fields as text) of each entry."""
    command = [sys.executable, kernelshark_entries.__file__, path]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return [tuple(line.split("\t")) for line in ran.stdout.splitlines()]


def test_kernelshark_shows_every_event_of_an_exported_file(tmp_path):
    import_file(files.file("version_7", tmp_path), tmp_path / "run.insitu")
    exported = tmp_path / "exported.dat"
    with open_session(tmp_path / "run.insitu") as session:
        exported.write_bytes(b"".join(export_trace_dat(session, ExportOptions("run"))))
    found = _entries(exported)
    lines = files.report("events")
    expected = [(str(each.ts_ns), str(each.cpu), str(each.tid), each.event) for each in lines]
    assert sorted((*row[:3], row[3].partition("/")[2]) for row in found) == sorted(expected)
    # The fields' text is that of the file which was imported; kernel symbols are not exported.
    shown = {row[0]: row[4] for row in found}
    for ts, _, _, event, text in _entries(files.file("version_7", tmp_path)):
        if not event.startswith("kmem/"):
            assert shown[ts] == text
