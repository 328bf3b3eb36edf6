"""Folded stacks, "comm;outer;inner count" a line: what FlameGraph's tools, speedscope and many others exchange.

Written as stackcollapse-perf.pl writes them: blanks of a command become "_", ";" within a name becomes ":", an
address without a symbol becomes its module's name in brackets, lines are sorted bytewise. Unlike it, names are
kept whole: parameters and template arguments stay.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from insitu.convert.formats.stack_text import joined
from insitu.errors import InsituError
from insitu.session.core_tables import SAMPLE
from insitu.session.distinct import distinct
from insitu.session.weighted_stacks import Value, WeightedStacks
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import JIT, KERNEL, USER, Frame

__all__ = ["folded_counts", "is_unresolved", "module_label", "read_folded", "write_folded"]

# What would end a line or a frame early, and the rest of the control characters with them.
_CLEAN: Final = {**dict.fromkeys(range(32), " "), 0x7F: " ", 0x85: " ", 0x2028: " ", 0x2029: " ", ord(";"): ":"}
_ADDRESS: Final = re.compile(r"0x[0-9a-f]+")
_COUNT: Final = re.compile(r"\d{1,18}(\.\d*)?", re.ASCII)
_SUFFIX_KINDS: Final = {"_[k]": KERNEL, "_[j]": JIT, "_[i]": USER}
_KIND_SUFFIXES: Final = {KERNEL: "_[k]", JIT: "_[j]"}
# An outermost frame that is one of these is a function, not the command that stackcollapse-perf.pl puts there.
_ENTRY_POINTS: Final = {"main", "_start", "all", "root", "<module>", "start_thread", "clone", "clone3"}
_COMM_BYTES: Final = 15  # TASK_COMM_LEN less its NUL (include/linux/sched.h)
_MOST_FRAMES: Final = 8192  # of a line; beyond it the file is taken for damaged


def folded_counts(
    stacks: WeightedStacks, *, value: Value | None = None, suffixes: bool = False, addresses: bool = False
) -> dict[str, int]:
    """Stacks as "comm;outer;inner" and what ``value`` says of each, added up.

    ``suffixes`` marks kernel, inlined and jitted frames with _[k], _[i] and _[j]; ``addresses``
    keeps module+0xoffset where no symbol covers an address, instead of all such frames as "[module]".
    """
    nodes = len(stacks.parent)
    index: dict[str, int] = {}
    cleaned = [index.setdefault(_clean(t.name).replace(" ", "_"), len(index)) for t in stacks.threads]
    comm = np.array(cleaned, np.int64)[stacks.thread]
    keys, of_key = distinct(comm * nodes + stacks.stack)
    weights = stacks.values(value or stacks.preferred)
    sums = np.bincount(of_key, weights=weights, minlength=len(keys)).astype(np.int64)

    labels = [_label(frame, suffixes, addresses) for frame in stacks.frames]
    used, of_key = distinct((keys % nodes).astype(np.int32))
    texts = joined(stacks.parent, stacks.frame, labels, used, ";")
    names = list(index)
    counts: dict[str, int] = {}
    for at, text_at, count in zip((keys // nodes).tolist(), of_key.tolist(), sums.tolist(), strict=True):
        text = ";".join(part for part in (names[at], texts[text_at]) if part)
        counts[text] = counts.get(text, 0) + count
    return counts


def write_folded(
    stacks: WeightedStacks, *, value: Value | None = None, suffixes: bool = False, addresses: bool = False
) -> str:
    """The lines of ``folded_counts``, sorted, as one text (it may hold lone surrogates: encode with care)."""
    counts = folded_counts(stacks, value=value, suffixes=suffixes, addresses=addresses)
    return "".join([f"{stack} {counts[stack]}\n" for stack in sorted(counts)])


def _clean(name: str) -> str:
    return name if name.isprintable() and ";" not in name else name.translate(_CLEAN)


def _label(frame: Frame, suffixes: bool, addresses: bool) -> str:
    name = frame.function
    if not name or (not addresses and is_unresolved(name, frame.module)):
        name = module_label(frame.module)
    if suffixes:
        name += "_[i]" if frame.inlined else _KIND_SUFFIXES.get(frame.kind, "")
    return _clean(name)


def is_unresolved(function: str, module: str) -> bool:
    """Whether a frame's function is but its address: no symbol covers it (see Frame.function)."""
    name, plus, offset = function.rpartition("+")
    if plus:
        file = module.removesuffix(" (deleted)").rpartition("/")[2]
        return bool(name) and name in (module, file) and bool(_ADDRESS.fullmatch(offset))
    return not module and bool(_ADDRESS.fullmatch(function))


def module_label(module: str) -> str:
    """What stands for functions without a symbol: the module's file name in brackets, "[unknown]" without one."""
    return f"[{module.rpartition('/')[2].strip('[]') or 'unknown'}]"


def read_folded(data: bytes, name: str, writer: SessionWriter) -> None:
    """Read folded stacks into the ``sample`` table of ``writer``; ``name`` is the file's, for messages.

    The outermost frame becomes the thread's command where all lines begin with what can be one. A line is one row,
    with its count as weight. Fractional counts are rounded, which the notes then say.

    Raises InsituError, with the line's number, for a line without a count and for what is no text at all.
    """
    if b"\0" in data:
        raise InsituError(f"{name}: not folded stacks: it holds binary data")
    stacks, counts, rounded = _split_counts(data, name)
    if not stacks:
        raise InsituError(f"{name}: no stacks in it", remedy="each line is: frame;frame;frame count")
    has_comm = _begin_with_comms(stacks)
    tree = _grow_stacks(stacks, has_comm)
    comms = tree.comms if has_comm else [name.rpartition("/")[2]]

    weight = np.array(counts, np.int64)
    if sum(counts) >= 1 << 63:
        raise InsituError(f"{name}: its counts add up to more than 64 bits hold")
    if rounded:
        writer.notes.append(f"{rounded} fractional counts were rounded")
    utid = np.array([writer.processes.thread(at + 1, at + 1, name=comm) for at, comm in enumerate(comms)], np.int32)
    frames = np.array(writer.frames.number(tree.frames) or [0], np.int32)
    offset = np.cumsum([0, *map(len, tree.chains)], dtype=np.int64)
    flat = np.array([frame for chain in tree.chains for frame in chain], np.int64)
    kind = writer.event_type("samples", "samples", source="folded")
    writer.append(
        SAMPLE,
        {
            "ts_ns": np.zeros(len(weight), np.int64),
            "utid": utid[np.array(tree.comm_of_line, np.int64)],
            "event_type": np.full(len(weight), kind, np.int32),
            "stack": writer.stacks.add(offset, frames[flat])[np.array(tree.stack_of_line, np.int64)],
            "weight": weight,
        },
    )
    # A line stands for as many samples as it counts: what is added up is the weight.
    writer.manifest = writer.manifest.changed(sources=[{"id": "folded", "kind": "folded", "value": "weight"}])


def _split_counts(data: bytes, name: str) -> tuple[list[str], list[int], int]:
    """Each line's stack and count, and how many of the counts were rounded."""
    stacks: list[str] = []
    counts: list[int] = []
    rounded = 0
    for number, line in enumerate(data.decode("utf-8-sig", "backslashreplace").split("\n"), 1):
        if not line.strip() or line.startswith("# "):
            continue
        stack, _, count = line.rstrip().rpartition(" ")
        if stack and len(count) <= 18 and count.isascii() and count.isdigit():
            stacks.append(stack)
            counts.append(int(count))
            continue
        if not stack or not _COUNT.fullmatch(count):
            raise InsituError(f"{name}: line {number} is no folded stack: it does not end in a count")
        exact = float(count)
        rounded += not exact.is_integer()
        stacks.append(stack)
        counts.append(round(exact))
    deepest = max((stack.count(";") for stack in stacks), default=0)
    if deepest >= _MOST_FRAMES:
        raise InsituError(f"{name}: a stack of {deepest + 1} frames is no stack")
    return stacks, counts, rounded


def _begin_with_comms(stacks: Sequence[str]) -> bool:
    first = {stack.partition(";")[0] for stack in stacks}
    return not first & _ENTRY_POINTS and all(
        len(comm.encode(errors="replace")) <= _COMM_BYTES and not any(mark in comm for mark in ("(", "::", "<"))
        for comm in first
    )


class _Stacks(NamedTuple):
    """Distinct stacks (indices of ``frames``, innermost first), and each line's command (index) and stack."""

    chains: list[list[int]]
    frames: list[Frame]
    comms: list[str]
    comm_of_line: list[int]
    stack_of_line: list[int]


def _grow_stacks(stacks: Sequence[str], has_comm: bool) -> _Stacks:
    comms: dict[str, int] = {}
    names: dict[str, int] = {}
    index: dict[str, int] = {}
    chains: list[list[int]] = []
    comm_of_line, stack_of_line = [], []
    for stack in stacks:
        comm, _, rest = stack.partition(";") if has_comm else ("", "", stack)
        comm_of_line.append(comms.setdefault(comm, len(comms)))
        at = index.get(rest)
        if at is None:
            at = index[rest] = len(chains)
            frames = rest.split(";") if rest else []
            chains.append([names.setdefault(frame, len(names)) for frame in reversed(frames)])
        stack_of_line.append(at)
    return _Stacks(chains, [_frame(name) for name in names], list(comms), comm_of_line, stack_of_line)


def _frame(label: str) -> Frame:
    suffix = label[-4:]
    kind = _SUFFIX_KINDS.get(suffix)
    if kind is None or len(label) == 4:
        return Frame(label)
    return Frame(label[:-4], inlined=suffix == "_[i]", kind=kind)
