"""Compiled programs kept on disk, so that a second start imports no LLVM and reads no BTF.

An entry's key is all that the compiler looks at: the script, its parameters and options, the points that its probes
mean on this machine, the kernel's build and our version. Its file is named by a hash of that, and holds a checksum,
then the key and the content as ``marshal`` writes them; one that is damaged or not ours is made anew.
"""

# Every start comes here: pathlib, json and hashlib would take longer to import than all of this takes.
# ruff: noqa: PTH118, PTH120, PTH123

from __future__ import annotations

import contextlib
import marshal
import os
from importlib.util import source_hash as checksum  # 8 bytes
from typing import Any

from insitu.cache_home import cache_home
from insitu.dataclass import fields, is_dataclass, replace
from insitu.kernel import procfs
from insitu.kernel.bpf_map import possible_cpus
from insitu.kernel.namespaces import pid_namespace
from insitu.probe import types
from insitu.probe.layout import Layout, MapLayout, RecordLayout
from insitu.probe.options import Options
from insitu.probe.passes.attach import Clause
from insitu.probe.source import Source
from insitu.probe.types import Field, Space, Tuple, Type

__all__ = ["checksum", "entry_key", "entry_path", "load_entry", "store_entry"]

_FORMAT = 3
_CHECKSUM_BYTES = 8
_MAX_ENTRIES = 500


def entry_path(key: str) -> str:
    """The file of the entry with that key."""
    name = checksum(key.encode("utf-8", "surrogateescape")).hex()
    return os.path.join(cache_home(), "insitu", "programs", f"{name}.program")


def entry_key(source: Source, options: Options, clauses: list[Clause]) -> str:
    """What is compiled, and for what: a script here and now."""
    kernel = os.uname()
    parts = [
        str(_FORMAT),
        str(possible_cpus()),
        kernel.release,
        kernel.version,
        kernel.machine,
        source.name,
        source.text,
        repr(sorted(vars(options).items())),
        repr(pid_namespace()),
        *_places(source.text),
        (types_file := os.environ.get("BPFTRACE_BTF", "")),
        _stamp(types_file),
    ]
    for clause in clauses:
        parts.append(f"{clause.kind} {[(p.kind, p.name, p.function, p.offset, p.cookie) for p in clause.points]}")
        parts.append(repr(clause.arguments) if clause.arguments is not None else "")
        parts += [_stamp(binary) for binary in sorted({p.target for p in clause.points if p.in_binary})]
    parts.append(_compiler_stamp())
    return "\0".join(parts)


def _places(text: str) -> list[str]:
    """What a script's text leads to outside of it: numbers of control groups, where the kernel was loaded to."""
    found = []
    if "cgroupid" in text:
        import re

        found += [_stamp(path) for path in re.findall(r'cgroupid\s*\(\s*"([^"]*)"', text)]
    if "kaddr" in text or "skboutput" in text:
        found.append(procfs.boot_id())
    return found


def _stamp(path: str) -> str:
    """Changes when the file does: of a binary, what the compiler saw of its types."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return ""
    return f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns}"


def _compiler_stamp() -> str:
    """The newest change of the compiler's own files, which stands for our version."""
    root = os.path.dirname(__file__)
    newest = max(
        entry.stat().st_mtime_ns
        for folder in ("", "bpftrace", "codegen", "passes", "builtins", "providers", "providers/support")
        for entry in os.scandir(os.path.join(root, folder))
        if entry.name.endswith(".py")
    )
    return str(newest)


def load_entry(key: str) -> dict[str, Any] | None:
    """What store_entry() was given under that key, or None."""
    try:
        with open(entry_path(key), "rb") as file:
            # Code of somebody else's making is not for us to load: HOME may be another user's, as under sudo.
            if os.fstat(file.fileno()).st_uid != os.geteuid():
                return None
            data = file.read()
        # marshal takes what it has written, and may do anything with what it has not.
        if checksum(data[_CHECKSUM_BYTES:]) != data[:_CHECKSUM_BYTES]:
            return None
        kept, content = marshal.loads(memoryview(data)[_CHECKSUM_BYTES:])
        if kept != key:
            return None
        return {**content, "layout": _layout(content["layout"])}
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError):
        return None


def store_entry(key: str, programs: list[dict[str, Any]], layout: Layout, btf: bytes, print_maps: bool) -> None:
    """Keep a compiled script. A cache that cannot be written is no error, nor are types that contain themselves."""
    with contextlib.suppress(OSError, RecursionError, ValueError):
        content = {"programs": programs, "layout": _encoded(layout), "btf": btf, "print_maps": print_maps}
        data = marshal.dumps((key, content))
        path = entry_path(key)
        directory = os.path.dirname(path)
        os.makedirs(directory, mode=0o700, exist_ok=True)  # noqa: PTH103
        written = f"{path}.{os.getpid()}"
        with open(written, "wb") as file:
            file.write(checksum(data) + data)
        os.replace(written, path)  # noqa: PTH105
        _prune(directory)


def _prune(directory: str) -> None:
    """Drop the oldest entries above a bound."""
    entries = sorted(os.scandir(directory), key=lambda entry: entry.stat().st_mtime_ns)
    for entry in entries[:-_MAX_ENTRIES]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(entry)  # noqa: PTH108


def _encoded(value: Any) -> Any:
    if isinstance(value, Type):
        value = value.resolve()
        if isinstance(value, types.Pointer):
            # It is shown as a number; and what it leads to may lead back here.
            value = replace(value, target=types.VOID)
        content = {f.name: getattr(value, f.name) for f in fields(value)}
        if isinstance(value, types.Record):
            content["fields"] = list(value.fields().values())
        return [type(value).__name__, {name: _encoded(item) for name, item in content.items()}]
    if isinstance(value, Space):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _encoded(getattr(value, f.name)) for f in fields(value) if not f.name.startswith("_")}
    if isinstance(value, list | tuple):
        return [_encoded(element) for element in value]
    return value


def _type(value: Any) -> Type:
    name, content = value
    found = getattr(types, name)
    if not (isinstance(found, type) and issubclass(found, Type)):
        raise ValueError(name)
    decoded: dict[str, Any] = {}
    for key, item in content.items():
        if key in ("target", "element"):
            decoded[key] = _type(item)
        elif key == "elements":
            decoded[key] = tuple(map(_type, item))
        elif key == "space":
            decoded[key] = Space(item)
        elif key == "enumerators":
            decoded[key] = tuple((str(text), int(number)) for text, number in item)
        elif key == "names":
            decoded[key] = tuple(item) if item is not None else None
        elif key != "fields":
            decoded[key] = item
    if found is types.Record:
        members = {each["name"]: Field(**{**each, "type": _type(each["type"])}) for each in content["fields"]}
        decoded["fields"] = lambda: members
    made: Type = found(**decoded)
    return made


def _tuple(value: Any) -> Tuple:
    found = _type(value)
    assert isinstance(found, Tuple)
    return found


def _layout(content: dict[str, Any]) -> Layout:
    layout = Layout(content["max_keys"], content["ring_bytes"])
    for each in content["maps"]:
        key = _tuple(each["key"]) if each["key"] is not None else None
        value = _type(each["value"]) if each["value"] is not None else None
        layout.maps.append(MapLayout(**{**each, "key": key, "value": value}))
    for each in content["records"]:
        record = {**each, "fields": _tuple(each["fields"])}
        layout.records.append(
            RecordLayout(**{**record, "numbers": tuple(each["numbers"]), "names": tuple(each["names"])})
        )
    layout.texts = list(content["texts"])
    return layout
