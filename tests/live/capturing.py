"""Records a script's run into a directory as bytes (`python capturing.py DIRECTORY SCRIPT COMMAND`), and reads it."""

import io
import json
import sys
from pathlib import Path
from typing import Any

from insitu.probe.compile import compile_script
from insitu.probe.options import Options
from insitu.probe.output.stream import TextOutput
from insitu.probe.providers.base import Context
from insitu.probe.runtime.capture import EVENTS, MAPS, STACKS, Capture
from insitu.probe.runtime.event_decode import Decoded, decode_events
from insitu.probe.runtime.map_records import decode_maps
from insitu.probe.runtime.run import Runtime
from insitu.probe.runtime.stack_records import StackContents
from insitu.probe.source import Source
from insitu.probe.target import Target

__all__ = ["capture", "decoded", "decoded_maps"]

_LAYOUT = "layout.json"


def capture(directory: Path, text: str, command: str) -> None:
    """Run a script while a command runs, its events and maps going to files."""
    source, context = Source(text), Context(runs_command=True)
    runtime = Runtime(compile_script(source, Options(), context), source, context, Target.child(command))
    files = Capture(runtime)
    try:
        (directory / _LAYOUT).write_text(json.dumps(files.layout()))
        files.start(directory)
        output = TextOutput(runtime.loaded, runtime.formatter(), io.BytesIO())
        runtime.handle_with(output)
        runtime.attach()
        runtime.drain_until_end(output, lambda: False, None, files.drained)
        runtime.finish(output)
        files.finish()
    finally:
        files.close()
        runtime.close()
        context.close()


def decoded(directory: Path) -> Decoded:
    """The events in a directory, and what became of all bytes."""
    layout = json.loads((directory / _LAYOUT).read_text())
    return decode_events((directory / EVENTS).read_bytes(), layout, stacks=_stacks(directory, layout))


def decoded_maps(directory: Path) -> dict[str, Any]:
    """The maps in a directory."""
    layout = json.loads((directory / _LAYOUT).read_text())
    return decode_maps((directory / MAPS).read_bytes(), layout, stacks=_stacks(directory, layout))


def _stacks(directory: Path, layout: dict[str, Any]) -> StackContents | None:
    path = directory / STACKS
    return StackContents(path.read_bytes(), layout["stack_maps"]) if path.exists() else None


if __name__ == "__main__":
    capture(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
