"""The raw records of perf's rings, a file for each CPU, and those synthesized from /proc."""

from collections.abc import Mapping
from mmap import PAGESIZE
from typing import Final

from insitu.convert.addresses import Addresses
from insitu.convert.formats.perf_records import EventAttr
from insitu.convert.perf import convert_samples
from insitu.convert.raw import RawRecording, Windows
from insitu.convert.sources import RawSource, raw_bytes
from insitu.errors import damaged_recording
from insitu.kernel.perf_ring import pages_for
from insitu.session.core_tables import SAMPLE
from insitu.session.manifest import Manifest
from insitu.session.writer import SessionWriter

__all__ = ["RING_TOO_SMALL", "convert_source", "recording_of", "too_small_ring"]

RING_TOO_SMALL: Final = "ring buffer too small: "
"""The beginning of a note."""

_LARGE_SHARE: Final = 0.1


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


def too_small_ring(manifest: Manifest, source: str, writer: SessionWriter) -> str:
    """The note about a ring in which a large share of the samples had no room; "" where they had."""
    found = next((each.get("options") for each in manifest.sources if each.get("id") == source), None)
    options = found if isinstance(found, Mapping) else {}
    ring_bytes = options.get("ring_bytes")
    lost = writer.losses_by_source().get("ring buffer", 0)
    every = writer.rows(SAMPLE) + lost
    if not lost or not isinstance(ring_bytes, int) or ring_bytes <= 0 or lost < _LARGE_SHARE * every:
        return ""
    stack_bytes = options.get("stack_bytes")
    pages = max(4 * ring_bytes // PAGESIZE, pages_for(stack_bytes if isinstance(stack_bytes, int) else 0))
    return (
        f"{RING_TOO_SMALL}{100 * lost / every:.0f}% of the samples were lost; profile -m {pages} makes one of "
        f"{pages * PAGESIZE >> 10} KiB for each CPU (now {ring_bytes >> 10} KiB)"
    )
