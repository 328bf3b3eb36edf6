"""Records a script's run and leaves it as bytes (`python capturing.py DIRECTORY SCRIPT COMMAND`), and reads those."""

import io
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from insitu.probe.compile import compile_script
from insitu.probe.options import Options
from insitu.probe.output.stream import TextOutput
from insitu.probe.providers.base import Context
from insitu.probe.runtime.capture import EVENTS, MAPS, STACKS
from insitu.probe.runtime.event_decode import Decoded, decode_events
from insitu.probe.runtime.map_records import decode_maps
from insitu.probe.runtime.stack_records import StackContents
from insitu.probe.source import Source
from insitu.record.run import Request, record
from insitu.record.sources.probe import ProbeSource

__all__ = ["capture", "decoded", "decoded_maps", "events_file"]

_LAYOUT = "layout.json"


def capture(directory: Path, text: str, command: str) -> None:
    """Run a script while a command runs; nothing is decoded."""
    source, context = Source(text), Context(runs_command=True)
    probe = ProbeSource(
        compile_script(source, Options(), context),
        source,
        context,
        lambda runtime: TextOutput(runtime.loaded, runtime.formatter(), io.BytesIO()),
    )
    record(Request(tuple(shlex.split(command))), [probe], directory / "run.insitu")


def _raw(directory: Path) -> Path:
    return directory / "run.insitu" / "raw" / ProbeSource.id


def events_file(directory: Path) -> Path:
    """Where the bytes of events are."""
    return _raw(directory) / EVENTS


def decoded(directory: Path) -> Decoded:
    """The events of a run, and what became of all bytes."""
    layout = json.loads((_raw(directory) / _LAYOUT).read_text())
    return decode_events(events_file(directory).read_bytes(), layout, stacks=_stacks(directory, layout))


def decoded_maps(directory: Path) -> dict[str, Any]:
    """The maps of a run."""
    layout = json.loads((_raw(directory) / _LAYOUT).read_text())
    return decode_maps((_raw(directory) / MAPS).read_bytes(), layout, stacks=_stacks(directory, layout))


def _stacks(directory: Path, layout: dict[str, Any]) -> StackContents | None:
    path = _raw(directory) / STACKS
    return StackContents(path.read_bytes(), layout["stack_maps"]) if path.exists() else None


if __name__ == "__main__":
    capture(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
