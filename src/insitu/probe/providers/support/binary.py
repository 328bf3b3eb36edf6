"""The binary that a user-space attach point names: finding and opening it, and attaching to locations in it."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from glob import escape, glob
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from insitu.capabilities import links
from insitu.errors import InsituError
from insitu.foreign_files import open_foreign, open_kernel_link
from insitu.kernel import bpf, perf_event, procfs
from insitu.kernel.bpf_abi import AttachType, ProgramType
from insitu.probe.providers.base import AbsentError, AttachPoint, AttachSpec, Context, ProgramKind
from insitu.probe.providers.support.archives import archived
from insitu.probe.providers.support.detach import Descriptors
from insitu.probe.providers.support.matching import has_wildcard
from insitu.probe.providers.support.perf_attachment import Event, attach_events

if TYPE_CHECKING:
    from insitu.symbols.elf import Elf

__all__ = [
    "Place",
    "attach_places",
    "binaries",
    "each_binary",
    "file_offset",
    "kernel_path",
    "open_binary",
    "place_of",
    "program_kind",
    "sharing",
]

_LIBRARY_DIRECTORIES = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
)
_RETURN = 1  # config of the uprobe PMU: /sys/bus/event_source/devices/uprobe/format/retprobe
_SEMAPHORE_SHIFT = 32  # .../format/ref_ctr_offset: bits 32-63


class Place(Struct, frozen=True):
    """A point's ``detail``: the path to open (through /proc/PID/root in another mount namespace) and a file offset.

    ``semaphore`` is the file offset of a USDT probe's counter (0: none), ``shared``: the program is for a link of
    many locations, ``operands`` is a USDT probe's argument string.
    """

    path: str
    offset: int
    semaphore: int = 0
    shared: bool = False
    operands: str = ""


def binaries(text: str, context: Context, spec: AttachSpec) -> list[str]:
    """The files that an attach point's path names, as the traced process sees them.

    A path, a program on PATH, a library's name (``libc`` or ``libc.so.6``), with ``*`` in it every file that
    matches or, with a pid, every file of which the process has mapped code.
    """
    if "\0" in text:
        raise InsituError(f"{spec}: a path cannot contain a zero byte")
    root = _root(context)
    if context.pid is not None and has_wildcard(text):
        try:
            mapped = {os.fsdecode(area.path) for area in procfs.areas(context.pid) if "x" in area.permissions}
        except OSError:
            raise InsituError(f"no process {context.pid}, or no permission to trace it") from None
        files = sorted(path for path in mapped if path.startswith("/") and _may_be_elf(path, root))
        return files if text == "*" else [path for path in files if Path(path).match(text)]
    if has_wildcard(text):
        # Only stars are special, as everywhere in attach points; pathlib's glob refuses some of what users write.
        pattern = "*".join(escape(piece) for piece in f"{root}{Path(text).absolute()}".split("*"))
        matching = [path.removeprefix(root) for path in sorted(glob(pattern))]  # noqa: PTH207
        return [path for path in matching if _may_be_elf(path, root)]
    if "/" in text:
        file, inner = archived(text)
        absolute = str(Path(file).absolute())
        _check_is_file(file, absolute, root)
        if inner and root:
            raise InsituError(f"{spec}: archives are only read in our own root directory")
        return [f"{absolute}!/{inner}" if inner else absolute]
    program = shutil.which(text) if not root else None
    found = os.path.realpath(program) if program and _may_be_elf(program, "") else _library(text, root)
    if not found:
        if program:
            raise AbsentError(f"{program}: not an ELF file")
        raise AbsentError(f"there is no program {text} on PATH and no library of that name")
    return [found]


def each_binary(
    text: str, context: Context, spec: AttachSpec, find: Callable[[str], list[AttachPoint]]
) -> list[AttachPoint]:
    """The points that ``find`` returns for each of the files that an attach point's path names.

    A file of a pattern that cannot be used (damaged, gone by now) is skipped with a warning, or silently where it
    does not have what is looked for (AbsentError).

    :raises InsituError: when none of the files can be used, as where the one that is named is damaged.
    """
    files = binaries(text, context, spec)
    found: list[AttachPoint] = []
    refused: list[tuple[str, InsituError]] = []
    for file in files:
        try:
            found += _points_in(file, context, find)
        except InsituError as error:
            refused.append((file, error))
    if refused and len(refused) == len(files):
        raise refused[0][1]
    for file, reason in refused:
        if not isinstance(reason, AbsentError):
            context.warn_once(f"{file} is skipped: {reason.message.removeprefix(f'{file}: ')}")
    return found


def _points_in(file: str, context: Context, find: Callable[[str], list[AttachPoint]]) -> list[AttachPoint]:
    absent = None
    try:
        found = find(file)
    except AbsentError as error:
        found, absent = [], error
    if not found and open_binary(file, context)[0].truncated:
        raise InsituError(f"{file}: truncated: its section headers are missing")
    if absent is not None:
        raise absent
    return found


def _root(context: Context) -> str:
    """What to put before the traced process's paths; nothing when it sees the files that we see."""
    if context.pid is None:
        return ""
    try:
        same = procfs.sees_our_files(context.pid)
    except OSError:
        raise InsituError(f"no process {context.pid}, or no permission to trace it") from None
    return "" if same else procfs.root(context.pid)


@cache  # of a program with many probes, all are in one or two
def _library(name: str, root: str) -> str | None:
    for directory in _LIBRARY_DIRECTORIES:
        here = Path(root + directory)
        if not name or not here.is_dir():
            continue
        for file in sorted(os.listdir(here)):  # noqa: PTH208 - there are thousands
            inner = f"{directory}/{file}"
            if (file in (name, f"{name}.so") or file.startswith(f"{name}.so.")) and _may_be_elf(inner, root):
                return inner
    return None


def _opened(path: str, root: str) -> int:
    return open_foreign(path, root=root) if root else open_kernel_link(path)


def _check_is_file(shown: str, path: str, root: str) -> None:
    """Raise AbsentError unless it is a regular file; one that may not be read is reported when it is opened."""
    try:
        os.close(_opened(path, root))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise AbsentError(f"there is no file {shown}") from None
        if error.errno not in (errno.EACCES, errno.EPERM):
            if error.errno == errno.EISDIR:
                remedy = f"{shown.rstrip('/')}/* names the files in it"
                raise AbsentError(f"{shown} is a directory", remedy=remedy) from None
            what = "not a regular file" if error.errno == errno.EINVAL else error.strerror
            raise AbsentError(f"{shown}: {what}") from None


def _may_be_elf(path: str, root: str) -> bool:
    """Whether it is an ELF file, or one that may not be read."""
    try:
        with os.fdopen(_opened(path, root), "rb") as file:
            return file.read(4) == b"\x7fELF"
    except (OSError, ValueError) as error:
        return isinstance(error, PermissionError)


def open_binary(path: str, context: Context) -> tuple[Elf, str]:
    """The file and the path under which the kernel finds it. :raises InsituError: when it is not an ELF file."""
    place = kernel_path(path, context)
    try:
        return context.elf(place), place
    except OSError as error:
        raise InsituError(f"cannot open {path}: {error.strerror}") from None


def kernel_path(path: str, context: Context) -> str:
    """The path under which the kernel finds a file that the traced process sees."""
    return _root(context) + path


def file_offset(elf: Elf, address: int) -> int | None:
    """The file offset of a virtual address; None when no segment contains it."""
    # Where places are known, neither is imported.
    import numpy as np

    from insitu.symbols.elf import NO_ADDRESS

    if not 0 <= address < 1 << 64:
        return None
    offset = int(elf.offsets_of(np.array([address], np.uint64))[0])
    return None if offset == NO_ADDRESS else offset


def place_of(point: AttachPoint) -> Place:
    """Where a point is that expand() found."""
    assert isinstance(point.detail, Place)
    return point.detail


def sharing(points: list[AttachPoint]) -> list[AttachPoint]:
    """The points, marked to share links where the kernel has links that serve many."""
    if not links.uprobe_multi().available:
        return points
    return [replace(point, detail=replace(place_of(point), shared=True)) for point in points]


def program_kind(point: AttachPoint) -> ProgramKind:
    """How to load a program for this point; a point that does not exist shares no link."""
    shared = isinstance(point.detail, Place) and point.detail.shared
    return ProgramKind(
        ProgramType.KPROBE,
        "pt_regs",
        attach_type=AttachType.TRACE_UPROBE_MULTI if shared else 0,
        shared=True,
        cookies=links.perf_links().available,
    )


def _seen_by_kernel(path: str, context: Context) -> str:
    """What leads the kernel to the file that was read: in another root it would follow absolute links in ours."""
    archive, inner = archived(path)
    if inner:
        return archive
    known = context.known_places.descriptor(path) if context.known_places is not None else None
    if known is not None:
        return path if procfs.split_root(path)[0] == "/" else f"/proc/self/fd/{known}"
    try:
        elf = context.elf(path)
    except OSError as error:
        raise InsituError(f"cannot attach to {path}: {error.strerror}") from None
    except InsituError:
        if context.unsafe:  # a file of machine code alone
            return path
        raise
    return path if elf.root == Path("/") else f"/proc/self/fd/{elf.descriptor}"


def attach_places(
    program_fd: int, points: Sequence[AttachPoint], context: Context, *, returning: bool = False
) -> Descriptors:
    """Attach to locations in binaries: one link per binary where points share links, else one event per point."""
    places = [(point, point.detail) for point in points if isinstance(point.detail, Place)]
    if places[0][1].shared:
        attachment = Descriptors()
        try:
            for path, group in itertools.groupby(places, key=lambda each: each[1].path):
                held = list(group)
                link = bpf.link_uprobe_multi(
                    program_fd,
                    _seen_by_kernel(path, context),
                    [context.begin_of(path) + place.offset for _, place in held],
                    [point.cookie for point, _ in held],
                    semaphores=[place.semaphore for _, place in held],
                    returning=returning,
                    pid=context.breakpoints_pid or 0,
                )
                attachment.links.append(link)
        except BaseException:
            attachment.close()
            raise
        return attachment
    pmu = procfs.pmu_type("uprobe")
    if pmu is None:
        raise InsituError(f"{points[0].name}: this kernel has no uprobes", remedy="needs CONFIG_UPROBE_EVENTS=y")
    events, paths_held = [], []
    for point, place in places:
        file = ctypes.create_string_buffer(os.fsencode(_seen_by_kernel(place.path, context)))
        paths_held.append(file)
        attr = perf_event.Attr(
            type=pmu,
            config=(_RETURN if returning else 0) | place.semaphore << _SEMAPHORE_SHIFT,
            config1=ctypes.addressof(file),
            config2=context.begin_of(place.path) + place.offset,
            disabled=1,
        )
        # The kernel plants the breakpoint in the process (or in all): which CPU is asked makes no difference.
        cpu = -1 if context.breakpoints_pid is not None else procfs.online_cpus()[0]
        events.append(Event(attr, context.breakpoints_pid or -1, cpu, point.cookie))
    return attach_events(program_fd, events)
