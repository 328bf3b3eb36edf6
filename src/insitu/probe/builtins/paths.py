"""path(): the path of a file, walked in the kernel's directory entries.

The kernel's own bpf_d_path() may be called from a few functions only; this walk works in every probe. Paths are those
that the process sees, from its root directory on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from insitu.probe import ast
from insitu.probe.builtins.registry import Builtin, function, operand
from insitu.probe.builtins.strings import address_of
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.integers import least
from insitu.probe.codegen.loops import counted
from insitu.probe.codegen.lowering import Remote
from insitu.probe.codegen.memory import load_field
from insitu.probe.passes.check.members import need_fields
from insitu.probe.types import Pointer, Record, Space, String, Type, Unknown

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check.checker import Checker

__all__ = ["BUILTINS"]

_MOST_STEPS = 64  # directories and mount points on the way to the root
_BYTES, _MOST_BYTES = 256, 1024  # of a path when no size is given, and when one is
_NAME_MASK = 255  # NAME_MAX: what a name may take of the buffer
_SUBJECTS = ("path", "file", "dentry")
_READ = (
    "path.mnt",
    "path.dentry",
    "dentry.d_parent",
    "dentry.d_name.len",
    "dentry.d_name.name",
    "dentry.d_hash.pprev",
    "dentry.d_sb",
    "super_block.s_type",
    "file_system_type.name",
    "file.f_path",
    "vfsmount.mnt_root",
    "mount.mnt",
    "mount.mnt_parent",
    "mount.mnt_mountpoint",
    "task_struct.fs",
    "fs_struct.root",
)
_DELETED = b" (deleted)"


def _subject(kind: Type | None) -> str:
    """Which of the structures that have a path a value is or points to; empty for none."""
    held = kind.target.resolve() if isinstance(kind, Pointer) else kind
    return held.name if isinstance(held, Record) and held.name in _SUBJECTS else ""


def _check_path(checker: Checker, call: ast.Call) -> Type:
    subject = checker.argument(call, 0)
    found = checker.known(subject)
    if not isinstance(found, Unknown) and not _subject(found):
        raise checker.error(f"path() takes a struct path, struct file * or struct dentry *, not {found}", subject)
    need_fields(checker, call, _READ)
    capacity = max(checker.options.max_strlen, _BYTES)
    if len(call.arguments) > 1:
        capacity = checker.literal(call.arguments[1], "the size of path()")
        if not 1 < capacity <= _MOST_BYTES:
            raise checker.error(f"the size of path() must be 2 to {_MOST_BYTES}", call.arguments[1])
    return String(capacity)


class _Walk:
    """The state of a walk: i64 slots on the stack, and the buffer that is filled from its end."""

    def __init__(self, low: Lowering, capacity: int) -> None:
        self.low, self.capacity = low, capacity
        self.mask = (1 << (capacity - 1).bit_length()) - 1
        # A name of any length may be written at any offset that the mask allows.
        self.text = low.temporary(self.mask + 1 + _NAME_MASK + 1)
        self.entry, self.mount, self.position, self.done = (low.permanent(8) for _ in range(4))

    def held(self, number: str) -> str:
        """A number within the buffer, so that the verifier sees it: it does not follow LLVM's reasoning."""
        emit = self.low.emit
        return emit.hidden(emit.op("and", emit.hidden(number), str(self.mask)))

    def prepend(self, address: str, length: str) -> None:
        """Prepend a name; only its end where the buffer is full."""
        emit = self.low.emit
        room = self.held(emit.load(self.position))
        taken = least(emit, length, room)
        skipped = emit.op("sub", length, taken)
        position = self.held(emit.op("sub", room, taken))
        size = emit.op("and", emit.hidden(taken), str(_NAME_MASK))
        name = emit.op("add", address, skipped)
        self.low.read(emit.offset(self.text, position), size, Remote(name, Space.KERNEL))
        emit.store(position, self.position)

    def slash(self) -> None:
        """Put a slash in front, if there is room."""
        emit = self.low.emit
        position = emit.load(self.position)
        there, full = emit.label(), emit.label()
        emit.branch_if(emit.truth(position), there, full)
        emit.block(there)
        before = self.held(emit.op("sub", position, "1"))
        emit.store(str(ord("/")), emit.offset(self.text, before), 1)
        emit.store(before, self.position)
        emit.block(full)


def _store_path(low: Lowering, call: ast.Call, pointer: str) -> None:
    assert isinstance(call.type, String)
    emit, capacity = low.emit, call.type.capacity
    with low.temporaries():
        walk = _Walk(low, capacity)
        entry, mount = _start(low, operand(call))
        emit.store(entry, walk.entry)
        emit.store(mount, walk.mount)
        emit.store("0", walk.done)
        end = capacity - 1
        emit.store("0", emit.offset(walk.text, end), 1)
        emit.store(str(end), walk.position)
        root = emit.op(
            "add", load_field(low, emit.call(Helper.GET_CURRENT_TASK), "task_struct.fs"), _at(low, "fs_struct.root")
        )
        root_entry, root_mount = load_field(low, root, "path.dentry"), load_field(low, root, "path.mnt")
        _mark_deleted(walk, entry)
        counted(low, _MOST_STEPS, lambda _: _step(walk, root_entry, root_mount))
        _finish(walk, root_entry, pointer, unnamed_at=end)


def _at(low: Lowering, path: str) -> str:
    return str(low.structures.kernel_field(path)[0])


def _start(low: Lowering, subject: ast.Expression) -> tuple[str, str]:
    """Directory entry and mount of what path() was given; without a mount, the path within its file system."""
    which = _subject(subject.type)
    if isinstance(subject.type, Pointer):
        address = low.value(subject)
    else:
        place = address_of(low, subject)
        address = place.address if isinstance(place, Remote) else low.emit.address(place.pointer)
    if which == "dentry":
        return address, "0"
    if which == "file":
        address = low.emit.op("add", address, _at(low, "file.f_path"))
    return load_field(low, address, "path.dentry"), load_field(low, address, "path.mnt")


def _mark_deleted(walk: _Walk, entry: str) -> None:
    """fs/d_path.c appends this for entries that are no longer hashed (include/linux/dcache.h: d_unlinked)."""
    low, emit = walk.low, walk.low.emit
    start = walk.capacity - 1 - len(_DELETED)
    if start <= 0:
        return
    hashed = emit.truth(load_field(low, entry, "dentry.d_hash.pprev"))
    own_parent = emit.value(f"icmp eq i64 {load_field(low, entry, 'dentry.d_parent')}, {entry}")
    deleted, end = emit.label(), emit.label()
    emit.branch_if(emit.value(f"or i1 {hashed}, {own_parent}"), end, deleted)
    emit.block(deleted)
    for index, byte in enumerate(_DELETED):
        emit.store(str(byte), emit.offset(walk.text, start + index), 1)
    emit.store(str(start), walk.position)
    emit.block(end)


def _step(walk: _Walk, root_entry: str, root_mount: str) -> None:
    """Prepend one name, or go from the root of a mount to its mount point."""
    low, emit = walk.low, walk.low.emit
    going, at_top, above, named, crossing, stop, end = (emit.label() for _ in range(7))
    full = emit.value(f"icmp eq i64 {emit.load(walk.position)}, 0")
    over = emit.value(f"or i1 {emit.truth(emit.load(walk.done))}, {full}")
    emit.branch_if(over, end, going)
    emit.block(going)
    entry, mount = emit.load(walk.entry), emit.load(walk.mount)
    same_entry = emit.value(f"icmp eq i64 {entry}, {root_entry}")
    same_mount = emit.value(f"icmp eq i64 {mount}, {root_mount}")
    emit.branch_if(emit.value(f"and i1 {same_entry}, {same_mount}"), stop, above)
    emit.block(above)
    parent = load_field(low, entry, "dentry.d_parent")
    is_mount_root = emit.value(f"icmp eq i64 {entry}, {load_field(low, mount, 'vfsmount.mnt_root')}")
    is_top = emit.value(f"icmp eq i64 {entry}, {parent}")
    emit.branch_if(emit.value(f"or i1 {is_mount_root}, {is_top}"), at_top, named)
    emit.block(named)
    length = emit.op("and", load_field(low, entry, "dentry.d_name.len"), str(_NAME_MASK))
    walk.prepend(load_field(low, entry, "dentry.d_name.name"), length)
    walk.slash()
    emit.store(parent, walk.entry)
    emit.branch(end)
    emit.block(at_top)
    # What is mounted is a part of the kernel's own structure of it.
    inner = int(_at(low, "mount.mnt"))
    holder = emit.op("sub", mount, str(inner))
    upper = load_field(low, holder, "mount.mnt_parent")
    unmounted = emit.value(f"icmp eq i64 {upper}, {holder}")
    nowhere = emit.value(f"icmp eq i64 {upper}, 0")
    emit.branch_if(emit.value(f"or i1 {unmounted}, {nowhere}"), stop, crossing)
    emit.block(crossing)
    emit.store(load_field(low, holder, "mount.mnt_mountpoint"), walk.entry)
    emit.store(emit.op("add", upper, str(inner)), walk.mount)
    emit.branch(end)
    emit.block(stop)
    emit.store("1", walk.done)
    emit.block(end)


def _finish(walk: _Walk, root_entry: str, pointer: str, *, unnamed_at: int) -> None:
    """Copy the path to where it is wanted. What has no name (a pipe, a socket) is called by its file system."""
    low, emit = walk.low, walk.low.emit
    unnamed, nameless, named, end = (emit.label() for _ in range(4))
    emit.branch_if(emit.value(f"icmp eq i64 {emit.load(walk.position)}, {unnamed_at}"), unnamed, named)
    emit.block(unnamed)
    entry = emit.load(walk.entry)
    system = load_field(low, load_field(low, entry, "dentry.d_sb"), "super_block.s_type")
    kind = load_field(low, system, "file_system_type.name")
    walk.slash()
    emit.branch_if(emit.value(f"icmp eq i64 {entry}, {root_entry}"), named, nameless)
    emit.block(nameless)
    low.read_string(pointer, walk.capacity, Remote(kind, Space.KERNEL), walk.capacity)
    emit.branch(end)
    emit.block(named)
    start = emit.offset(walk.text, walk.held(emit.load(walk.position)))
    low.read_string(pointer, walk.capacity, Remote(emit.address(start), Space.KERNEL), walk.capacity)
    emit.block(end)


BUILTINS: tuple[Builtin, ...] = (*function("path", (1, 2), _check_path, store=_store_path),)
