"""What a recording of wall time lost is in its report."""

import io
import json
from pathlib import Path

import insitu
from insitu.kernel import procfs
from insitu.session.directory import create
from insitu.session.manifest import Manifest
from insitu.session.special_tables import WALL
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import Frame
from insitu.views.terminal import Screen
from insitu.views.why import why_json, why_lines


def _recording(path: Path, lost: int) -> Path:
    """A thread that slept for a second."""
    create(path, Manifest.here(procfs, command=["./prog"], start_ns=1_000_000_000), procfs)
    with SessionWriter.on_disk(path) as writer:
        utid = writer.processes.thread(5, writer.processes.process(5), name="prog")
        row = {"utid": [utid], "state": ["blocked"], "cause": ["sleep"], "call": ["nanosleep"], "object": [""]}
        row |= {"dur_ns": [1_000_000_000], "count": [1], "stack": [writer.intern_stack([Frame("main", "/bin/prog")])]}
        writer.append(WALL, row)
        writer.lost("updates", lost)
        writer.finish(end_ns=2_000_000_000)
    return path


def _report(path: Path) -> list[str]:
    text = io.StringIO()
    with insitu.open(path) as session:
        screen = Screen.of(text)
        screen.write(why_lines(session, screen))
    return text.getvalue().splitlines()


def test_losses_are_said_below_the_headline_and_in_the_json(tmp_path: Path) -> None:
    path = _recording(tmp_path / "x.insitu", 7)
    assert _report(path)[1] == "LOST 7 records (updates: 7); percentages are of what was kept"
    with insitu.open(path) as session:
        assert json.loads(why_json(session))["lost"] == {"updates": 7}


def test_without_losses_there_is_no_such_line(tmp_path: Path) -> None:
    assert "LOST" not in "\n".join(_report(_recording(tmp_path / "x.insitu", 0)))
