"""Folded stacks read: "frame;frame;frame count" a line, from FlameGraph's stackcollapse scripts and many others."""

import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np

from insitu.convert.formats.bad_lines import BadLines
from insitu.convert.formats.registry import ImportOptions
from insitu.convert.formats.source_file import opened
from insitu.errors import InsituError
from insitu.session.core_tables import SAMPLE
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import JIT, KERNEL, USER, Frame

__all__ = ["import_folded", "is_text", "read_folded"]

_NUMBER: Final = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?"
_LINE: Final = re.compile(rf"(.*?)[ \t]+({_NUMBER})", re.ASCII | re.DOTALL)
_MOST_COUNT: Final = 10**18  # of all lines together: it must fit in 64 bits
_DIGITS: Final = 15  # of the sum of scaled counts: views add in double precision
_DECIMALS: Final = 9  # kept of fractional counts, more if all are small
_SUFFIX_KINDS: Final = {"_[k]": KERNEL, "_[j]": JIT, "_[i]": USER}
_COMM: Final = re.compile(r"[^(<]{1,15}?(-(\d+|\?)(/\d+)?)?")  # TASK_COMM_LEN less its NUL, and --pid's suffix
# Where the stack of a thread begins: nothing calls these but the kernel or the C library's start code.
_OUTERMOST: Final = re.compile(
    r"_start|_start_c|main|<module>|start_thread|thread_start|clone3?|__clone3?|(__)?libc_start_\w+|all|root"
    r"|entry_SYSCALL\w*|asm_\w+|ret_from_fork\w*|secondary_startup\w*|cpu_startup_entry|el0t?_\w+|runtime\.goexit.*"
)
_ADDRESS: Final = re.compile(r"0x[0-9a-f]+|\[unknown\]")  # what stands for a function without a symbol
_MOST_FRAMES: Final = 8192  # of a line; beyond it the file is taken for damaged
_NO_COUNT: Final = "no count at its end"


def is_text(head: bytes) -> bool:
    """Whether a file that begins with ``head`` may be folded stacks: any text may."""
    return bool(head) and b"\0" not in head


def import_folded(path: Path, writer: SessionWriter, options: ImportOptions) -> None:
    """Read a file of folded stacks."""
    with opened(path) as file:
        data = file.read()
    read_folded(
        data,
        str(path),
        writer,
        comm_first=options.comm_first,
        column=options.column,
        skip_bad_lines=options.skip_bad_lines,
    )


def read_folded(
    data: bytes,
    name: str,
    writer: SessionWriter,
    *,
    comm_first: bool | None = None,
    column: Literal["before", "after"] | None = None,
    skip_bad_lines: bool = False,
) -> None:
    """Read folded stacks into the ``sample`` table of ``writer``; ``name`` is the file's, for messages.

    A line is one row, with its count as weight (lines with count 0 are skipped). Fractional counts (seconds, say) are
    all multiplied by one power of ten, which the event's name, its unit and the notes say.

    ``comm_first``: the first frame is the command's name. None: it is where some line's second frame is a function in
    which threads start (main, _start, clone ...), so that the first cannot be a function, and no line's first is one.

    Of lines with two counts, as difffolded.pl and ``insitu diff --folded`` write them, ``column`` "before" (the
    first) or "after" (the second, the default) is read.

    Raises InsituError, with the line's number, for a line without a count; with ``skip_bad_lines`` such lines are
    left out and the notes say how many.
    """
    if b"\0" in data:
        raise InsituError(f"{name}: not folded stacks: it holds binary data")
    bad = BadLines(name, skip=skip_bad_lines)
    lines = _split(data, bad)
    notes = bad.notes()
    if lines.stacks and all(map(_ends_in_count, lines.stacks)):
        lines = _chosen_column(lines, column)
        if column is None:
            notes.append("two counts a line: the second (after) was read; import --column before reads the first")
    if not lines.stacks:
        raise InsituError(f"{name}: no stacks in it", remedy="each line is: frame;frame;frame count")
    per_line, factor = _scaled(lines.counts)
    total = sum(per_line)
    if total >= _MOST_COUNT:
        raise InsituError(f"{name}: the sum of its counts does not fit in 64 bits")
    if factor > 1:
        notes.append(f"fractional counts: weights are the file's counts times {factor}")
    if any(count * factor != whole for count, whole in zip(lines.counts, per_line, strict=True)):
        notes.append(f"counts were rounded to {'whole numbers' if factor == 1 else f'1/{factor}'}")
    empty = [at for at, count in enumerate(per_line) if not count]
    for at in reversed(empty):
        del lines.stacks[at], per_line[at]
    has_comm = _begin_with_comms(lines.stacks) if comm_first is None else comm_first
    tree = _grow_stacks(lines.stacks, has_comm)
    comms = tree.comms if has_comm else [name.rpartition("/")[2]]
    writer.notes += notes
    who = writer.processes
    utid = np.array([who.thread(n, who.process(n), name=comm) for n, comm in enumerate(comms, 1)], np.int32)
    frames = np.array(writer.frames.number(tree.frames) or [0], np.int32)
    offset = np.cumsum([0, *map(len, tree.chains)], dtype=np.int64)
    flat = np.array([frame for chain in tree.chains for frame in chain], np.int64)
    event = "samples" if factor == 1 else f"counts/{factor}"
    kind = writer.event_type(event, event, source="folded")
    writer.append(
        SAMPLE,
        {
            "ts_ns": np.zeros(len(per_line), np.int64),
            "utid": utid[np.array(tree.comm_of_line, np.int64)],
            "event_type": np.full(len(per_line), kind, np.int32),
            "stack": writer.stacks.add(offset, frames[flat])[np.array(tree.stack_of_line, np.int64)],
            "weight": np.array(per_line, np.int64),
        },
    )
    # A line stands for as many samples as it counts: what is added up is the weight.
    writer.manifest = writer.manifest.changed(sources=[{"id": "folded", "kind": "folded", "value": "weight"}])


class _Lines(NamedTuple):
    """The lines' stacks and their last counts."""

    stacks: list[str]
    counts: list[int | Decimal]


def _split(data: bytes, bad: BadLines) -> _Lines:
    lines = _Lines([], [])
    for number, line in enumerate(data.decode("utf-8-sig", "backslashreplace").split("\n"), 1):
        stack, _, count = line.rstrip().rpartition(" ")
        plain = stack and len(count) < 18 and count.isascii() and count.isdigit() and stack[-1] not in " \t"
        if plain and stack.count(";") < _MOST_FRAMES:
            if line[:2] != "# ":
                lines.stacks.append(stack)
                lines.counts.append(int(count))
            continue
        if not line.strip() or line.startswith("# "):
            continue
        try:
            stack, exact = _split_line(line.rstrip())
        except ValueError as error:
            if str(error) == _NO_COUNT and not lines.stacks and not bad.skip:
                what = "not a perf.data file, session or folded stacks"
                raise InsituError(f"{bad.name}: {what}", remedy=f"line {number}: {error}") from None
            bad.add(number, str(error))
            continue
        lines.stacks.append(stack)
        lines.counts.append(exact)
    return lines


def _split_line(line: str) -> tuple[str, int | Decimal]:
    """A line's stack and count. Raises ValueError, saying what is wrong with the line."""
    match = _LINE.fullmatch(line)
    if not match or not match[1].strip():
        raise ValueError("a count without a stack" if match else _NO_COUNT)
    stack, count = match[1], Decimal(match[2])
    if count < 0:
        raise ValueError(f"negative count {match[2]}")
    if count >= _MOST_COUNT:
        raise ValueError(f"count {match[2][:24]} does not fit in 64 bits")
    frames = stack.count(";") + 1
    if frames > _MOST_FRAMES:
        raise ValueError(f"{frames} frames; a stack has at most {_MOST_FRAMES}")
    return stack, int(count) if count == count.to_integral_value() else count


def _chosen_column(lines: _Lines, column: str | None) -> _Lines:
    """Of lines that all end in two counts the stacks without them, and the counts of one column."""
    pairs = [_split_line(line) for line in lines.stacks]
    return _Lines([stack for stack, _ in pairs], [n for _, n in pairs] if column == "before" else lines.counts)


def _ends_in_count(stack: str) -> bool:
    try:
        return _split_line(stack)[1] >= 0
    except ValueError:
        return False


def _scaled(counts: Sequence[int | Decimal]) -> tuple[list[int], int]:
    """The counts times a power of ten that makes all of them whole, and that power of ten.

    At most nine decimals are kept (more where all counts are small), and no more than sums in double precision hold.
    """
    fractional = [count for count in counts if isinstance(count, Decimal)]
    if not fractional:
        return [int(count) for count in counts], 1
    most, total = max(counts), sum(counts)
    needed = max(-int(count.normalize().as_tuple().exponent) for count in fractional)
    kept = _DECIMALS - min(Decimal(most).adjusted(), 0)
    room = _DIGITS - 1 - max(Decimal(total).adjusted(), -1)
    factor = 10 ** max(min(needed, kept, room), 0)
    return [round(count * factor) for count in counts], factor


def _begin_with_comms(stacks: Sequence[str]) -> bool:
    """Whether the first frames must be commands' names (see read_folded)."""
    pairs = {tuple(stack.split(";", 2)[:2]) for stack in stacks}
    first = {pair[0] for pair in pairs}
    second = {pair[1] for pair in pairs if len(pair) > 1}
    return (
        any(map(_OUTERMOST.fullmatch, (_bare(frame) for frame in second)))
        and not any(map(_OUTERMOST.fullmatch, (_bare(frame) for frame in first)))
        and all(_COMM.fullmatch(comm) and "::" not in comm for comm in first)
    )


def _bare(label: str) -> str:
    return label[:-4] if label[-4:] in _SUFFIX_KINDS else label


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
        return Frame(label, symbolized=not _ADDRESS.fullmatch(label))
    return Frame(label[:-4], inlined=suffix == "_[i]", kind=kind)
