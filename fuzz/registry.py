"""The fuzz targets by name. A target is added by a function in a module of fuzz/targets and an entry here."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple

from fuzz.bundle import from_directory

__all__ = ["CORPUS", "TARGETS", "Read", "Target"]

CORPUS: Final = Path(__file__).parent / "corpus"

Read = Callable[[bytes], object]
"""Gives one input to a parser. Raises what the parser raises."""


class Target(NamedTuple):
    """A parser of data from elsewhere.

    ``make`` is "module:function" below fuzz.targets, of a function that takes an empty directory of its own and
    returns what reads an input. ``text``: inputs are mostly of lines and words. ``corpus``: names of the
    directories of inputs to begin with (default: ``name``).
    """

    name: str
    make: str
    text: bool = False
    corpus: tuple[str, ...] = ()

    def reader(self, directory: Path) -> Read:
        """What reads an input; ``directory`` is for its files."""
        module, _, function = self.make.partition(":")
        read: Read = getattr(import_module(f"fuzz.targets.{module}"), function)(directory)
        return read

    def inputs(self) -> list[bytes]:
        """The inputs of the corpus, in the order of their names; a directory is one input."""
        found = []
        for name in self.corpus or (self.name,):
            found += [
                from_directory(path) if path.is_dir() else path.read_bytes()
                for path in sorted((CORPUS / name).iterdir())
            ]
        return found


TARGETS: Final = {
    target.name: target
    for target in (
        Target("elf", "elf_files:elf"),
        Target("usdt", "elf_files:usdt"),
        Target("eh_frame", "unwinding:call_frames"),
        Target("unwind", "unwinding:unwind"),
        Target("dwarf_expression", "unwinding:expression"),
        Target("dwarf_units", "dwarf:units"),
        Target("split_dwarf", "dwarf:split"),
        Target("dwarf_scopes", "dwarf:scopes"),
        Target("dwarf_prototypes", "dwarf:prototypes", corpus=("dwarf_scopes",)),
        Target("user_functions", "dwarf:user_functions", corpus=("elf",)),
        Target("dwarf_lines", "dwarf:lines", corpus=("elf",)),
        Target("dwarf_types", "dwarf:types", corpus=("elf",)),
        Target("symcache", "dwarf:symcache"),
        Target("demangle", "symbols:demangled", text=True),
        Target("jit_map", "symbols:jit_map", text=True),
        Target("kallsyms", "symbols:kallsyms", text=True),
        Target("btf", "symbols:btf"),
        Target("proc", "kernel_text:proc", text=True),
        Target("tracefs_format", "kernel_text:tracefs_format", text=True),
        Target("event_filter", "events:filters", text=True),
        Target("event_hist", "events:histograms", text=True),
        Target("perf_data", "recordings:imported"),
        Target("perf_directory", "recordings:perf_directory"),
        Target("perf_script", "recordings:imported", text=True),
        Target("folded", "recordings:imported", text=True),
        Target("memcheck", "recordings:imported", text=True),
        Target("stack_maps", "recordings:imported", text=True),
        Target("heap_core", "heaps:core"),
        Target("trace_dat", "recordings:imported"),
        Target("trace_pages", "traces:pages"),
        Target("ftrace_text", "recordings:imported", text=True),
        Target("session_raw", "sessions:opened"),
        Target("session_tables", "sessions:opened"),
        Target("session_types", "sessions:retyped"),
        Target("raw_records", "sessions:raw_records", corpus=("session_raw",)),
        Target("table_files", "sessions:table_files", corpus=("session_tables",)),
        Target("table_types", "sessions:retyped_files", corpus=("session_types",)),
        Target("probe_script", "probe:script", text=True),
        Target("probe_import", "probe:script_files", text=True),
        Target("program_cache", "probe:cache_entry"),
        Target("qemu_trace", "lab:trace", text=True),
        Target("guest_console", "lab:console", text=True),
        Target("guest_stream", "lab:stream"),
        Target("kernel_image", "lab:kernel_image"),
        Target("kdump", "lab:kdump"),
        Target("kernel_files", "lab:kernel_files", text=True),
        Target("guest_json", "lab:guest_json", text=True),
    )
}
