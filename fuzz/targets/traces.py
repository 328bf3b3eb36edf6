"""Pages of ftrace's ring buffer."""

from pathlib import Path

import numpy as np

from fuzz.registry import CORPUS, Read
from insitu.convert.addresses import Addresses
from insitu.convert.formats.trace_dat import kinds_of
from insitu.convert.formats.trace_dat_file import open_trace_dat
from insitu.convert.trace_events import EventWriter
from insitu.convert.trace_pages import decode_pages, page_layout
from insitu.kernel import procfs
from insitu.session.manifest import Manifest
from insitu.session.writer import MemoryTables, SessionWriter

__all__ = ["pages"]


def pages(directory: Path) -> Read:
    """Pages of events whose formats are those of the corpus of trace.dat."""
    found = open_trace_dat(CORPUS / "trace_dat/version_7")
    layout = page_layout(found.header_page, found.page_bytes)

    def read(data: bytes) -> None:
        whole = np.frombuffer(data + bytes(-len(data) % layout.page_bytes), np.uint8)
        records = decode_pages(whole, np.zeros(len(whole) // layout.page_bytes, np.int32), layout)
        writer = SessionWriter(MemoryTables(), Manifest.imported(procfs, "pages"))
        kinds = kinds_of(found, writer)
        addresses = Addresses(writer, [], kallsyms=b"")
        events = EventWriter(kinds, writer, addresses)
        events.add(records)
        events.finish(known_losses=False)

    return read
