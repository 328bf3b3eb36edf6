"""Every format of insitu export on sessions of every kind: the file has what was recorded, or there is no file."""

import gzip
from pathlib import Path

import pytest

from insitu.cli import main
from insitu.commands.export import _exporters
from insitu.kernel import procfs
from insitu.session.core_tables import SAMPLE
from insitu.session.directory import create
from insitu.session.manifest import Manifest
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import Frame

from .sessions import empty_session, script_session, switches_session, traced_session, waits_session

_FORMATS = [exporter.name for exporter in _exporters()]
_STACKS = {"folded", "speedscope", "pprof", "dot"}


def _samples(path: Path) -> Path:
    create(path, Manifest.here(procfs), procfs)
    with SessionWriter.on_disk(path) as writer:
        utid = writer.processes.thread(7, writer.processes.process(7), name="cat")
        kind = writer.event_type("cpu-clock", "ns")
        stack = writer.intern_stack([Frame("busy_function", "/bin/prog")])
        row = {"ts_ns": [1_000], "utid": [utid], "event_type": [kind], "stack": [stack], "weight": [10_000_000]}
        writer.append(SAMPLE, row)
        writer.finish(end_ns=2_000)
    return path


# Kind of session -> how it is made, what stands in a file of it, and the formats that have a place for that.
_SESSIONS = {
    "samples": (_samples, "busy_function", _STACKS | {"perfetto"}),
    "spans": (lambda path: traced_session(path, [(5, 10, "disk", "a_span", 0)]), "a_span", {"perfetto", "chrome"}),
    "counter": (lambda path: traced_session(path, [], [(5, 9)]), "free memory", {"perfetto", "chrome"}),
    "scheduler's events": (switches_session, "", {"perfetto", "chrome"}),
    "events without CPU, with stacks": (waits_session, "read_file", _STACKS),
    "events without CPU and stacks": (script_session, "", set()),
    "no samples": (empty_session, "", set()),
}


@pytest.mark.parametrize("form", _FORMATS)
@pytest.mark.parametrize("kind", _SESSIONS)
def test_an_export_has_what_was_recorded_or_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, form: str
) -> None:
    make, text, formats = _SESSIONS[kind]
    output = tmp_path / "out"
    status = main(["export", str(make(tmp_path / "run.insitu")), "--format", form, "-o", str(output)])
    said = capsys.readouterr().err
    if form in formats:
        assert (status, said) == (0, "")
        data = output.read_bytes()
        assert text.encode() in (gzip.decompress(data) if form == "pprof" else data)
    else:
        lines = [line for line in said.splitlines() if not line.startswith("insitu: warning: ")]
        assert status == 1 and len(lines) == 1, said
        assert not output.exists()


def test_the_refusal_names_what_the_format_holds_and_what_writes_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(_samples(tmp_path / "run.insitu")), "-o", str(tmp_path / "x.trace.json")]) == 1
    said = capsys.readouterr().err
    assert "chrome holds spans, counters and events" in said and "speedscope" in said
