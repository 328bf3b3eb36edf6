"""The raw records of perf's rings, a file for each CPU, and those synthesized from /proc."""

from insitu.convert.addresses import Addresses
from insitu.convert.formats.perf_records import EventAttr
from insitu.convert.perf import convert_samples
from insitu.convert.raw import RawRecording, Windows
from insitu.convert.sources import RawSource, raw_bytes
from insitu.errors import damaged_recording
from insitu.session.writer import SessionWriter

__all__ = ["convert_source", "recording_of"]


def recording_of(source: RawSource) -> RawRecording:
    """The records of a source of kind "perf".

    Its layout has "events": name, struct perf_event_attr in hexadecimal and ids of each; "samples" is false
    for a source of side-band records only. Raises InsituError when the layout is damaged.
    """
    try:
        attrs = [
            EventAttr.parse(bytes.fromhex(event["attr"]), event["name"], event["ids"])
            for event in source.layout["events"]
        ]
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError):
        raise damaged_recording(source.directory / "layout.json", "no event descriptions") from None
    streams = Windows.all_of([raw_bytes(file) for file in source.files])
    max_stack = source.layout.get("max_stack")
    return RawRecording(
        streams,
        attrs,
        source.manifest,
        source=source.id,
        max_stack=max_stack if isinstance(max_stack, int) and max_stack > 0 else 0,
    )


def convert_source(source: RawSource, writer: SessionWriter, addresses: Addresses) -> None:
    """Write the samples of one source of kind "perf"."""
    if source.layout.get("samples", True):
        convert_samples(source.recording, writer, addresses)
