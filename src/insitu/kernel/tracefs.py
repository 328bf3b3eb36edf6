"""tracefs: events, their formats, traceable functions. Unless it is mounted, this process mounts it for itself."""

from __future__ import annotations

import ctypes
import errno
import os
import re
from functools import cache

from msgspec import Struct

from insitu.errors import InsituError
from insitu.files import write_all
from insitu.kernel.syscalls import syscall

__all__ = ["EventFormat", "Field", "Tracefs", "event_directory", "parse_format"]

_PLACES = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_FSOPEN_CLOEXEC, _FSMOUNT_CLOEXEC, _FSCONFIG_CMD_CREATE = 1, 1, 6  # include/uapi/linux/mount.h
_MAX_FILE_BYTES = 64 << 20
_MOST_LINE = 1000  # of a format file, a field's declaration
_READ_BYTES = 1 << 16  # a buffer for the largest file at once would be mapped and cleared for each


class Field(Struct, frozen=True):
    """One field of an event's record, as its format file declares it.

    ``declaration`` is the C type without name and array; ``count`` its elements (None: not an array; 0: as many
    as the record says). ``size`` is the bytes in the record, all elements. ``location`` is "data" or "relative"
    when those bytes only say where the contents are (__data_loc, __rel_loc).
    """

    name: str
    declaration: str
    offset: int
    size: int
    signed: bool
    count: int | None = None
    location: str = ""


class EventFormat(Struct, frozen=True):
    """An event's number (perf's ``config``), its own fields and what its records begin with (``common``)."""

    name: str
    id: int
    common: tuple[Field, ...]
    fields: tuple[Field, ...]
    print_format: str


_FIELD = re.compile(
    r"\s*field:(?P<declaration>.+?)\s*(?P<name>\w+)\s*(?P<array>\[[^\];]*\])?;\s*"
    r"offset:(?P<offset>\d{1,7});\s*size:(?P<size>\d{1,7});\s*signed:(?P<signed>\d);"
)
_LOCATION = re.compile(r"__(data|rel)_loc\s+")
_WIDTHS = dict.fromkeys(("char", "unsigned char", "signed char"), 1)
_WIDTHS |= {
    text: bits // 8
    for bits in (8, 16, 32, 64)
    for text in (f"u{bits}", f"s{bits}", f"__u{bits}", f"__s{bits}", f"uint{bits}_t", f"int{bits}_t")
}


def parse_format(text: str, name: str) -> EventFormat:
    """Read a format file (Documentation/trace/events.rst). :raises InsituError: when it is not one."""
    number = re.search(r"^ID:[ \t]*(\d{1,9})$", text, re.MULTILINE)
    if not number:
        raise InsituError(f"tracepoint {name}: its format file has no ID")
    found = []
    for line in text.splitlines():
        if line.lstrip().startswith("field:"):
            field = _field(line)
            if field is None:
                raise InsituError(f"tracepoint {name}: cannot read the line {line.strip()[:80]!r} of its format file")
            found.append(field)
    _, _, shown = text.partition("print fmt:")
    return EventFormat(
        name=name,
        id=int(number[1]),
        common=tuple(field for field in found if field.name.startswith("common_")),
        fields=tuple(field for field in found if not field.name.startswith("common_")),
        print_format=shown.strip(),
    )


@cache
def _field(line: str) -> Field | None:
    """A field by its line, which many events share."""
    match = _FIELD.match(line) if len(line) <= _MOST_LINE else None
    if not match:
        return None
    declaration, size = match["declaration"].strip(), int(match["size"])
    count, location = None, ""
    if place := _LOCATION.match(declaration):
        location = "data" if place[1] == "data" else "relative"
        declaration = declaration[place.end() :].removesuffix("[]").strip()
        count = 0
    elif match["array"]:
        length = match["array"][1:-1].strip()
        # A length may be a C constant that only the kernel's sources know, and is missing in dynamic events.
        is_number = length.isdecimal() and len(length) < 8
        count = int(length) if is_number else size // _WIDTHS[declaration] if declaration in _WIDTHS else 0
    return Field(match["name"], declaration, int(match["offset"]), size, match["signed"] == "1", count, location)


def event_directory(name: str) -> str:
    """Where tracefs, and each instance, has the files of an event "category:name"."""
    return f"events/{name.replace(':', '/', 1)}"


class Tracefs:
    """A directory descriptor of tracefs; every path is relative to it."""

    def __init__(self, directory: int, mounted_at: str = "") -> None:
        """``mounted_at`` is empty for a private mount."""
        self._directory = directory
        self.mounted_at = mounted_at

    @classmethod
    def open(cls) -> Tracefs:
        """Open it where it is mounted, else by a mount that is attached nowhere and ends with its descriptor.

        :raises InsituError: without the permission, or when the kernel has no tracing.
        """
        for place in _PLACES:
            try:
                if os.path.isdir(f"{place}/events"):  # noqa: PTH112 - pathlib alone would be a tenth of a start
                    return cls(os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), place)
            except OSError as error:
                raise _unavailable(error) from None
        name = ctypes.create_string_buffer(b"tracefs")
        try:
            context = syscall("fsopen", ctypes.addressof(name), _FSOPEN_CLOEXEC)
            try:
                syscall("fsconfig", context, _FSCONFIG_CMD_CREATE, 0, 0, 0)
                return cls(syscall("fsmount", context, _FSMOUNT_CLOEXEC, 0))
            finally:
                os.close(context)
        except OSError as error:
            raise _unavailable(error) from None

    def close(self) -> None:
        """Give the descriptor back; an own mount ends."""
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    def read(self, path: str) -> str:
        """A file's text. :raises OSError:"""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)
        found: list[bytes] = []
        left = _MAX_FILE_BYTES
        try:
            while left > 0 and (piece := os.read(descriptor, min(left, _READ_BYTES))):
                found.append(piece)
                left -= len(piece)
        finally:
            os.close(descriptor)
        return b"".join(found).decode(errors="replace")

    def write(self, path: str, text: str) -> None:
        """Write as ``echo text > path`` does. :raises OSError:"""
        self._put(path, text, os.O_WRONLY | os.O_TRUNC)

    def append(self, path: str, text: str) -> None:
        """Write as ``echo text >> path`` does. :raises OSError:"""
        self._put(path, text, os.O_WRONLY | os.O_APPEND)

    def _put(self, path: str, text: str, flags: int) -> None:
        descriptor = self.open_file(path, flags)
        try:
            write_all(descriptor, text.encode())  # some files take a word at a time
        finally:
            os.close(descriptor)

    def open_file(self, path: str, flags: int) -> int:
        """A descriptor of a file, closed on exec. :raises OSError:"""
        return os.open(path, flags | os.O_CLOEXEC, dir_fd=self._directory)

    def names(self, path: str) -> list[str]:
        """The names in a directory, sorted. :raises OSError:"""
        descriptor = self.open_file(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return sorted(os.listdir(descriptor))  # noqa: PTH208 - pathlib takes no descriptor
        finally:
            os.close(descriptor)

    def make_directory(self, path: str) -> None:
        """Make a directory: in instances/, a buffer of one's own. :raises OSError:"""
        os.mkdir(path, dir_fd=self._directory)

    def remove_directory(self, path: str) -> None:
        """Remove it. :raises OSError: EBUSY while somebody reads from it."""
        os.rmdir(path, dir_fd=self._directory)

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        try:
            os.stat(path, dir_fd=self._directory)
        except OSError:
            return False
        return True

    def tracers(self) -> list[str]:
        """ftrace's tracers that this kernel has, such as "function_graph". :raises InsituError:"""
        return " ".join(self._lines("available_tracers")).split()

    def events(self) -> list[str]:
        """Every event as "category:name", sorted."""
        return sorted(self._lines("available_events"))

    def event(self, category: str, name: str) -> EventFormat:
        """The format of one event. :raises InsituError: when there is no such event."""
        if "/" in category or "/" in name:
            raise InsituError(f"there is no tracepoint {category}:{name}")
        try:
            text = self.read(f"events/{category}/{name}/format")
        except FileNotFoundError:
            raise InsituError(f"there is no tracepoint {category}:{name}") from None
        except OSError as error:
            raise _unavailable(error) from None
        return parse_format(text, f"{category}:{name}")

    def functions(self) -> list[tuple[str, str]]:
        """Kernel functions that can be traced, with their module ("" for the kernel's own); empty without ftrace."""
        try:
            lines = self._lines("available_filter_functions")
        except InsituError:
            return []
        found = []
        for line in lines:
            function, _, module = line.partition(" ")
            found.append((function, module.strip("[]")))
        return found

    def _lines(self, path: str) -> list[str]:
        try:
            return self.read(path).split("\n")[:-1]
        except OSError as error:
            raise _unavailable(error) from None


def _unavailable(error: OSError) -> InsituError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return InsituError(
            "cannot open the tracing file system: permission denied",
            remedy="needs root, access to tracefs, or CAP_DAC_READ_SEARCH; to change settings CAP_DAC_OVERRIDE",
        )
    if error.errno == errno.ENODEV:
        return InsituError("this kernel has no tracing file system", remedy="CONFIG_TRACING=y has it")
    return InsituError(f"cannot read the tracing file system: {os.strerror(error.errno or 0)}")
