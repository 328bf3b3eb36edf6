"""System calls: the records of record/sources/syscalls_script.py to span, syscall, descriptor and signal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from insitu.convert.addresses import Addresses
from insitu.convert.call_halves import Halves, Joined
from insitu.convert.call_stacks import call_stacks
from insitu.convert.descriptors import Descriptors
from insitu.convert.probe_source import decoded_events, stack_nodes, table_rows
from insitu.convert.programs import Programs
from insitu.convert.sources import RawSource
from insitu.session.core_tables import DESCRIPTOR, SIGNAL, SPAN, SYSCALL
from insitu.session.writer import SessionWriter
from insitu.syscalls.argument import TextOptions
from insitu.syscalls.call import NOTHING, Call, Enter, Exit, Memory, Pieces, path_at
from insitu.syscalls.call_word import ABI_SHIFT, SEQUENCE, abis_of, following, number_of
from insitu.syscalls.capture_words import stack_pointer_of
from insitu.syscalls.decode import Decoder, call_name, signature_of
from insitu.syscalls.descriptors import descriptor_arguments
from insitu.syscalls.exec_arguments import missing_arguments
from insitu.syscalls.facts import facts_of
from insitu.syscalls.sockets import netlink_word
from insitu.valid_text import valid_text

if TYPE_CHECKING:
    import polars

__all__ = ["convert_source", "path_of", "write_signals"]

I64 = NDArray[np.int64]

_ARGUMENTS: Final = ("a0", "a1", "a2", "a3", "a4", "a5")


def convert_source(source: RawSource, writer: SessionWriter, addresses: Addresses) -> None:
    """Write a source of kind "syscalls"."""
    descriptors = Descriptors(writer)
    for table in (SPAN, SYSCALL, SIGNAL, DESCRIPTOR):
        writer.append(table, {})
    halves = Halves()
    programs = Programs(writer)
    calls = _Calls(writer, abis_of(str(source.layout["machine"])), int(source.layout["string_limit"]))
    for tables in decoded_events(source, writer):
        if "stack" in tables:
            calls.add_stacks(tables["stack"], addresses)
        if "netlink" in tables:
            calls.add_netlink(tables["netlink"])
        calls.add_programs(tables)
        calls.write(halves.add(tables))
        programs.add(tables)
        descriptors.add(tables)
        if signals := _signals(tables):
            write_signals(signals, writer)
    rest = halves.add({}, last=True)
    calls.write(rest)
    if rest.lost_after:
        writer.lost(source.id, rest.lost_after)
    descriptors.write(calls.closed)


class _Calls:
    """Writes calls, the text of equal ones made once."""

    def __init__(self, writer: SessionWriter, abis: Any, string_limit: int) -> None:
        self._writer = writer
        self._abis = abis
        self._decoder = Decoder(TextOptions(string_limit=string_limit))
        self._stacks: dict[tuple[int, int], int] = {}
        self._netlink: dict[tuple[int, int], tuple[int, str]] = {}
        self._programs: dict[tuple[int, int], tuple[bytes, bytes]] = {}
        self.closed: list[tuple[int, int, int]] = []
        """(process, descriptor, time) of each close()."""
        self._texts: dict[Any, tuple[str, int | None, str | None]] = {}

    def write(self, joined: Joined) -> None:
        """Write the calls of a window to ``span`` and ``syscall``."""
        import polars

        enter, rows = joined.enter, len(joined.enter["tid"])
        if not rows:
            return
        joined = self._completed(joined)
        ts_ns = enter["ts_ns"].astype(np.int64)
        open_ = joined.exit_of < 0
        exit_of = np.where(open_, 0, joined.exit_of)
        if len(joined.exit["tid"]):
            ret = np.where(open_, 0, joined.exit["ret"][exit_of])
            ended_ns = joined.exit["ts_ns"].astype(np.int64)[exit_of]
        else:
            ret = ended_ns = np.zeros(rows, np.int64)
        dur = np.ma.masked_array(np.where(open_, 0, ended_ns - ts_ns), open_)
        abi = (enter["call"] >> np.uint64(ABI_SHIFT)).astype(np.int64) & 3
        nr = enter["nr"].astype(np.int64)
        for index, each in enumerate(self._abis):
            nr[abi == index] |= number_of(each, 0)
        failed = ~open_ & (ret < 0) & (ret > -4096)
        texts = self._text(joined, abi, nr, ret, open_)
        names = _names(self._abis, abi, nr)
        ids = self._writer.span_ids(rows)
        self._writer.append(
            SPAN,
            {
                "id": ids,
                "ts_ns": ts_ns,
                "dur_ns": dur,
                "self_ns": dur,
                "utid": self._writer.processes.utids(
                    enter["tid"].astype(np.int32), ts_ns, enter["pid"].astype(np.int32)
                ),
                "cpu": enter["cpu"],
                "category": ["syscall"] * rows,
                "name": names,
                "stack": call_stacks(self._writer, names, self._stacks_of(enter["tid"], enter["call"])),
            },
        )
        arguments = polars.DataFrame({name: enter[name] for name in _ARGUMENTS})
        self._writer.append(
            SYSCALL,
            {
                "span_id": ids,
                "abi": [self._abis[each] for each in abi.tolist()],
                "nr": nr,
                "ret": np.ma.masked_array(ret, open_),
                "errno": np.ma.masked_array(np.where(failed, -ret, 0).astype(np.int32), ~failed),
                "arguments": texts["text"],
                "args": arguments.select(polars.concat_list(_ARGUMENTS)).to_series(),
                "fd": texts["fd"].to_list(),
                "path": texts["path"],
                "lost_before": joined.lost,
            },
        )
        closes = np.flatnonzero((nr == facts_of(self._abis[0]).numbers["close"]) & (abi == 0) & ~open_ & (ret == 0))
        ended = (enter["pid"][closes], enter["a0"][closes] & np.uint64(0xFFFFFFFF), ended_ns[closes])
        self.closed += zip(*(each.tolist() for each in ended), strict=True)

    def add_stacks(self, columns: Mapping[str, Any], addresses: Addresses) -> None:
        """Take the stacks of entries, which come before these."""
        nodes = stack_nodes(columns["user"], addresses, np.asarray(columns["ts_ns"]).astype(np.int64))
        keys = zip(np.asarray(columns["tid"]).tolist(), np.asarray(columns["call"]).tolist(), strict=True)
        self._stacks.update(zip(keys, nodes.tolist(), strict=True))

    def add_netlink(self, columns: Mapping[str, Any]) -> None:
        """Take what messages are of netlink sockets, before the calls that send or receive them."""
        for tid, call, fd, protocol, port in table_rows(columns, ("tid", "call", "fd", "protocol", "port")):
            self._netlink[tid, following(call)] = (fd, netlink_word(protocol, port))

    def add_programs(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        """Take the arguments and the path of each program that was executed, before its execve() is written."""
        if "executed" in tables:
            for tid, call, strings in table_rows(tables["executed"], ("tid", "call", "data")):
                self._programs[tid, call] = (strings, b"")
            for tid, call, path in table_rows(tables.get("program"), ("tid", "call", "path")):
                strings, _ = self._programs.get((tid, call), (b"", b""))
                self._programs[tid, call] = (strings, os.fsencode(path))

    def _completed(self, joined: Joined) -> Joined:
        """Returns the calls with what the entry of execve() could not read, as the new program has it."""
        pieces = dict(joined.pieces)
        if self._programs:
            enter = joined.enter
            for row, key in enumerate(zip(enter["tid"].tolist(), enter["call"].tolist(), strict=True)):
                if key in self._programs:
                    strings, path = self._programs.pop(key)
                    known = pieces.get((row, False), [])
                    size = 8 if not key[1] >> ABI_SHIFT & 3 else 4
                    late = missing_arguments(Pieces(known), int(enter["a1"][row]), strings, size)
                    if enter["address"][row] and not enter["data"][row]:
                        late.append((int(enter["address"][row]), path + b"\0"))
                    pieces[row, False] = [*known, *late]
        return joined._replace(pieces=pieces)

    def _netlink_of(self, enter: Mapping[str, Any]) -> list[str]:
        """Pieces.netlink of each call."""
        if not self._netlink:
            return [""] * len(enter["tid"])
        rows = zip(*(enter[name].tolist() for name in ("tid", "call", "a0")), strict=True)
        found = [(self._netlink.pop((tid, call >> SEQUENCE), (-1, "")), a0 & 0xFFFFFFFF) for tid, call, a0 in rows]
        return [word if fd == a0 else "" for (fd, word), a0 in found]

    def _stacks_of(self, tids: Any, calls: Any) -> NDArray[np.int32]:
        if not self._stacks:
            return np.zeros(len(tids), np.int32)
        keys = zip(tids.tolist(), calls.tolist(), strict=True)
        return np.array([self._stacks.pop(key, 0) for key in keys], np.int32)

    def _text(self, joined: Joined, abi: I64, nr: I64, ret: I64, open_: Any) -> polars.DataFrame:
        """Arguments' text, descriptor and path of each call; those of equal calls are made once."""
        import polars

        enter, exit_ = joined.enter, joined.exit
        after = [exit_["data"][row] if row >= 0 else None for row in joined.exit_of.tolist()]
        netlink = self._netlink_of(enter)
        further = np.zeros(len(nr), np.int64)
        for number, (row, _) in enumerate(joined.pieces):
            further[row] = number + 1
        frame = polars.DataFrame(
            {
                "abi": abi,
                "nr": nr,
                **{name: enter[name] for name in _ARGUMENTS},
                "ret": ret,
                "before": polars.Series(enter["data"], dtype=polars.Binary),
                "after": polars.Series(after, dtype=polars.Binary),
                "further": further,
                "netlink": netlink,
            }
        )
        # Seeded: what a traced program passes must not make two different calls look the same.
        hashes = frame.hash_rows(seed=int.from_bytes(os.urandom(7))).to_numpy()
        _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
        made = [
            self._one(joined, row, netlink[row], int(abi[row]), int(nr[row]), int(ret[row]), bool(open_[row]))
            for row in first
        ]
        distinct = polars.DataFrame(
            made, schema={"text": polars.String, "fd": polars.Int64, "path": polars.String}, orient="row"
        )
        return distinct[which.reshape(-1)]

    def _one(
        self, joined: Joined, row: int, netlink: str, abi: int, nr: int, ret: int, is_open: bool
    ) -> tuple[str, int | None, str | None]:
        enter = joined.enter
        args = tuple(int(enter[name][row]) for name in _ARGUMENTS)
        word = self._abis[abi]
        before = _memory(int(enter["address"][row]), enter["data"][row], joined.pieces.get((row, False), []), netlink)
        pointer = stack_pointer_of(word, nr, getattr(before, "pieces", ()))
        entered = Enter(0, 0, 0, word, nr, args, before, stack_pointer=pointer)
        exited = None
        if not is_open:
            at = int(joined.exit_of[row])
            address, data = int(joined.exit["address"][at]), joined.exit["data"][at]
            exited = Exit(0, 0, 0, ret, _memory(address, data, joined.pieces.get((row, True), []), netlink))
        text = ", ".join(piece.text for piece in self._decoder.arguments(Call(entered, exited)))
        fds = descriptor_arguments(word, nr)
        fd = args[fds[0]] & 0xFFFFFFFF if fds else None
        return text, None if fd is None or fd >> 31 else fd, path_of(entered)


def _memory(address: int, data: bytes, further: list[tuple[int, bytes]], netlink: str) -> Memory:
    if not data and not further:
        return NOTHING
    return Pieces([*further, (address, data)] if data else further, netlink=netlink)


def path_of(enter: Enter) -> str | None:
    """The first path among the arguments."""
    for index, parameter in enumerate(signature_of(enter.abi, enter.nr).parameters):
        if parameter.kind == "path":
            path = path_at(enter, enter.args[index])
            return None if path is None else valid_text(path)
    return None


def _names(abis: Any, abi: I64, nr: I64) -> list[str]:
    key = abi << 32 | nr
    values, which = np.unique(key, return_inverse=True)
    names = [call_name(abis[value >> 32], value & 0xFFFFFFFF) for value in values.tolist()]
    return [names[each] for each in which.reshape(-1).tolist()]


def _signals(tables: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Signals that were delivered, and those that were ignored or fatal, as columns of Signal's fields."""
    found = []
    if "signal" in tables:
        found.append(tables["signal"])
    if "sent" in tables:
        found.append({**tables["sent"], "tid": tables["sent"]["to_tid"], "pid": tables["sent"]["to_pid"]})
    if not found:
        return None
    names = ("ts_ns", "tid", "pid", "number", "code", "sender_pid", "address")
    return {name: np.concatenate([np.asarray(each[name]).astype(np.uint64) for each in found]) for name in names}


# include/uapi/asm-generic/siginfo.h: SI_USER, SI_QUEUE and SI_TKILL; positive codes of these signals have an address.
_SENT: Final = (0, -1, -6)
_FAULTS: Final = (4, 5, 7, 8, 11)


def write_signals(columns: Mapping[str, Any], writer: SessionWriter) -> None:
    """Write columns of Signal's fields to ``signal``."""
    ts_ns = np.asarray(columns["ts_ns"]).astype(np.int64)
    number = np.asarray(columns["number"]).astype(np.int64)
    code = np.asarray(columns["code"]).astype(np.int64).astype(np.int32)
    sent = np.isin(code, _SENT) | (number == 17)
    fault = np.isin(number, _FAULTS) & (code > 0)
    name = facts_of("x86_64").signal_name
    order = np.argsort(ts_ns, kind="stable")
    batch: dict[str, Any] = {
        "ts_ns": ts_ns[order],
        "utid": writer.processes.utids(
            np.asarray(columns["tid"])[order].astype(np.int32),
            ts_ns[order],
            np.asarray(columns["pid"])[order].astype(np.int32),
        ),
        "number": number[order],
        "name": [name(each) for each in number[order].tolist()],
        "code": code[order],
        "sender_pid": np.ma.masked_array(np.asarray(columns["sender_pid"]).astype(np.int32)[order], ~sent[order]),
        "address": np.ma.masked_array(np.asarray(columns["address"]).astype(np.uint64)[order], ~fault[order]),
    }
    writer.append(SIGNAL, batch)
