"""The raw records of perf's rings, a file for each CPU, and those that the recorder made of /proc."""

from insitu.convert.formats.perf_records import EventAttr
from insitu.convert.perf import convert_perf
from insitu.convert.raw import RawRecording, Windows
from insitu.convert.sources import RawSource, mapped
from insitu.errors import InsituError
from insitu.session.writer import SessionWriter

__all__ = ["convert_source"]


def convert_source(source: RawSource, writer: SessionWriter) -> None:
    """Convert one source of kind "perf".

    Its layout has "events": name, struct perf_event_attr in hexadecimal and ids of each. A file ``kallsyms`` beside
    the streams is the recorded kernel's. Raises InsituError when the layout is damaged.
    """
    try:
        attrs = [
            EventAttr.parse(bytes.fromhex(event["attr"]), event["name"], event["ids"])
            for event in source.layout["events"]
        ]
    except (KeyError, TypeError, ValueError):
        raise InsituError(f"{source.directory}: layout.json is damaged: no description of its events") from None
    kallsyms = source.directory / "kallsyms"
    recording = RawRecording(
        [Windows.of(mapped(file)) for file in source.files],
        attrs,
        source.manifest,
        live=source.manifest.live and not kallsyms.exists(),
        source=source.id,
        max_stack=_count(source.layout.get("max_stack")),
        kallsyms=kallsyms.read_bytes() if kallsyms.exists() else None,
    )
    convert_perf(recording, writer)


def _count(found: object) -> int:
    return found if isinstance(found, int) and found > 0 else 0
