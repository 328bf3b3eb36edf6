"""Compiled programs on disk, so that a second start imports no LLVM and reads no BTF.

An entry's key is everything that the result depends on: the script, its parameters and options, the points that its
probes expand to, the kernel's build and our version. Its file is named by a hash of the key, and holds a checksum
and an Entry in msgpack. Decoding is typed and executes nothing; a file that is damaged or of another shape is
ignored, and the script compiled again.
"""

# Every start comes here: pathlib, json and hashlib would take longer to import than all of this takes.
# ruff: noqa: PTH118, PTH120, PTH123

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import source_hash as checksum  # 8 bytes
from typing import TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from insitu.cache_home import own_cache
from insitu.kernel import procfs
from insitu.kernel.bpf_map import possible_cpus
from insitu.kernel.namespaces import pid_namespace
from insitu.probe.aggregations import Element
from insitu.probe.layout import Layout, MapLayout, RecordLayout
from insitu.probe.options import Options
from insitu.probe.outline import Outline
from insitu.probe.passes.attach import Clause
from insitu.probe.source import Source
from insitu.probe.types import VOID, Array, Field, Members, Pointer, Record, Tuple, Type

__all__ = [
    "Entry",
    "OutlineEntry",
    "StoredProgram",
    "checksum",
    "entry_key",
    "entry_path",
    "load_entry",
    "load_outline",
    "load_places",
    "outline_key",
    "outline_path",
    "places_key",
    "store_entry",
    "store_outline",
    "store_places",
]

_FORMAT = 7
_CHECKSUM_BYTES = 8
# Where the compiler's own files are.
_FOLDERS = ("", "bpftrace", "codegen", "passes", "passes/check", "builtins", "providers", "providers/support")
_MAX_ENTRIES = 1000  # two of a script
_MAX_DEPTH = 1000  # calls in each other: Python's own limit


class StoredProgram(Struct):
    """A compiled clause: those fields of compile.CompiledProgram that do not come from its attach points."""

    code: bytes
    lines: tuple[tuple[int, int, int], ...]
    functions: tuple[tuple[int, int], ...]
    line_info: bytes
    per_point: bool
    parts_map: int
    further: list[StoredProgram] = []


class Entry(Struct):
    """A compiled script. ``key`` is that of entry_key(), in the script's encoding."""

    key: bytes
    programs: list[StoredProgram]
    layout: Layout
    btf: bytes
    print_maps: bool


class OutlineEntry(Struct):
    """A script's outline. ``key`` is that of outline_key(), in the script's encoding."""

    key: bytes
    outline: Outline


class PlacesEntry(Struct):
    """File offsets of a binary's functions. ``key`` is that of places_key(), in the script's encoding."""

    key: bytes
    offsets: dict[str, int]


def entry_path(key: str) -> str | None:
    """The file of the entry with that key; None where the cache directory is not this user's."""
    return _path(key, "program")


def outline_path(key: str) -> str | None:
    """The file of the outline with that key, as entry_path()."""
    return _path(key, "outline")


def _path(key: str, ending: str) -> str | None:
    directory = own_cache("programs")
    return directory and os.path.join(directory, f"{checksum(_encoded_key(key)).hex()}.{ending}")


def outline_key(source: Source, options: Options) -> str:
    """Everything that a script's outline depends on. ``options`` have not taken over its config block yet."""
    return "\0".join([*_common(source, options), "outline", _compiler_stamp()])


def _common(source: Source, options: Options) -> list[str]:
    kernel = os.uname()
    return [
        str(_FORMAT),
        kernel.release,
        kernel.version,
        kernel.machine,
        source.name,
        source.text,
        repr(options),
    ]


def entry_key(source: Source, options: Options, clauses: list[Clause]) -> str:
    """Everything that the result of compiling a script depends on."""
    parts = [
        *_common(source, options),
        str(possible_cpus()),
        repr(pid_namespace()),
        *_environment(source.text),
        (types_file := os.environ.get("BPFTRACE_BTF", "")),
        _stamp(types_file),
    ]
    for clause in clauses:
        points = [(p.kind, p.name, p.function, p.offset, p.cookie) for p in clause.points]
        parts.append(f"{msgspec.msgpack.encode(clause.kind)!r} {points}")
        parts.append(clause.arguments_key)
        parts += [_stamp(binary) for binary in sorted({p.target for p in clause.points if p.in_binary})]
    parts.append(_compiler_stamp())
    return "\0".join(parts)


def _environment(text: str) -> list[str]:
    """What calls in a script depend on: ids of cgroups, the addresses of this boot."""
    found = []
    if "cgroupid" in text:
        import re

        found += [_stamp(path) for path in re.findall(r'cgroupid\s*\(\s*"([^"]*)"', text)]
    if "kaddr" in text or "skboutput" in text:
        found.append(procfs.boot_id())
    return found


def _stamp(path: str) -> str:
    """Identifies a version of a file, such as a binary whose types the compiler reads."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return ""
    return f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns}"


@cache
def _compiler_stamp() -> str:
    """The time of the newest change of the compiler's own files, as our version."""
    root = os.path.dirname(__file__)
    newest = max(
        entry.stat().st_mtime_ns
        for folder in _FOLDERS
        for entry in os.scandir(os.path.join(root, folder))
        if entry.name.endswith(".py")
    )
    return str(newest)


def places_key(identity: str, beginning: bytes) -> str:
    """What identifies a state of a binary: that of its file (file_identity()), and its first bytes."""
    return "\0".join([str(_FORMAT), "places", identity, beginning.hex(), _compiler_stamp()])


def load_entry(key: str) -> Entry | None:
    """The entry that was stored under that key, or None."""
    return _load(entry_path(key), key, Entry)


def load_outline(key: str) -> Outline | None:
    """The outline that was stored under that key, or None."""
    found = _load(outline_path(key), key, OutlineEntry)
    return found.outline if found is not None else None


def load_places(key: str) -> dict[str, int]:
    """What was stored under that key: file offsets by function."""
    found = _load(_path(key, "places"), key, PlacesEntry)
    return found.offsets if found is not None else {}


_Stored = TypeVar("_Stored", Entry, OutlineEntry, PlacesEntry)


def _load(path: str | None, key: str, kind: type[_Stored]) -> _Stored | None:
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            data = file.read()
        # A flipped bit in a program's code would still decode.
        if checksum(data[_CHECKSUM_BYTES:]) != data[:_CHECKSUM_BYTES]:
            return None
        with _shallow():
            entry = msgspec.msgpack.decode(data[_CHECKSUM_BYTES:], type=kind, dec_hook=_decoded)
        return entry if entry.key == _encoded_key(key) else None
    except (OSError, msgspec.MsgspecError, RecursionError, UnicodeError):
        return None


@contextlib.contextmanager
def _shallow() -> Iterator[None]:
    """The parser raises Python's recursion limit, to what decoding, which recurses in C, has no stack for."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(_MAX_DEPTH)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def store_entry(key: str, programs: list[StoredProgram], layout: Layout, btf: bytes, print_maps: bool) -> None:
    """Keep a compiled script. Nothing is kept where the cache cannot be written or types contain themselves."""
    with contextlib.suppress(RecursionError):
        _store(entry_path(key), Entry(_encoded_key(key), programs, _stored_layout(layout), btf, print_maps))


def store_outline(key: str, outline: Outline) -> None:
    """Keep a script's outline, where the cache can be written."""
    _store(outline_path(key), OutlineEntry(_encoded_key(key), outline))


def store_places(key: str, offsets: dict[str, int]) -> None:
    """Keep where functions of a binary are, where the cache can be written."""
    _store(_path(key, "places"), PlacesEntry(_encoded_key(key), offsets))


def _store(path: str | None, entry: Entry | OutlineEntry | PlacesEntry) -> None:
    from insitu.files import write_whole

    with contextlib.suppress(OSError, RecursionError, msgspec.MsgspecError, UnicodeError):
        data = msgspec.msgpack.encode(entry, enc_hook=_encoded)
        if path is not None:
            write_whole(path, checksum(data) + data)
            _prune(os.path.dirname(path))


def _prune(directory: str) -> None:
    """Drop the oldest entries above a bound."""
    entries = sorted(os.scandir(directory), key=lambda entry: entry.stat().st_mtime_ns)
    for entry in entries[:-_MAX_ENTRIES]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(entry)  # noqa: PTH108


def _encoded_key(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _encoded(value: object) -> object:
    """Of a record's members, which msgspec does not know: their list."""
    if isinstance(value, Members):
        return list(value.by_name().values())
    raise NotImplementedError


def _decoded(wanted: type, value: object) -> object:
    """The reverse of _encoded()."""
    if wanted is Members:
        members = {each.name: each for each in msgspec.convert(value, list[Field], dec_hook=_decoded)}
        return Members(lambda: members)
    raise NotImplementedError


# Types as they are stored: looked up, and without the targets of pointers, which may lead back to where they are


def _stored_layout(layout: Layout) -> Layout:
    maps: list[MapLayout] = [
        replace(
            each,
            key=_stored_tuple(each.key) if each.key is not None else None,
            value=_stored(each.value) if each.value is not None else None,
        )
        for each in layout.maps
    ]
    records: list[RecordLayout] = [replace(each, fields=_stored_tuple(each.fields)) for each in layout.records]
    return replace(layout, maps=maps, records=records)


def _stored_tuple(of: Tuple) -> Tuple:
    return replace(of, elements=tuple(map(_stored, of.elements)))


def _stored(of: Type) -> Type:
    of = of.resolve()
    if isinstance(of, Pointer):
        return replace(of, target=VOID)  # pointers are shown as numbers
    if isinstance(of, Array):
        return replace(of, element=_stored(of.element))
    if isinstance(of, Tuple):
        return _stored_tuple(of)
    if isinstance(of, Element):
        return replace(of, kind=_stored(of.kind))
    if isinstance(of, Record):
        members = {name: replace(each, type=_stored(each.type)) for name, each in of.fields().items()}
        return replace(of, members=Members(lambda: members))
    return of
