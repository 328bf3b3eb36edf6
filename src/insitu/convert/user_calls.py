"""Calls of user functions: the records of record/sources/user_calls.py to span and function_call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.convert.addresses import Addresses
from insitu.convert.call_rows import write_calls
from insitu.convert.call_spans import Calls, join_calls
from insitu.convert.probe_source import decoded_events
from insitu.convert.sources import RawSource
from insitu.convert.user_frames import ENDED, ENTRY, MOST_DEPTH, RETURN, UserRecords, user_frames
from insitu.session.call_table import LIBRARY_CALL, USER_FUNCTION, CallTable, with_totals
from insitu.session.coded_texts import CodedTexts
from insitu.session.core_tables import SPAN
from insitu.session.special_tables import FUNCTION_CALL
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import Frame
from insitu.symbols.prototypes import BLOCKS, TEXTS, Prototype, Recorded, call_text, result_text

if TYPE_CHECKING:
    import polars

__all__ = ["Joined", "UserCalls", "call_table", "convert_source", "prototypes_of"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_HEAD: Final = ("ts_ns", "tid", "pid", "cpu")
_WORDS: Final = ("a0", "a1", "a2", "a3", "a4", "a5")
_TEXTS: Final = tuple(f"s{n}" for n in range(TEXTS))
_BLOCKS: Final = tuple(f"b{n}" for n in range(BLOCKS))


class Joined(NamedTuple):
    """Calls, and for each row of them what its entry and its return hold. ``deep`` calls are left out."""

    calls: Calls
    enter: polars.DataFrame
    exit: polars.DataFrame
    deep: int


class UserCalls:
    """Collects the records, and joins them to calls at the end."""

    def __init__(self) -> None:
        self._parts: dict[str, list[polars.DataFrame]] = {"enter": [], "exit": [], "ended": []}

    def add(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        """Take decoded records by label."""
        import polars

        for label, columns in tables.items():
            self._parts[label.partition("_")[0]].append(polars.DataFrame(dict(columns)))

    def joined(self, end_ns: int) -> Joined:
        """All calls. Those that are open then have ended at ``end_ns``."""
        enter = self._table("enter", (*_HEAD, "f", "sp", "tail", *_WORDS), (*_TEXTS, *_BLOCKS))
        exit_ = self._table("exit", (*_HEAD, "sp", "seen", "value", "more"), ("text", "s0", "put", *_BLOCKS[:-1]))
        ended = self._table("ended", _HEAD)
        parts, kinds = (enter, exit_, ended), (ENTRY, RETURN, ENDED)
        column = {
            name: np.concatenate([each[name].to_numpy().astype(np.int64) for each in parts])
            for name in ("ts_ns", "tid", "cpu")
        }
        none = np.zeros(len(ended), np.int64)
        sp = np.concatenate([*(each["sp"].to_numpy().astype(np.int64) for each in (enter, exit_)), none])
        func = np.zeros(len(sp), np.int32)
        func[: len(enter)] = enter["f"].to_numpy()
        kind = np.repeat(np.array(kinds, np.int8), [len(each) for each in parts])
        i32 = {name: column[name].astype(np.int32) for name in ("tid", "cpu")}
        tail = np.zeros(len(sp), np.bool_)
        tail[: len(enter)] = enter["tail"].to_numpy()
        frames = user_frames(UserRecords(column["ts_ns"], i32["tid"], i32["cpu"], kind, func, sp, tail), end_ns)
        calls = join_calls(frames.records, np.zeros(0, np.int64), np.zeros(int(func.max(initial=0)) + 1, np.bool_))
        # Each entry has become a call.
        of_thread = np.lexsort((column["ts_ns"][frames.entry], i32["tid"][frames.entry]))
        of_call = np.lexsort((calls.ts_ns, calls.thread))
        row = np.zeros(len(of_call), np.int64)
        row[of_call] = of_thread
        exit_row = frames.exit[row] - len(enter)
        at = np.where(frames.exit[row] >= 0, exit_row, len(exit_))
        missing = exit_.clear(1)
        return Joined(
            calls,
            enter[frames.entry[row]],
            missing.vstack(exit_)[(at + 1) % (len(exit_) + 1)],
            frames.deep,
        )

    def _table(self, label: str, numbers: Sequence[str], memory: Sequence[str] = ()) -> polars.DataFrame:
        import polars

        schema = {**dict.fromkeys(numbers, polars.Int64), **dict.fromkeys(memory, polars.Binary)}
        schema |= {name: polars.UInt64 for name in (*_WORDS, "value", "more") if name in schema}
        parts = self._parts.pop(label)
        for each in parts:
            for name in memory:
                if name not in each:
                    each.insert_column(-1, polars.Series(name, [None] * len(each), dtype=schema[name]))
        typed = [each.select(polars.col(name).cast(kind) for name, kind in schema.items()) for each in parts]
        return polars.concat([polars.DataFrame(schema=schema), *typed])


def call_table(calls: Calls, names: Sequence[str]) -> CallTable:
    """The calls as reports take them; threads under their ids."""
    functions = [(name, USER_FUNCTION) for name in names]
    own = calls.self_ns
    times = (calls.ts_ns, calls.dur_ns, own, own)
    return with_totals(CallTable(*times, calls.thread, calls.cpu, calls.func, calls.parent, calls.depth, functions))


def prototypes_of(layout: Mapping[str, Any]) -> list[tuple[str, Prototype | None]]:
    """Names and prototypes of the functions, by number."""
    return [(str(name), Prototype.of_json(found) if found else None) for name, found in layout["functions"]]


def convert_source(source: RawSource, writer: SessionWriter, addresses: Addresses) -> None:
    """Write a source of kind "user_calls"."""
    for table in (SPAN, FUNCTION_CALL):
        writer.append(table, {})
    functions = prototypes_of(source.layout)
    collected = UserCalls()
    for tables in decoded_events(source, writer):
        collected.add(tables)
    found = collected.joined(source.manifest.end_ns)
    if found.deep:
        writer.notes.append(f"{found.deep} calls deeper than {MOST_DEPTH} are left out")
    rows = len(found.calls.ts_ns)
    if not rows:
        return
    libraries = set(source.layout["libraries"])
    module = str(source.layout["module"])
    frames = [
        Frame(name, "[library]" if number in libraries else module) for number, (name, _) in enumerate(functions)
    ]
    is_library = np.isin(found.calls.func, list(libraries)).astype(np.int32)
    categories = CodedTexts(is_library, (USER_FUNCTION, LIBRARY_CALL))
    ids = write_calls(writer, found.calls, frames, categories, found.enter["pid"].to_numpy().astype(np.int32))
    writer.append(FUNCTION_CALL, {"span_id": ids, **call_texts(found, functions)})


def call_texts(found: Joined, functions: Sequence[tuple[str, Prototype | None]]) -> dict[str, Any]:
    """Arguments and result of each call as text. That of equal ones is made once."""
    import polars

    known = polars.Series([prototype is not None for _, prototype in functions])
    prototypes = [prototype or Prototype() for _, prototype in functions]
    mask = known.gather(found.enter["f"])

    def texts(table: polars.DataFrame, text: Any) -> polars.Series:
        keyed = table.with_row_index("row").filter(mask)
        columns = table.columns
        distinct = keyed.select(columns).unique(maintain_order=True)
        made = polars.Series("made", [text(*each) for each in distinct.iter_rows()], dtype=polars.String)
        joined = keyed.join(distinct.with_columns(made), on=columns, nulls_equal=True, how="left")
        whole = polars.DataFrame({"row": np.arange(len(table), dtype=np.uint32)}).join(
            joined.select("row", "made"), on="row", how="left", maintain_order="left"
        )
        return whole["made"].fill_null("")

    def arguments(f: int, *values: Any) -> str:
        left = iter(values)
        words, texts, blocks = (list(islice(left, count)) for count in (len(_WORDS), TEXTS, BLOCKS))
        return call_text(prototypes[f], Recorded(words, texts, blocks, *left))

    def result(
        f: int, seen: int | None, value: int | None, more: int | None, text: bytes | None, *blocks: Any
    ) -> str:
        return result_text(prototypes[f], Recorded((value or 0, more or 0), (text,), blocks)) if seen else ""

    late, put = found.exit["s0"], found.exit["put"]
    value = polars.select(polars.when(put.is_not_null()).then(found.exit["value"])).to_series()
    return {
        "arguments": texts(
            found.enter.select("f", *_WORDS, *_TEXTS, *_BLOCKS).with_columns(late=late, put=put, value=value),
            arguments,
        ),
        "result": texts(
            found.enter.select("f").hstack(found.exit.select("seen", "value", "more", "text", *_BLOCKS[:-1])), result
        ),
    }
