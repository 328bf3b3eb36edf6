"""The fields of filter expressions: their types, and where their values come from."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from insitu.syscalls.filters.categories import READS, WRITES, category, is_wait
from insitu.syscalls.filters.subject import Argument, Descriptor, Subject

__all__ = ["FIELDS", "Field", "Value", "argument_value", "names"]

Value = str | int | bool | tuple[str, ...] | tuple[int, ...] | Argument | None
"""None: the subject has none, and every comparison but ``not`` is false. A tuple: any of them."""


class Field(NamedTuple):
    """One field. ``type``: "text", "number", "time" (ns), "size" (bytes), "flag", or "argument"."""

    type: str
    help: str
    value: Callable[[Subject, str], Value]
    """The second argument is what stands in the brackets, or after evt.arg. ; "" without."""
    takes: str = ""
    """What stands in brackets or after a dot: "index" or "name"."""
    live: bool = True
    """Whether it is known while recording, not in a session alone."""


def _clock(subject: Subject) -> str:
    seconds, rest = divmod(subject.unix_ns, 1_000_000_000)
    return time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{rest:09d}"


def _date_and_clock(subject: Subject) -> str:
    return time.strftime("%Y-%m-%d ", time.localtime(subject.unix_ns // 1_000_000_000)) + _clock(subject)


def _category(subject: Subject) -> str:
    return category(subject.name, subject.descriptor)


def _direction(subject: Subject) -> str | None:
    return "read" if subject.name in READS else "write" if subject.name in WRITES else None


def argument_value(subject: Subject, which: str) -> Argument | None:
    """Returns the argument of a name or an index."""
    arguments = subject.arguments
    if which.isdecimal():
        return arguments[int(which)] if int(which) < len(arguments) else None
    return next((each for each in arguments if each.name == which), None)


def _raw_argument(subject: Subject, which: str) -> int | None:
    found = argument_value(subject, which)
    return None if found is None else found.value


def _of_descriptor(get: Callable[[Descriptor], Value]) -> Callable[[Subject, str], Value]:
    def value(subject: Subject, which: str) -> Value:
        return None if subject.descriptor is None else get(subject.descriptor)

    return value


def _path_part(part: int) -> Callable[[Descriptor], Value]:
    def get(descriptor: Descriptor) -> Value:
        if descriptor.type[1] not in ("f", "d"):
            return None
        directory, _, name = descriptor.name.rpartition("/")
        return (directory or "/", name)[part]

    return get


def _addresses(
    get: Callable[[Descriptor], Iterable[tuple[str, int] | None]], part: int
) -> Callable[[Subject, str], Value]:
    def value(subject: Subject, which: str) -> Value:
        if subject.descriptor is None:
            return None
        found = [each for each in get(subject.descriptor) if each is not None]
        if not found:
            return None
        return tuple(each[1] for each in found) if part else tuple(each[0] for each in found)

    return value


def _ancestors(part: str) -> Callable[[Subject, str], Value]:
    def value(subject: Subject, which: str) -> Value:
        process = subject.process
        found = [process, *process.ancestors]
        if which:
            at = int(which)
            return getattr(found[at], part) if at < len(found) else None
        return tuple(getattr(each, part) for each in found[1:])

    return value


def _result(subject: Subject) -> str | None:
    if subject.ret is None:
        return None
    return subject.error or "SUCCESS"


@functools.lru_cache(maxsize=1024)
def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@functools.lru_cache(maxsize=1024)
def _group_name(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _parent_name(subject: Subject) -> str | None:
    return None if subject.process.parent is None else subject.process.parent.name


def _parent_args(subject: Subject) -> tuple[str, ...]:
    return () if subject.process.parent is None else subject.process.parent.args


def _parent_path(subject: Subject) -> str | None:
    return None if subject.process.parent is None else subject.process.parent.exe or None


def _first(args: tuple[str, ...]) -> str | None:
    return args[0] if args else None


def _user(subject: Subject) -> str | None:
    return None if subject.process.uid is None else _user_name(subject.process.uid)


def _group(subject: Subject) -> str | None:
    return None if subject.process.gid is None else _group_name(subject.process.gid)


def _plain(type_: str, help_: str, get: Callable[[Subject], Value], *, live: bool = True) -> Field:
    return Field(type_, help_, lambda subject, which: get(subject), live=live)


def _moved(subject: Subject) -> int | None:
    return subject.ret if subject.ret is not None and not subject.error and subject.name in READS | WRITES else None


def _opens(subject: Subject, access: int) -> bool:
    """Whether it is an open() for reading (1) or writing (2)."""
    flags = argument_value(subject, "flags") if subject.name in _OPENS else None
    return flags is not None and bool((flags.value & _O_ACCMODE) + 1 & access)


_O_ACCMODE: Final = 3  # O_RDONLY is 0, O_WRONLY 1, O_RDWR 2
_OPENS: Final = ("open", "openat")
_CLIENT: Final = 0
_SERVER: Final = 1

FIELDS: Final[dict[str, Field]] = {
    "evt.num": _plain("number", "number of the call, from 0", lambda each: each.number),
    "evt.time": _plain("text", "time of day of its entry, with nanoseconds", _clock),
    "evt.datetime": _plain("text", "date and time of day of its entry", _date_and_clock),
    "evt.rawtime": _plain("number", "the same, in ns since 1970", lambda each: each.unix_ns),
    "evt.type": _plain("text", "name of the call", lambda each: each.name),
    "evt.dir": _plain(
        "text", "< if it has returned, > if it never will", lambda each: ">" if each.ret is None else "<"
    ),
    "evt.latency": _plain("time", "how long it took", lambda each: each.dur_ns),
    "evt.failed": _plain("flag", "whether it returned an error", lambda each: bool(each.error)),
    "evt.res": _plain("text", "SUCCESS, or the error's name", _result),
    "evt.rawres": _plain("number", "what it returned", lambda each: each.ret),
    "evt.cpu": _plain("number", "CPU on which it was entered", lambda each: each.cpu, live=False),
    "evt.buflen": _plain("size", "bytes that a call has read or written", _moved),
    "evt.is_io_read": _plain("flag", "whether it reads data", lambda each: each.name in READS),
    "evt.is_io_write": _plain("flag", "whether it writes data", lambda each: each.name in WRITES),
    "evt.is_io": _plain("flag", "either of both", lambda each: each.name in READS | WRITES),
    "evt.io_dir": _plain("text", "read or write, of these", _direction),
    "evt.is_wait": _plain("flag", "whether it sleeps, or waits for descriptors", lambda each: is_wait(each.name)),
    "evt.is_open_read": _plain("flag", "whether it opens a file for reading", lambda each: _opens(each, 1)),
    "evt.is_open_write": _plain("flag", "whether it opens a file for writing", lambda each: _opens(each, 2)),
    "evt.category": _plain("text", "file, net, IPC, memory, process, signal, user, time, sleep, wait ...", _category),
    "evt.args": _plain("text", "all arguments", lambda each: ", ".join(one.text for one in each.arguments)),
    "evt.arg": Field("argument", "an argument: evt.arg.flags, evt.arg[0]", argument_value, "name"),
    "evt.rawarg": Field("number", "the same, as a number", _raw_argument, "name"),
    "proc.name": _plain("text", "name of the process (comm)", lambda each: each.process.name or None),
    "proc.pid": _plain("number", "process id", lambda each: each.pid),
    "proc.vpid": _plain("number", "process id in its own namespace", lambda each: each.process.vpid),
    "proc.ppid": _plain("number", "parent's process id", lambda each: each.process.ppid),
    "proc.pname": _plain("text", "parent's name", _parent_name),
    "proc.pexe": _plain("text", "parent's argv[0]", lambda each: _first(_parent_args(each))),
    "proc.pexepath": _plain("text", "path of the parent's program", _parent_path),
    "proc.pcmdline": _plain("text", "parent's argv", lambda each: " ".join(_parent_args(each)) or None),
    "proc.exe": _plain("text", "argv[0]", lambda each: _first(each.process.args)),
    "proc.exepath": _plain("text", "path of the program", lambda each: each.process.exe or None),
    "proc.cmdline": _plain("text", "argv", lambda each: " ".join(each.process.args) or None),
    "proc.args": _plain("text", "argv without the first", lambda each: " ".join(each.process.args[1:])),
    "proc.cwd": _plain("text", "working directory", lambda each: each.process.cwd or None),
    "proc.apid": Field(
        "number", "id of an ancestor: proc.apid[1] is the parent's; of any without [N]", _ancestors("pid"), "index"
    ),
    "proc.aname": Field("text", "name of an ancestor, in the same way", _ancestors("name"), "index"),
    "thread.tid": _plain("number", "thread id", lambda each: each.tid),
    "thread.ismain": _plain("flag", "whether it is the process' first thread", lambda each: each.pid == each.tid),
    "user.uid": _plain("number", "user id", lambda each: each.process.uid),
    "user.name": _plain("text", "user", _user),
    "group.gid": _plain("number", "group id", lambda each: each.process.gid),
    "group.name": _plain("text", "group", _group),
    "container.id": _plain("text", "id of the container, by cgroup; host", lambda each: each.process.container[0]),
    "container.name": _plain(
        "text", "its name where the cgroup has it, else its id", lambda each: each.process.container[1]
    ),
    "fd.num": Field("number", "descriptor that the call uses or returns", _of_descriptor(lambda fd: fd.number)),
    "fd.name": Field(
        "text", "what it is open on, or the path that the call takes", _of_descriptor(lambda fd: fd.name or None)
    ),
    "fd.type": Field(
        "text",
        "file, directory, ipv4, ipv6, unix, pipe, event, eventpoll ...",
        _of_descriptor(lambda fd: fd.type[0] or None),
    ),
    "fd.typechar": Field("text", "f, d, 4, 6, u, p, e, l ...", _of_descriptor(lambda fd: fd.type[1] or None)),
    "fd.directory": Field("text", "directory of the file", _of_descriptor(_path_part(0))),
    "fd.filename": Field("text", "name of the file in it", _of_descriptor(_path_part(1))),
    "fd.ip": Field("text", "either address of an IP socket", _addresses(lambda fd: fd.addresses, 0)),
    "fd.cip": Field("text", "client's address", _addresses(lambda fd: [fd.client_and_server[_CLIENT]], 0)),
    "fd.sip": Field("text", "server's address", _addresses(lambda fd: [fd.client_and_server[_SERVER]], 0)),
    "fd.lip": Field("text", "local address", _addresses(lambda fd: [fd.addresses[0]], 0)),
    "fd.rip": Field("text", "remote address", _addresses(lambda fd: [fd.addresses[1]], 0)),
    "fd.port": Field("number", "either port", _addresses(lambda fd: fd.addresses, 1)),
    "fd.cport": Field("number", "client's port", _addresses(lambda fd: [fd.client_and_server[_CLIENT]], 1)),
    "fd.sport": Field("number", "server's port", _addresses(lambda fd: [fd.client_and_server[_SERVER]], 1)),
    "fd.lport": Field("number", "local port", _addresses(lambda fd: [fd.addresses[0]], 1)),
    "fd.rport": Field("number", "remote port", _addresses(lambda fd: [fd.addresses[1]], 1)),
    "fd.proto": Field("text", "tcp, udp ...", _of_descriptor(lambda fd: fd.protocol or None)),
    "fd.l4proto": Field("text", "the same", _of_descriptor(lambda fd: fd.protocol or None)),
}


def names() -> list[str]:
    """Returns the fields as they are typed."""
    return [f"{name}.NAME" if field.takes == "name" else name for name, field in FIELDS.items()]
