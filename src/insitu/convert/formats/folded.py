"""Folded stacks written, "comm;outer;inner count" a line: what FlameGraph's tools, speedscope and others read.

Written as stackcollapse-perf.pl writes them: blanks of a command become "_", ";" within a name becomes ":", an
address without a symbol becomes its module's name in brackets, lines are sorted bytewise. Unlike it, names are
kept whole: parameters and template arguments stay.
"""

from typing import Final

import numpy as np

from insitu.convert.formats.registry import ExportOptions
from insitu.convert.formats.stack_text import joined
from insitu.session.distinct import distinct
from insitu.session.weighted_stacks import Value, WeightedStacks
from insitu.symbols.frame import JIT, KERNEL, Frame, module_label

__all__ = ["export_folded", "folded_counts", "write_folded"]

# What would end a line or a frame early, and the rest of the control characters with them.
_CLEAN: Final = {**dict.fromkeys(range(32), " "), 0x7F: " ", 0x85: " ", 0x2028: " ", 0x2029: " ", ord(";"): ":"}
_KIND_SUFFIXES: Final = {KERNEL: "_[k]", JIT: "_[j]"}


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
        name, text = names[at], texts[text_at]
        text = f"{name};{text}" if name and text else name or text
        counts[text] = counts.get(text, 0) + count
    return counts


def write_folded(
    stacks: WeightedStacks, *, value: Value | None = None, suffixes: bool = False, addresses: bool = False
) -> str:
    """The lines of ``folded_counts``, sorted, as one text (it may hold lone surrogates: encode with care)."""
    counts = folded_counts(stacks, value=value, suffixes=suffixes, addresses=addresses)
    return "".join([f"{stack} {counts[stack]}\n" for stack in sorted(counts)])


def export_folded(stacks: WeightedStacks, options: ExportOptions) -> bytes:
    """The file of ``write_folded``."""
    return write_folded(stacks, value=options.value).encode(errors="backslashreplace")


def _clean(name: str) -> str:
    return name if name.isprintable() and ";" not in name else name.translate(_CLEAN)


def _label(frame: Frame, suffixes: bool, addresses: bool) -> str:
    name = frame.function
    if not name or not (addresses or frame.symbolized):
        name = module_label(frame.module)
    if suffixes:
        name += "_[i]" if frame.inlined else _KIND_SUFFIXES.get(frame.kind, "")
    return _clean(name)
