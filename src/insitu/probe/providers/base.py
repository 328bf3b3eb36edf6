"""The interface of a probe kind: expand attach points, type their arguments, describe how to load, attach."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from msgspec import Struct, field

from insitu.errors import InsituError

if TYPE_CHECKING:
    from insitu.kernel.tracefs import Tracefs
    from insitu.probe.providers.arguments import Argument
    from insitu.probe.providers.support.known_places import KnownPlaces
    from insitu.symbols.btf import Btf, Type
    from insitu.symbols.dwarf_types import BinaryTypes
    from insitu.symbols.elf import Elf

__all__ = [
    "SOURCE_KINDS",
    "AbsentError",
    "AttachPoint",
    "AttachSpec",
    "Attachment",
    "Context",
    "OfFunctions",
    "ProgramKind",
    "Provider",
    "Runnable",
    "Traits",
]

SOURCE_KINDS = frozenset(("kprobe", "k", "kretprobe", "kr"))
"""Kinds that a source file may follow: ``kprobe@fs/open.c:12``. Its @ stays in front of the file."""


class AbsentError(InsituError):
    """The attach point does not exist on this system. A script that lists several can do without it."""


class AttachSpec(Struct, frozen=True):
    """An attach point as written, split at its colons: ``kprobe:vfs_*`` is ("kprobe", ("vfs_*",)).

    ``kind`` may be an alias (``k``); ``line`` and ``column`` count from 1 and point at the kind.
    A quoted part (``uprobe:/bin/sh:"a::b(int)"``) arrives without its quotes, its colons kept.
    ``kprobe@fs/open.c:12`` is ("kprobe", ("@fs/open.c", "12")).
    """

    kind: str
    parts: tuple[str, ...] = ()
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        written = ":".join((self.kind, *self.parts))
        return written.replace(":@", "@", 1) if self.kind in SOURCE_KINDS else written


class AttachPoint(Struct, frozen=True):
    """One concrete location where a program can be attached.

    * ``name``: what the ``probe`` builtin prints
    * ``target``: what contains it: a binary's path, a kernel module, a tracepoint's category
    * ``function``: the function or event in it, which ``func`` prints where the kind knows it
    * ``offset``: bytes from the function's start
    * ``address``: offset in the binary, kernel address, or watched address; 0 when not needed
    * ``cookie``: what bpf_get_attach_cookie() returns at this point; set by the attach pass (1, 2 ...)
    * ``detail``: the provider's own
    * ``in_binary``: it is a location in a user-space binary, whose path ``target`` is
    """

    kind: str
    name: str
    target: str = ""
    function: str = ""
    offset: int = 0
    address: int = 0
    cookie: int = 0
    detail: object = None
    in_binary: bool = False


class ProgramKind(Struct, frozen=True):
    """How a program for these points is loaded. Numbers from include/uapi/linux/bpf.h.

    ``context`` names what the program's first argument points at: ``pt_regs``, ``perf_event`` (struct
    bpf_perf_event_data: pt_regs, then sample_period and addr), ``record`` (a tracepoint's record), ``arguments``
    (u64 slots), ``iterator`` (struct bpf_iter__NAME) or ``none``.
    ``shared``: one program may be attached to many points of equal arguments. ``cookies``:
    bpf_get_attach_cookie() works at each of them, which identifies the point.
    """

    type: int
    context: str
    attach_type: int = 0
    attach_btf_id: int = 0
    attach_btf_fd: int = 0
    shared: bool = False
    cookies: bool = False
    flags: int = 0


class Traits(Struct, frozen=True):
    """What sets a kind apart for the compiler.

    ``in_binary``: its points are locations in user-space binaries.
    ``of_process``: it fires in a process. Where probes are restricted to one process, its programs test for it: the
    kernel cannot restrict some kinds, and restricts others to the process and its children.
    ``run_by_us``: the runtime runs its programs itself, in its own process.
    ``on_request``: it is left out unless the command line asks for its kind.
    ``finite``: it fires a known number of times, and then the script may end.
    ``returning``: it fires when a function returns: registers no longer hold the arguments.
    ``numbered``: what arg0, arg1 ... are: "registers", "slots" of the context, "operands" (Provider.arguments), or
    "" where arguments have names only.
    ``trusted``: helpers take the pointers among its arguments.
    ``last_first``: of programs at one location, the kernel runs first what was attached last.
    ``entry``: false where another kind has the same points: those of functions' returns are listed if they are named.
    """

    in_binary: bool = False
    of_process: bool = False
    run_by_us: bool = False
    on_request: bool = False
    finite: bool = False
    returning: bool = False
    numbered: str = ""
    trusted: bool = False
    last_first: bool = False
    entry: bool = True


class Attachment(Protocol):
    """What keeps a program attached. Nothing outlives its file descriptors, so a crash detaches too."""

    def close(self) -> None:
        """Detach. Idempotent."""


class Runnable(Attachment, Protocol):
    """The attachment of a kind that the runtime itself runs: begin, end, self (and iter, which outputs text)."""

    def run(self) -> bytes:
        """Run the program once, now, in the calling thread; what it wrote with bpf_seq_printf(), for iterators."""


class Provider(Protocol):
    """One probe kind (or a pair that differs in a letter: kprobe and kretprobe)."""

    @property
    def names(self) -> tuple[str, ...]:
        """The kind and its aliases."""

    @property
    def traits(self) -> Traits:
        """What the compiler has to know of the kind."""

    def expand(self, spec: AttachSpec, context: Context) -> list[AttachPoint]:
        """The concrete points that the spec names, wildcards expanded, in a stable order.

        :raises AbsentError: when nothing matches (with the nearest names).
        :raises InsituError: when the spec has the wrong number of parts, or when the kernel lacks the feature (with
            what to use instead).
        """

    def arguments(self, point: AttachPoint, context: Context) -> list[Argument] | None:
        """The fields of ``args`` (and ``retval`` last, for kinds which have a typed one); None when unknown."""

    def program(self, point: AttachPoint, context: Context) -> ProgramKind:
        """How to load a program for this point."""

    def attach(self, program_fd: int, points: Sequence[AttachPoint], context: Context) -> Attachment:
        """Attach a loaded program to the points: all of them or, on an error, none."""

    def listing(self, pattern: AttachSpec, context: Context) -> list[AttachPoint]:
        """What `-l PATTERN` lists: as expand(), but an empty list when nothing matches and no limit on the number.

        :raises InsituError: when the kernel lacks the feature: what cannot be attached is not listed.
        """


@runtime_checkable
class OfFunctions(Protocol):
    """What providers have besides whose arguments are those of the kernel's functions, for listings of all of these.

    ``takes_parameters``: functions' parameters are arguments. ``takes_result``: what they return is, as ``retval``.
    """

    takes_parameters: bool
    takes_result: bool

    def prototypes(self, points: Sequence[AttachPoint], context: Context) -> list[tuple[Btf, int] | None]:
        """The prototype of each point's function, by its number in a set of types: 0 for functions without arguments.

        None for points that arguments() is to be asked of. :raises InsituError: as arguments()
        """

    def is_argument(self, parameter: Type) -> bool:
        """Whether a parameter of that type is an argument. Where one is not, arguments() is asked of the function."""

    def is_result(self, returned: Type) -> bool:
        """Whether a returned value of that type can be read."""


class Context(Struct, dict=True):
    """What attach points are resolved against. Opens BTF and tracefs when first asked for them.

    ``pid`` restricts probes to one process, and ``follows`` extends that to its descendants. ``runs_command`` says
    that a command will be run, and ``child_pid`` is its process once there is one: probes are restricted to it,
    unless they are to see the ``whole_system``, and
    addresses are watched in it. ``max_probes`` bounds a script's attach points (BPFTRACE_MAX_PROBES);
    ``missing_probes`` says what happens to attach points that do not exist (BPFTRACE_MISSING_PROBES); ``trials`` is
    the kind of probes on request that are run (test, bench); ``unsafe``
    allows those that may harm (--unsafe). ``probe_filter`` is a regular expression that their names must match, and
    ``traceable_functions`` a file to read instead of tracefs's available_filter_functions. ``known_places`` is what
    earlier runs found in binaries, where the cache is used.
    """

    pid: int | None = None
    runs_command: bool = False
    whole_system: bool = False
    follows: bool = False
    child_pid: int = 0
    max_probes: int = 1024
    trials: str = ""
    missing_probes: str = ""
    unsafe: bool = False
    probe_filter: str = ""
    traceable_functions: str = ""
    known_places: KnownPlaces | None = None
    _types: dict[str, BinaryTypes] = field(default_factory=dict)
    _elves: dict[str, Elf] = field(default_factory=dict)
    _btf_fds: dict[str, int] = field(default_factory=dict)
    _begins: dict[str, int] = field(default_factory=dict)
    _warned: set[str] = field(default_factory=set)

    @property
    def one_process(self) -> bool:
        """Whether probes are restricted to a process, which is known at load time."""
        return self.pid is not None or (self.runs_command and not self.whole_system)

    @property
    def only_pid(self) -> int | None:
        """The process that probes are restricted to; None: all, or a command that is not there yet."""
        if self.pid is not None:
            return self.pid
        return self.child_pid or None if self.one_process else None

    @property
    def breakpoints_pid(self) -> int | None:
        """The only process that needs breakpoints; None: all, as the kernel does not put them into children."""
        return None if self.follows else self.only_pid

    @cached_property
    def tracefs(self) -> Tracefs:
        """The tracing file system, mounted privately when it is mounted nowhere."""
        from insitu.kernel.tracefs import Tracefs

        return Tracefs.open()

    @cached_property
    def functions(self) -> list[tuple[str, str]]:
        """Kernel functions that can be traced, with their module ("" for the kernel's own)."""
        if not self.traceable_functions:
            return self.tracefs.functions()
        try:
            with open(self.traceable_functions, errors="replace") as file:  # noqa: PTH123
                lines = [line.split() for line in file]
        except OSError as error:
            raise InsituError(f"cannot read {self.traceable_functions}: {error.strerror}") from None
        return [(words[0], words[1].strip("[]") if len(words) > 1 else "") for words in lines if words]

    @cached_property
    def btf(self) -> Btf:
        """The running kernel's own types (vmlinux), or those in the file that BPFTRACE_BTF names."""
        from insitu.symbols import kernel_btf

        chosen = os.environ.get("BPFTRACE_BTF")
        return kernel_btf.from_file(chosen) if chosen else kernel_btf.vmlinux()

    @cached_property
    def btf_owners(self) -> list[str]:
        """Who has types: "vmlinux", and the loaded modules that have some."""
        from insitu.symbols import kernel_btf

        return ["vmlinux", *kernel_btf.modules()]

    def btf_of(self, module: str) -> Btf:
        """The types of a loaded module, on top of the kernel's; the kernel's own for "vmlinux"."""
        from insitu.symbols import kernel_btf

        return self.btf if module == "vmlinux" else kernel_btf.module(module, self.btf)

    def btf_fd(self, module: str) -> int:
        """The descriptor of a module's types, for loading a program; 0 for "vmlinux"."""
        if module == "vmlinux":
            return 0
        if module not in self._btf_fds:
            from insitu.kernel import bpf

            self._btf_fds[module] = bpf.kernel_btf_fd(module)
        return self._btf_fds[module]

    def elf(self, path: str) -> Elf:
        """The binary at ``path``, which may be in an archive, opened once. :raises OSError:"""
        from insitu.foreign_files import open_kernel_link
        from insitu.kernel import procfs
        from insitu.probe.providers.support.archives import archived, stored_entry
        from insitu.symbols.elf import Elf

        if path not in self._elves and (found := archived(path))[1]:
            data, self._begins[path] = stored_entry(*found)
            self._elves[path] = Elf(data, path)
        if path not in self._elves:
            root, inner = procfs.split_root(path)
            # In our root the user has typed the path, which may be /proc/PID/exe.
            source = open_kernel_link(path) if root == "/" else inner
            self._elves[path] = Elf(source, path, root=root)
        return self._elves[path]

    def begin_of(self, path: str) -> int:
        """Where in its archive a binary begins that elf() has opened; 0 for a file of its own."""
        return self._begins.get(path, 0)

    def types_of(self, path: str) -> BinaryTypes:
        """The types of the binary at ``path``, by its debug information. :raises OSError:"""
        from insitu.symbols.dwarf_types import BinaryTypes

        if path not in self._types:
            self._types[path] = BinaryTypes(self.elf(path))
        return self._types[path]

    def warn_once(self, text: str) -> None:
        """Print a warning, unless it was printed before: the same files are searched for several attach points."""
        from insitu import messages

        if text not in self._warned:
            self._warned.add(text)
            messages.warning(text)

    def program_fd(self, program: int) -> int:
        """A descriptor of a loaded BPF program, for attaching another to it. :raises BpfError: when it is gone."""
        name = f"program {program}"
        if name not in self._btf_fds:
            from insitu.kernel import bpf
            from insitu.kernel.bpf_abi import Command

            self._btf_fds[name] = bpf.open_id(Command.PROG_GET_FD_BY_ID, program)
        return self._btf_fds[name]

    def close(self) -> None:
        """Give back what was opened. Attachments stay."""
        self._types.clear()
        self._elves.clear()
        if self.known_places is not None:
            self.known_places.close()
        while self._btf_fds:
            os.close(self._btf_fds.popitem()[1])
        if "tracefs" in self.__dict__:
            self.tracefs.close()
            del self.__dict__["tracefs"]
