"""Files: what stat and its like return, directories, attributes, handles."""

from __future__ import annotations

import stat as mode_bits
from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.call import Call
from insitu.syscalls.capture import Bytes
from insitu.syscalls.kinds.layout import Struct, hex_or_0
from insitu.syscalls.kinds.numbers import descriptor, directory, enum_text, flags_text, octal
from insitu.syscalls.kinds.strings import buffer, quoted
from insitu.syscalls.kinds.structures import structure
from insitu.syscalls.kinds.time import commented, date_text

__all__ = ["KINDS", "device_text", "mode_text"]

_TYPES: Final = {
    mode_bits.S_IFREG: "S_IFREG",
    mode_bits.S_IFDIR: "S_IFDIR",
    mode_bits.S_IFLNK: "S_IFLNK",
    mode_bits.S_IFCHR: "S_IFCHR",
    mode_bits.S_IFBLK: "S_IFBLK",
    mode_bits.S_IFIFO: "S_IFIFO",
    mode_bits.S_IFSOCK: "S_IFSOCK",
}
_DEVICES: Final = (mode_bits.S_IFCHR, mode_bits.S_IFBLK)
_MOST_HANDLE: Final = 128
"""MAX_HANDLE_SZ (include/linux/exportfs.h)."""
_DIRENTS: Final = 1 << 17
_OPEN_MODE: Final = 0o100 | 0o20000000


def mode_text(argument: Argument, mode: int) -> str:
    """Returns ``S_IFREG|0644``."""
    kind = _TYPES.get(mode & 0o170000)
    words = [kind] if kind else []
    rest = mode & ~0o170000 if kind else mode
    if kind:
        for bit, word in ((0o4000, "S_ISUID"), (0o2000, "S_ISGID"), (0o1000, "S_ISVTX")):
            if mode & bit:
                words.append(word)
                rest &= ~bit
    return argument.named(octal(mode), "|".join([*words, octal(rest)]))


def device_text(argument: Argument, device: int) -> str:
    """Returns ``makedev(0x1, 0x3)``."""
    major = (device >> 8 & 0xFFF) | (device >> 32 & 0xFFFFF000)
    minor = (device & 0xFF) | (device >> 12 & 0xFFFFFF00)
    return argument.named(hex_or_0(device), f"makedev({hex_or_0(major)}, {hex_or_0(minor)})")


# arch/x86/include/uapi/asm/stat.h
_STAT: Final = Struct(
    "st_dev u64; st_ino u64; st_nlink u64; st_mode u32; st_uid u32; st_gid u32; pad4; st_rdev u64; st_size i64;"
    " st_blksize i64; st_blocks i64; st_atime i64; st_atime_nsec u64; st_mtime i64; st_mtime_nsec u64; st_ctime i64;"
    " st_ctime_nsec u64; pad24"
)
_STAT_I386: Final = Struct(
    "st_dev u32; st_ino u32; st_mode u16; st_nlink u16; st_uid u16; st_gid u16; st_rdev u32; st_size u32;"
    " st_blksize u32; st_blocks u32; st_atime u32; st_atime_nsec u32; st_mtime u32; st_mtime_nsec u32; st_ctime u32;"
    " st_ctime_nsec u32; pad8"
)
_STAT64_I386: Final = Struct(
    "st_dev u64; pad4; pad4; st_mode u32; st_nlink u32; st_uid u32; st_gid u32; st_rdev u64; pad4; st_size i64;"
    " st_blksize u32; st_blocks u64; st_atime u32; st_atime_nsec u32; st_mtime u32; st_mtime_nsec u32; st_ctime u32;"
    " st_ctime_nsec u32; st_ino u64"
)


_STAT_SHORT: Final = ("st_mode", "st_rdev", "st_size")


def _stat(argument: Argument) -> str | None:
    return _stat_of(argument, _STAT_I386 if argument.call.enter.abi == "i386" else _STAT)


def _stat_of(argument: Argument, layout: Struct) -> str | None:
    data = argument.read(layout.size(argument.long_size))
    if data is None:
        return None
    found = {
        member.name: int.from_bytes(
            data[member.offset : member.offset + member.size], "little", signed=member.type == "i"
        )
        for member in layout.members(argument.long_size)[0]
        if (argument.options.verbose or member.name in _STAT_SHORT) and member.name
    }
    mode = found["st_mode"]
    what = f"st_size={found['st_size']}"
    if mode & 0o170000 in _DEVICES:
        what = f"st_rdev={device_text(argument, found['st_rdev'])}"
    word = mode_text(argument, mode)
    if not argument.options.verbose:
        return f"{{st_mode={word}, {what}, ...}}"
    words = [f"st_dev={device_text(argument, found['st_dev'])}", f"st_ino={found['st_ino']}", f"st_mode={word}"]
    words += [f"{name}={found[name]}" for name in ("st_nlink", "st_uid", "st_gid", "st_blksize", "st_blocks")]
    words.append(what)
    for name in ("st_atime", "st_mtime", "st_ctime"):
        seconds, fraction = found[name], found[f"{name}_nsec"]
        words += [f"{name}={commented(str(seconds), date_text(seconds, fraction))}", f"{name}_nsec={fraction}"]
    return "{" + ", ".join(words) + "}"


_STATX: Final = Struct(
    "stx_mask flags32(statx_mask); stx_blksize u32; stx_attributes flags64(statx_attributes); stx_nlink u32;"
    " stx_uid u32; stx_gid u32; stx_mode u16; pad2; stx_ino u64; stx_size u64; stx_blocks u64;"
    " stx_attributes_mask flags64(statx_attributes); times pad64; stx_rdev_major u32; stx_rdev_minor u32;"
    " stx_dev_major u32; stx_dev_minor u32; stx_mnt_id x64"
)
_STATX_TIMES: Final = (("stx_atime", 0x20), ("stx_btime", 0x800), ("stx_ctime", 0x80), ("stx_mtime", 0x40))
_STATX_SHORT: Final = ("stx_mask", "stx_attributes", "stx_mode", "stx_size")


def _statx(argument: Argument) -> str | None:
    """struct statx (include/uapi/linux/stat.h): some of it without -v; times where the mask has them."""
    data = argument.read(_STATX.size())
    if data is None:
        return None
    words = {word.partition("=")[0]: word for word in _STATX.words(argument, data)}
    words["stx_mode"] = f"stx_mode={mode_text(argument, int.from_bytes(data[28:30], 'little'))}"
    if not argument.options.verbose:
        return "{" + ", ".join([*(words[name] for name in _STATX_SHORT), "..."]) + "}"
    mask = int.from_bytes(data[:4], "little")
    shown: list[str] = []
    for name, word in words.items():
        if name == "stx_rdev_major":
            shown += [
                f"{time}={_statx_time(data[64 + 16 * at : 80 + 16 * at])}"
                for at, (time, bit) in enumerate(_STATX_TIMES)
                if mask & bit
            ]
        shown.append(word)
    return "{" + ", ".join(shown) + "}"


def _statx_time(data: bytes) -> str:
    seconds = int.from_bytes(data[:8], "little", signed=True)
    fraction = int.from_bytes(data[8:12], "little")
    return commented(f"{{tv_sec={seconds}, tv_nsec={fraction}}}", date_text(seconds, fraction))


_STATFS: Final = Struct(
    "f_type flagslong(statfs_type); f_bsize ulong; f_blocks ulong; f_bfree ulong; f_bavail ulong; f_files ulong;"
    " f_ffree ulong; f_fsid x32[2]; f_namelen ulong; f_frsize ulong; f_flags flagslong(statfs_flags)"
)
_STATFS64: Final = Struct(
    "f_type flags32(statfs_type); f_bsize u32; f_blocks u64; f_bfree u64; f_bavail u64; f_files u64; f_ffree u64;"
    " f_fsid x32[2]; f_namelen u32; f_frsize u32; f_flags flags32(statfs_flags)"
)


def _statfs(argument: Argument, layout: Struct) -> str | None:
    data = argument.read(layout.size(argument.long_size))
    if data is None:
        return None
    words = layout.words(argument, data)
    words[0] = f"f_type={enum_text(argument, 'statfs_type', layout.value(argument, data, 'f_type'))}"
    words[7] = f"f_fsid={{val={words[7].partition('=')[2]}}}"
    return "{" + ", ".join(words) + "}"


def _dirents(argument: Argument) -> str | None:
    """struct linux_dirent: d_type is the last byte of each."""
    return _entries(argument, wide=False)


def _dirents64(argument: Argument) -> str | None:
    return _entries(argument, wide=True)


def _entries(argument: Argument, *, wide: bool) -> str | None:
    """Returns how many entries there are; with -v the entries."""
    size = argument.count or 0
    data = argument.memory.read(argument.value, min(size, _DIRENTS)) if size else b""
    if data is None or len(data) < min(size, _DIRENTS):
        return None
    long = 8 if wide else argument.long_size
    head = 2 * long + (3 if wide else 2)
    words = []
    at = 0
    while at + head < len(data):
        length = int.from_bytes(data[at + 2 * long : at + 2 * long + 2], "little")
        if length <= head or at + length > len(data):
            break
        entry = data[at : at + length]
        at += length
        if not argument.options.verbose:
            words.append("")
            continue
        ino, offset = (int.from_bytes(entry[each : each + long], "little", signed=each > 0) for each in (0, long))
        type_ = enum_text(argument, "dirent_type", entry[18] if wide else entry[-1])
        end = len(entry) if wide else len(entry) - 1
        name = quoted(entry[head:end].partition(b"\0")[0], argument.options.strings_in_hex)
        tail = f"d_type={type_}, d_name={name}" if wide else f"d_name={name}, d_type={type_}"
        words.append(f"{{d_ino={ino}, d_off={offset}, d_reclen={length}, {tail}}}")
    if argument.options.verbose:
        return f"[{', '.join(words)}]"
    return f"{argument.value:#x} /* {len(words)} {'entry' if len(words) == 1 else 'entries'} */"


def _file_handle(argument: Argument) -> str | None:
    """struct file_handle: name_to_handle_at() is given the size of its room, and writes that of the handle."""
    size = argument.number(4)
    if size is None:
        return None
    call = argument.call
    names = argument.facts.numbers.get("name_to_handle_at") == call.enter.nr
    if not names:
        return f"{{handle_bytes={size}, {_handle_text(argument, size)}}}"
    before = call.enter.memory.read(argument.value, 4)
    room = int.from_bytes(before, "little") if before is not None and len(before) == 4 else size
    if call.exit is None or (call.failed and call.exit.ret != -75):  # EOVERFLOW
        return f"{{handle_bytes={room}}}"
    if not argument.at_exit:
        return None  # all of it is shown when the call has returned
    change = f"handle_bytes={room}" + (f" => {size}" if size != room else "")
    return f"{{{change}}}" if call.failed else f"{{{change}, {_handle_text(argument, size)}}}"


def _handle_text(argument: Argument, size: int) -> str:
    kind = argument.number(4, 4, signed=True)
    length = min(size, _MOST_HANDLE)
    data = argument.memory.read(argument.value + 8, length) if length else b""
    text = hexadecimal(argument.value + 8) if data is None or len(data) < length else quoted(data, "all")
    return f"handle_type={kind}, f_handle={text}{'...' if size > _MOST_HANDLE else ''}"


def _open_how(argument: Argument) -> str | None:
    """struct open_how (include/uapi/linux/openat2.h): its size is the argument after it."""
    size = argument.other(3)
    data = argument.read(24) if size >= 24 else None
    if data is None:
        return None
    flags, mode, resolve = (int.from_bytes(data[at : at + 8], "little") for at in (0, 8, 16))
    words = [f"flags={flags_text(argument, 'open', flags)}"]
    if mode or flags & _OPEN_MODE:
        words.append(f"mode={octal(mode)}")
    words.append(f"resolve={flags_text(argument, 'resolve', resolve)}")
    return "{" + ", ".join(words) + (", ..." if size > 24 else "") + "}"


def _descriptors(argument: Argument) -> str | None:
    data = argument.read(8)
    if data is None:
        return None
    fds = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (0, 4))
    return f"[{', '.join(descriptor(argument, fd) for fd in fds)}]"


def _fanotify_init(argument: Argument) -> str:
    """A class in two bits, and flags."""
    value = argument.value & 0xFFFFFFFF
    kind = enum_text(argument, "fanotify_class", value & 0xC)
    return f"{kind}|{flags_text(argument, 'fanotify_init', value & ~0xC)}" if value & ~0xC else kind


def _is_device(call: Call) -> bool:
    return _mode_of_node(call) & 0o170000 in _DEVICES


def _mode_of_node(call: Call) -> int:
    from insitu.syscalls.facts import facts_of

    return call.enter.args[2 if facts_of(call.enter.abi).numbers.get("mknodat") == call.enter.nr else 1]


def _halves(argument: Argument, *, high_first: bool = False, signed: bool = True) -> str:
    """A 64-bit value in two arguments of i386: the one in parentheses, and the one after it."""
    first = int(argument.given[0])
    low, high = argument.other(first) & 0xFFFFFFFF, argument.other(first + 1) & 0xFFFFFFFF
    if high_first:
        low, high = high, low
    value = high << 32 | low
    return str(value - (1 << 64) if signed and value >> 63 else value)


KINDS: Kinds = {
    "stat": Kind(_stat, Bytes(144)),
    "stat64": Kind(lambda a: _stat_of(a, _STAT64_I386), Bytes(96)),
    "statx": Kind(_statx, Bytes(256)),
    "statfs": Kind(lambda a: _statfs(a, _STATFS), Bytes(120)),
    "statfs64": Kind(lambda a: _statfs(a, _STATFS64), Bytes(84)),
    "ustat": structure("f_tfree i32; f_tinode u64; pad16"),
    "dirents": Kind(_dirents, Bytes(1, most=_DIRENTS)),
    "dirents64": Kind(_dirents64, Bytes(1, most=_DIRENTS)),
    "file_handle": Kind(_file_handle, Bytes(8 + _MOST_HANDLE)),
    "open_how": Kind(_open_how, Bytes(24)),
    "descriptors": Kind(_descriptors, Bytes(8)),
    "xattr": Kind(lambda a: buffer(a, is_string=True), Bytes(1, whole=False)),
    "xattr_list": Kind(buffer, Bytes(1, whole=False)),
    "file_mode": Kind(lambda a: mode_text(a, a.value & 0xFFFF)),
    "device": Kind(lambda a: device_text(a, a.value & 0xFFFFFFFF), skipped=lambda call: not _is_device(call)),
    "seek_offset": Kind(lambda a: str(a.long)),
    "offset_halves": Kind(_halves),
    "size_halves": Kind(lambda a: _halves(a, signed=False)),
    "offset_high_low": Kind(lambda a: _halves(a, high_first=True)),
    "fanotify_init": Kind(_fanotify_init),
    "fanotify_dirfd": Kind(lambda a: a.named("-1", "FAN_NOFD") if a.signed == -1 else directory(a)),
}
