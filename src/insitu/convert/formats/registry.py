"""Registry of importers and exporters, an entry for each format; its module is imported when used.

A format is added by a module with a reader (or writer) and an entry here. Nothing else names formats.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from insitu.convert.formats.source_file import opened
from insitu.errors import InsituError

if TYPE_CHECKING:
    from insitu.session.reader import Session
    from insitu.session.weighted_stacks import Value, WeightedStacks
    from insitu.session.writer import SessionWriter

__all__ = [
    "EXPORTERS",
    "IMPORTERS",
    "ExportOptions",
    "Exporter",
    "ImportOptions",
    "Importer",
    "exporter_of",
    "importer_of",
    "is_perf_directory",
    "require_tables",
]

HEAD_BYTES: Final = 1 << 16  # of a file, by which its format is recognised


class ImportOptions(NamedTuple):
    """Options for what a file leaves open.

    ``as_perf``: return addresses are resolved unadjusted, like perf script (perf.data). ``comm_first``: whether the
    first frame of each stack is the command's name; None decides by the file (see read_folded). ``column``: which of
    two counts a line is read for. ``skip_bad_lines``: leave out lines that cannot be read instead of stopping.
    ``symfs``: a directory with the binaries of the machine that a perf.data is of. ``host``: the trace.dat of the
    host of a guest whose trace.dat is read, for its clock. ``guests``: those of guests of the host whose is read.
    """

    as_perf: bool = False
    comm_first: bool | None = None
    column: Literal["before", "after"] | None = None
    skip_bad_lines: bool = False
    symfs: Path | None = None
    host: Path | None = None
    guests: tuple[Path, ...] = ()


class ExportOptions(NamedTuple):
    """``title`` for formats that have one; ``value``: what to add up, where a format holds one number per stack."""

    title: str
    value: "Value | None" = None


class Importer(NamedTuple):
    """A format that can be read.

    ``sniff`` and ``reader`` are "module:function". The first decides by a file's first bytes (64 KiB); the second
    takes (path, SessionWriter, ImportOptions) and fills the writer.
    """

    name: str
    title: str
    sniff: str
    reader: str
    beyond_stacks: bool = False
    """Whether its tables are more than stacks, so that views read it as a session."""

    def recognises(self, head: bytes) -> bool:
        """Whether a file that begins with ``head`` is of this format."""
        return bool(_function(self.sniff)(head))

    def read(self, path: Path, writer: "SessionWriter", options: ImportOptions) -> None:
        """Read a file of this format. Raises InsituError when it is damaged."""
        _function(self.reader)(path, writer, options)


class Exporter(NamedTuple):
    """A format that can be written.

    ``suffixes`` of file names that choose it; ``tables`` that a session must have. ``writer`` is
    "module:function" of a function (WeightedStacks, ExportOptions) that returns the file's bytes.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    tables: tuple[str, ...]
    writer: str
    binary: bool = False
    times: bool = False
    """Whether the writer needs each row with its time, rather than sums by stack and thread."""
    whole: bool = False
    """Whether it writes a whole session: the writer takes a Session and yields the file's bytes in pieces."""

    def write(self, stacks: "WeightedStacks", options: ExportOptions) -> bytes:
        """The file of the weighted stacks of one table, or event."""
        data: bytes = _function(self.writer)(stacks, options)
        return data

    def write_session(self, session: "Session", options: ExportOptions) -> Iterator[bytes]:
        """The file of a session, in pieces, for a format of whole sessions."""
        pieces: Iterator[bytes] = _function(self.writer)(session, options)
        return pieces


def _function(reference: str) -> Callable[..., Any]:
    module, _, name = reference.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


_FORMATS: Final = "insitu.convert.formats"

# Tried in this order: the last takes any text.
IMPORTERS: Final = (
    Importer(
        "perf.data",
        "file of perf record: plain, from a pipe (-o -), compressed (-z), directory (--threads)",
        f"{_FORMATS}.perf_data:is_perf_data",
        f"{_FORMATS}.perf_data:import_perf_data",
    ),
    Importer(
        "trace.dat",
        "file of trace-cmd record, version 6 or 7, compressed or not",
        f"{_FORMATS}.trace_dat_sections:is_trace_dat",
        f"{_FORMATS}.trace_dat:import_trace_dat",
        beyond_stacks=True,
    ),
    Importer(
        "memcheck",
        "valgrind --xml=yes --xml-file=FILE: leaks and errors with their stacks",
        f"{_FORMATS}.memcheck:is_memcheck",
        f"{_FORMATS}.memcheck:import_memcheck",
        beyond_stacks=True,
    ),
    Importer(
        "ftrace text",
        "text of tracefs's trace and trace_pipe, or of trace-cmd report: events, functions, function graphs",
        f"{_FORMATS}.ftrace_text:is_ftrace_text",
        f"{_FORMATS}.ftrace_text:import_ftrace_text",
        beyond_stacks=True,
    ),
    Importer(
        "perf script",
        "text that perf script prints, with any fields (-F)",
        f"{_FORMATS}.perf_script:is_perf_script",
        f"{_FORMATS}.perf_script:import_perf_script",
    ),
    Importer(
        "bpftrace",
        "output of bpftrace or insitu trace: maps whose keys have stacks",
        f"{_FORMATS}.stack_maps:is_bpftrace",
        f"{_FORMATS}.stack_maps:import_bpftrace",
    ),
    Importer(
        "dtrace",
        "output of DTrace: aggregations of stack() or ustack()",
        f"{_FORMATS}.stack_maps:is_dtrace",
        f"{_FORMATS}.stack_maps:import_dtrace",
    ),
    Importer(
        "folded",
        "folded stacks: stackcollapse-*.pl, insitu report --folded; with two counts: difffolded.pl",
        f"{_FORMATS}.folded_reader:is_text",
        f"{_FORMATS}.folded_reader:import_folded",
    ),
)
_PERF_DATA: Final = IMPORTERS[0]

_STACKS: Final = ("stack", "frame")

EXPORTERS: Final = (
    Exporter(
        "folded",
        "a line per stack, for flamegraph.pl and speedscope",
        (".folded", ".txt"),
        _STACKS,
        f"{_FORMATS}.folded:export_folded",
    ),
    Exporter(
        "speedscope",
        "JSON for speedscope.app",
        (".json",),
        _STACKS,
        f"{_FORMATS}.speedscope:export_speedscope",
        times=True,
    ),
    Exporter(
        "pprof",
        "gzip-compressed protobuf for pprof",
        (".pb.gz", ".pb", ".pprof"),
        _STACKS,
        f"{_FORMATS}.pprof:export_pprof",
        binary=True,
    ),
    Exporter(
        "perfetto",
        "protobuf for ui.perfetto.dev and trace_processor",
        (".pftrace", ".perfetto-trace", ".perfetto"),
        (),
        f"{_FORMATS}.perfetto:export_perfetto",
        binary=True,
        whole=True,
    ),
    Exporter(
        "trace.dat",
        "the kernel's trace events, for trace-cmd and KernelShark",
        (".dat",),
        (),
        f"{_FORMATS}.trace_dat_writer:export_trace_dat",
        binary=True,
        whole=True,
    ),
    Exporter(
        "chrome",
        "JSON for chrome://tracing, ui.perfetto.dev and speedscope",
        (".trace.json", ".chrome.json"),
        (),
        f"{_FORMATS}.chrome:export_chrome",
        whole=True,
    ),
)


def importer_of(path: Path) -> Importer:
    """The importer of a file, or of the directory that perf record --threads makes.

    Raises InsituError when there is none.
    """
    if path.is_dir():
        return _PERF_DATA
    head = _head(path)
    for importer in IMPORTERS:
        if importer.recognises(head):
            return importer
    what = (
        "neither a session, perf.data, trace.dat, valgrind's XML nor text of ftrace or of stacks"
        if head
        else "empty file"
    )
    raise InsituError(f"{path}: {what}", remedy="insitu import --help lists what can be read")


def is_perf_directory(path: Path) -> bool:
    """Whether ``path`` is a directory as perf record --threads makes it."""
    return (path / "data").is_file() and _PERF_DATA.recognises(_head(path / "data"))


def _head(path: Path) -> bytes:
    with opened(path) as file:
        return file.read(HEAD_BYTES)


def exporter_of(exporters: Iterable[Exporter], *, name: str | None, output: str | None) -> Exporter:
    """The exporter called ``name``, else the one that the name of the file ``output`` chooses.

    Raises InsituError when neither says which.
    """
    exporters = tuple(exporters)
    if name is None and output is not None:
        fitting = {each: exporter for exporter in exporters for each in exporter.suffixes if output.endswith(each)}
        if fitting:
            return fitting[max(fitting, key=len)]
    for exporter in exporters:
        if exporter.name == name:
            return exporter
    names = ", ".join(exporter.name for exporter in exporters)
    what = "no output format" if output is None else f"{output}: no format has this suffix"
    raise InsituError(what, remedy=f"give --format {names}", status=2)


def require_tables(exporter: Exporter, path: Path, have: Collection[str]) -> None:
    """Raise InsituError, naming what is missing, if a session lacks a table that a format needs."""
    missing = [table for table in exporter.tables if table not in have]
    if missing:
        raise InsituError(
            f"{path}: {exporter.name} needs the tables {', '.join(exporter.tables)}; missing: {', '.join(missing)}",
            remedy=f"it has: {', '.join(sorted(have)) or 'none'}; insitu sql --format csv writes any table",
        )
