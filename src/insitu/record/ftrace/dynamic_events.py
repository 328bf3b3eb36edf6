"""Dynamic events of our own: at functions of the kernel and of binaries, at source lines, at other events.

``KIND:PLACE [ARGUMENT ...]``, where KIND and PLACE are

* ``uprobe:BINARY:PLACE``, ``uretprobe:BINARY:FUNCTION``; PLACE is FUNCTION, FUNCTION+LINES, FUNCTION+0xBYTES or
  FILE:LINE
* ``kprobe:FUNCTION[+0xBYTES]``, ``kretprobe:FUNCTION``, ``fprobe:FUNCTION[%return]``; with the kernel's debug
  information also ``kprobe:FUNCTION+LINES`` and ``kprobe:FILE:LINE``
* ``eprobe:CATEGORY:EVENT``

and ARGUMENT is a variable (``n``, ``at->x``), ``*`` for all that can be shown, ``retval``, or the kernel's own
``name=FETCH[:TYPE]`` (Documentation/trace/kprobetrace.rst).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from itertools import chain, count
from typing import Final, NamedTuple

from insitu.capabilities import tracing
from insitu.errors import InsituError, nearest
from insitu.kernel.tracefs import Tracefs
from insitu.kernel.tracefs_leftovers import leave_nothing
from insitu.kernel.tracefs_owner import owner_name
from insitu.record.ftrace.event_fields import field_kind, find_field
from insitu.record.ftrace.tracepoints import last_error
from insitu.record.ftrace.user_code import Place, UserCode, kernel_code
from insitu.symbols.btf_type import Type

__all__ = ["Definition", "DynamicEvents", "definitions"]

_MOST_NAME: Final = 31  # MAX_ARG_NAME_LEN, with its end
_MOST_EVENT: Final = 48  # of MAX_EVENT_NAME_LEN 64; the group's name is of ours
_MOST_ARGUMENTS: Final = 128  # MAX_TRACE_ARGS
_RAW: Final = re.compile(r"(?P<name>[A-Za-z_]\w*)=(?P<fetch>\S{1,200})", re.ASCII)
_IN_KERNEL: Final = re.compile(r"[\w.]+(?:\+0x[0-9a-fA-F]+)?", re.ASCII)  # what needs no debug information
_LETTERS: Final = {"signed": "s", "unsigned": "u"}
_LETTER: Final = {"uprobe": "p", "kprobe": "p", "uretprobe": "r", "kretprobe": "r", "fprobe": "f", "eprobe": "e"}


class Definition(NamedTuple):
    """A dynamic event: its group and name, and what is written to dynamic_events."""

    group: str
    name: str
    text: str

    @property
    def label(self) -> str:
        """``GROUP:NAME``, as -e has it."""
        return f"{self.group}:{self.name}"

    @property
    def is_kernel_function(self) -> bool:
        """Whether it is at a function of the kernel: those of binaries have a path, other events a dot."""
        letter, (_, _, place) = self.text[0], self.text.partition(" ")
        return letter in "prf" and not place.startswith("/")


def definitions(
    spec: str, tracefs: Tracefs, taken: Sequence[str] = (), vmlinux: str | None = None
) -> list[Definition]:
    """The events of one ``KIND:PLACE [ARGUMENT ...]``: several, where a line's code has been inlined or copied.

    ``taken`` are names of events, ``vmlinux`` is the kernel's file with debug information.

    Raises InsituError for what does not exist.
    """
    words = spec.split()
    kind, colon, place = (words[0] if words else "").partition(":")
    if not (colon and place) or kind not in _LETTER:
        hint = nearest(kind, _LETTER)
        raise InsituError(f"--probe {spec}: not KIND:PLACE{hint}", remedy=f"kinds: {', '.join(_LETTER)}", status=2)
    if kind in ("uprobe", "uretprobe"):
        bodies = _user(kind, place, words[1:])
    elif kind == "eprobe":
        bodies = [_of_event(place, words[1:], tracefs)]
    elif kind == "kprobe" and not _IN_KERNEL.fullmatch(place):
        bodies = _lines_of_kernel(kernel_code(vmlinux), place, words[1:])
    else:
        bodies = [_of_kernel(kind, place, words[1:])]
    group, found, names = owner_name("_"), [], set(taken)
    shown = place.rpartition("/")[2] if kind in ("uprobe", "uretprobe") else place
    short = re.sub(r"\W+", "_", shown, flags=re.ASCII)[-_MOST_EVENT:].strip("_")
    base = f"{'' if short[:1].isalpha() else 'at_'}{short}{'_return' * kind.endswith('retprobe')}"
    for body in bodies:
        name = next(each for each in chain([base], (f"{base}_{n}" for n in count(1))) if each not in names)
        names.add(name)
        found.append(Definition(group, name, f"{_LETTER[kind]}:{group}/{name} {body}"))
    return found


def _user(kind: str, place: str, words: list[str]) -> list[str]:
    path, _, at = place.partition(":")
    code = UserCode(path)
    if kind == "uretprobe":
        address = code.function(at)
        given = [_returned(code, address, word) for word in words]
        return [f"{code.path}:{code.offset(address):#x} {_joined(given)}"]
    bodies = []
    for found in code.places(at):
        address, wanted = found.address, words
        if code.is_entry(at) and any("=" not in word for word in words):  # a function: its entry
            scope = code.scope(address)
            parameters = [each.name for each in scope.variables if each.is_parameter]
            wanted = [name for word in words for name in (parameters if word == "*" else [word])]
            if code.in_memory(scope, [re.split(r"\W", each)[0] for each in wanted]):
                address = code.after_prologue(address)
        arguments = _arguments(code, found._replace(address=address), wanted)
        bodies.append(f"{code.path}:{code.offset(address):#x} {_joined(arguments)}")
    return bodies


def _arguments(code: UserCode, place: Place, words: list[str]) -> list[tuple[str, str]]:
    address = place.address
    given: list[tuple[str, str]] = []
    for word in words:
        if raw := _RAW.fullmatch(word):
            given.append((raw["name"], raw["fetch"]))
            continue
        scope = code.scope(*place)
        if word != "*":
            given.append((re.sub(r"\W+", "_", word).strip("_"), code.argument(scope, address, word)))
            continue
        for variable in scope.variables:
            with contextlib.suppress(InsituError):
                given.append((variable.name, code.argument(scope, address, variable.name)))
    return given


def _returned(code: UserCode, address: int, word: str) -> tuple[str, str]:
    if raw := _RAW.fullmatch(word):
        return raw["name"], raw["fetch"]
    if word != "retval":
        raise InsituError(f"{word!r}: at a return only retval is known", status=2)
    kind = code.scope(address).returns
    if kind.kind == "pointer" and kind.is_text:
        return "retval", "+0($retval):string"
    if kind.size not in (1, 2, 4, 8):
        raise InsituError(f"what it returns ({kind.name}) cannot be shown")
    return "retval", f"$retval:{_LETTERS.get(kind.kind, 'x')}{8 * kind.size}"


def _lines_of_kernel(code: UserCode, place: str, words: list[str]) -> list[str]:
    return [
        f"{code.kernel_place(each.address)} {_joined(_arguments(code, each, words))}" for each in code.places(place)
    ]


def _of_kernel(kind: str, place: str, words: list[str]) -> str:
    from insitu.symbols import kernel_btf

    function, percent, _ = place.partition("%return")
    function = function.partition("+")[0]
    returns = bool(percent) or kind == "kretprobe"
    prototype: Type | None = None
    with contextlib.suppress(InsituError):
        prototype = kernel_btf.vmlinux().prototype(function)
    given = []
    for word in words:
        if raw := _RAW.fullmatch(word):
            given.append((raw["name"], raw["fetch"]))
            continue
        if prototype is None:
            raise InsituError(f"the types of {function} are not known (BTF)", remedy="name=$arg1:u64 needs none")
        if word == "retval" and returns:
            given.append(("retval", _typed("$retval", prototype.returns)))
            continue
        if returns or "+" in place:
            raise InsituError(
                f"{word!r}: {'only retval is' if returns else 'no variables are'} known there", status=2
            )
        names = [each.name for each in prototype.parameters]
        if word not in (*names, "*"):
            hint = nearest(word, names)
            raise InsituError(f"{function} has no parameter {word!r}{hint}", remedy=f"it has: {', '.join(names)}")
        given += [
            (each.name, _typed(f"$arg{number}", each.type))
            for number, each in enumerate(prototype.parameters, 1)
            if each.name and word in (each.name, "*")
        ]
    return f"{place} {_joined(given)}"


def _typed(fetch: str, kind: Type) -> str:
    bare = kind.strip()
    if bare.kind.name == "PTR":
        return f"+0({fetch}):string" if bare.target.character else f"{fetch}:x64"
    if kind.size not in (1, 2, 4, 8):
        return f"{fetch}:x64"
    return f"{fetch}:{'s' if kind.signed else 'u'}{8 * kind.size}"


def _of_event(place: str, words: list[str], tracefs: Tracefs) -> str:
    category, _, name = place.partition(":")
    event = tracefs.event(category, name)
    given = []
    for word in [each.name for each in event.fields] if "*" in words else words:
        if raw := _RAW.fullmatch(word):
            given.append((raw["name"], raw["fetch"]))
            continue
        field = find_field(event, word)
        if field is None:
            raise InsituError(f"{place} has no field {word!r}{nearest(word, (each.name for each in event.fields))}")
        kind = field_kind(field)
        if kind == "text":
            given.append((word, f"${word}:string"))
        elif kind == "pointer to text":
            given.append((word, f"+0(${word}):ustring"))
        elif kind == "number":
            given.append((word, f"${word}:{'s' if field.signed else 'u'}{8 * field.size}"))
        elif "*" not in words:
            raise InsituError(f"{place}: {word} cannot be shown")
    return f"{category}.{name} {_joined(given)}"


def _joined(given: Sequence[tuple[str, str]]) -> str:
    if len(given) > _MOST_ARGUMENTS:
        raise InsituError(f"at most {_MOST_ARGUMENTS} arguments")
    return " ".join(f"{name[:_MOST_NAME]}={fetch}" for name, fetch in dict(given).items())


class DynamicEvents:
    """Makes events, and removes them again; use: ``with DynamicEvents(tracefs, definitions):``."""

    def __init__(self, tracefs: Tracefs, wanted: Sequence[Definition]) -> None:
        self._tracefs, self._wanted = tracefs, wanted
        self._made: list[Definition] = []

    def __enter__(self) -> DynamicEvents:
        leave_nothing()
        for each in self._wanted:
            try:
                self._tracefs.append("dynamic_events", each.text)
            except OSError as error:
                self.__exit__()
                if each.is_kernel_function and not (kprobes := tracing.kprobes()).available:
                    what = f"{each.name}: kernel functions cannot be probed: {kprobes.reason}"
                    raise InsituError(what, remedy=kprobes.remedy) from None
                why = last_error(self._tracefs.read) or os.strerror(error.errno or 0)
                raise InsituError(f"the kernel refuses the event '{each.text}': {why}") from None
            self._made.append(each)
        return self

    def __exit__(self, *_: object) -> None:
        while self._made:
            each = self._made.pop()
            with contextlib.suppress(OSError):
                self._tracefs.append("dynamic_events", f"-:{each.group}/{each.name}")
