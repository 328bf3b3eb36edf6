"""A histogram as a program in the probe language: for kernels without hist triggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from insitu.errors import InsituError
from insitu.kernel.tracefs import Field
from insitu.record.ftrace.event_fields import field_kind
from insitu.record.ftrace.filters import Comparison, Joined, Negated, Tree
from insitu.record.ftrace.followed_threads import FOLLOWED_THREADS
from insitu.record.ftrace.hist_fields import HistField
from insitu.record.ftrace.histograms import Histogram, HistogramRequest, Key, Row
from insitu.syscalls.native import syscall_name

__all__ = ["field_value", "histogram_of", "histogram_script", "predicate"]

Columns = Mapping[str, Sequence[Any]]
"""Of a map: its keys, then its value."""

_BUILTINS: Final = {
    "common_pid": "tid",
    "common_cpu": "cpu",
    "common_timestamp": "nsecs",
    "common_stacktrace": "kstack",
    "cpu": "cpu",
    "CPU": "cpu",
    "comm": "comm",
    "COMM": "comm",
}
# The number of bits of $vN - 1, as ilog2(roundup_pow_of_two()) has it, by halves.
_LOG2: Final = (
    "$v{0} = (uint64){1}; $v{0} = $v{0} > 0 ? $v{0} - 1 : (uint64)0; $n{0} = 0;"
    + "".join(
        f" if ($v{{0}} >> {bits}) {{{{ $n{{0}} += {bits}; $v{{0}} >>= {bits}; }}}}" for bits in (32, 16, 8, 4, 2)
    )
    + " $n{0} += $v{0} > 1 ? 2 : (int64)$v{0};"
)


def histogram_script(request: HistogramRequest, *, follows: bool = False) -> str:
    """The program's text. ``follows``: only in the threads of its map ``@target``, and those that they start.

    :raises InsituError: for a filter beyond the language.
    """
    before, keys = [], []
    for number, key in enumerate(request.keys):
        value = _value(key.name, key.field)
        if key.modifier == "log2":
            before.append(_LOG2.format(number, value))
            value = f"$n{number}"
        elif key.modifier == "buckets":
            value = f"({value} / {key.bucket}) * {key.bucket}"
        elif key.modifier in ("sym", "sym-offset"):
            value = f"ksym({value})"
        elif key.modifier == "usecs":
            value = f"{value} / 1000"
        elif key.modifier == "execname":
            value = "comm, tid"
        keys.append(value)
    where = [predicate(request.where.tree)] if request.where else []
    if follows:
        where.insert(0, "@target[tid]")
    by = ", ".join(keys)
    sums = [f"@v{number}[{by}] = sum({_value(each.name, each.field)});" for number, each in enumerate(request.values)]
    lines = [*before, f"@hits[{by}] = count();", *sums]
    return (
        f"config = {{ max_map_keys = {request.entries}; print_maps_on_exit = false }}\n"
        f"{FOLLOWED_THREADS if follows else ''}"
        f"tracepoint:{request.event.name} {'/' + ' && '.join(where) + '/ ' if where else ''}{{\n  "
        + "\n  ".join(lines)
        + "\n}\n"
    )


def predicate(tree: Tree) -> str:
    """A filter in the probe language. :raises InsituError: for what the language has no words for."""
    if isinstance(tree, Joined):
        return "(" + f" {tree.operator} ".join(map(predicate, tree.parts)) + ")"
    if isinstance(tree, Negated):
        return f"!({predicate(tree.part)})"
    value = _value(tree.field.name, tree.field)
    if tree.form == "function" or isinstance(tree.value, tuple):
        return _special(tree, value)
    if isinstance(tree.value, str):
        return _text(tree, value)
    if tree.operator == "&":
        return f"(({value} & {tree.value}) != 0)"
    return f"({value} {tree.operator} {tree.value})"


def _special(tree: Comparison, value: str) -> str:
    if isinstance(tree.value, tuple) and field_kind(tree.field) in ("cpu", "number"):
        ranges = (f"({value} >= {first} && {value} <= {last})" for first, last in tree.value)
        return f"{'!' * (tree.operator == '!=')}({' || '.join(ranges)})"
    raise InsituError(
        f"the filter '{tree}' needs the kernel's own filters", remedy="insitu events -e with -F has them"
    )


def _text(tree: Comparison, value: str) -> str:
    wanted = str(tree.value)
    if tree.operator != "~":
        return f"({value} {tree.operator} {_quoted(wanted)})"
    plain = wanted.strip("*")
    if any(sign in plain for sign in "*?[\\") or (wanted[:1] == "*" and wanted[-1:] != "*"):
        raise InsituError(
            f"the pattern {wanted!r} needs the kernel's own filters", remedy="here: 'text', 'text*' or '*text*'"
        )
    if not wanted.endswith("*"):
        return f"({value} == {_quoted(wanted)})"
    if wanted.startswith("*"):
        return f"strcontains({value}, {_quoted(plain)})" if plain else "true"
    return f"(strncmp({value}, {_quoted(plain)}, {len(plain.encode())}) == 0)"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def field_value(field: Field) -> str:
    """What the program has for a field."""
    return _value(field.name, field)


def _value(name: str, field: Field | None) -> str:
    if name in _BUILTINS and (field is None or name.startswith("common_") or field.offset == 0):
        return _BUILTINS[name]
    if name.startswith("common_"):
        raise InsituError(f"{name} is not available here", remedy="hist triggers have it")
    if field is not None and (field_kind(field) == "pointer to text" or field.location):
        return f"str(args.{name})"
    return f"args.{name}"


def histogram_of(request: HistogramRequest, maps: Mapping[str, Columns], dropped: int) -> Histogram:
    """The columns of the program's maps as a histogram. ``dropped`` events found no free entry."""
    sums = [_by_key(maps[f"@v{number}"]) for number in range(len(request.values))]
    rows = []
    for found, hits in _by_key(maps["@hits"]).items():
        parts = iter(found)
        keys = tuple(_key(key, parts) for key in request.keys)
        rows.append(Row(keys, hits, tuple(each.get(found, 0) for each in sums)))
    return Histogram(request, tuple(rows), sum(row.hits for row in rows) + dropped, dropped)


def _by_key(columns: Columns) -> dict[tuple[Any, ...], int]:
    return {row[:-1]: int(row[-1]) for row in zip(*columns.values(), strict=True)}


def _key(key: HistField, parts: Any) -> Key:
    value = next(parts)
    if key.is_stack:
        return tuple(line.strip() for line in str(value).splitlines() if line.strip())
    if key.modifier == "execname":
        return f"{value} [{next(parts)}]"
    if key.modifier == "syscall":
        return f"{syscall_name(int(value))} [{value}]"
    if key.modifier == "log2":
        return f"2^{value}"
    if key.modifier == "hex":
        return f"{int(value):#x}"
    return value if isinstance(value, int) else str(value)
