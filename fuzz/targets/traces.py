"""What ftrace and trace-cmd write: trace.dat, pages of the ring buffer, the text of tracefs."""

from pathlib import Path

import numpy as np

from fuzz.registry import CORPUS, Read
from fuzz.targets.isolation import without_files_here
from insitu.convert.addresses import Addresses
from insitu.convert.formats.registry import ImportOptions
from insitu.convert.formats.trace_dat import kinds_of
from insitu.convert.formats.trace_dat_file import open_trace_dat
from insitu.convert.open import load_stacks
from insitu.convert.trace_events import EventWriter
from insitu.convert.trace_pages import decode_pages, page_layout
from insitu.kernel import procfs
from insitu.session.manifest import Manifest
from insitu.session.writer import MemoryTables, SessionWriter

__all__ = ["pages", "trace"]


def trace(directory: Path) -> Read:
    """A trace.dat, or the text of a trace."""
    without_files_here()

    def read(data: bytes) -> None:
        path = directory / "input"
        path.write_bytes(data)
        for options in (ImportOptions(), ImportOptions(skip_bad_lines=True)):
            load_stacks(path, options=options)

    return read


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
