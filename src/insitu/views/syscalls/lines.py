"""System calls as lines, byte for byte as strace(1) 6.1 shows them with -f."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from insitu.syscalls.call import (
    Call,
    Enter,
    Event,
    Executed,
    Exit,
    Exited,
    Forked,
    LostHere,
    Signal,
    Stopped,
)
from insitu.syscalls.decode import MOST_CHARACTERS, Decoder, call_name
from insitu.syscalls.facts import facts_of
from insitu.syscalls.selection import Selection
from insitu.terminal_text import printable
from insitu.views.syscalls.hexdump import dump_of
from insitu.views.syscalls.signals import exit_text, siginfo_text
from insitu.views.syscalls.timestamps import TimeOptions, Timestamps, seconds_text

if TYPE_CHECKING:
    from insitu.syscalls.decode import Piece

__all__ = ["LineOptions", "LinePrinter"]


class LineOptions(NamedTuple):
    """What stands around the calls."""

    columns: int = 40
    """Where results are aligned."""
    pids: str = "several"
    """When lines begin with a process id: "several" (``[pid 7] `` while there are several), "always", "never"."""
    times: TimeOptions = TimeOptions()
    numbers: bool = False
    """-n"""
    exits: bool = True
    """Whether exits are shown (-qq: not)."""
    superseded: bool = True
    """Whether threads that an execve of another one ends are shown (-qqq: not)."""
    signals: frozenset[int] | None = None
    """Of which deliveries are shown; None: all."""
    dump_reads: frozenset[int] | None = frozenset()
    dump_writes: frozenset[int] | None = frozenset()
    """Descriptors whose data is dumped; None: all."""


class _Thread:
    """What is known of a thread: its call, and how much of that is printed."""

    __slots__ = ("abi", "call_nr", "enter", "pid", "printed", "shown", "tid")

    def __init__(self, pid: int, tid: int) -> None:
        self.pid = pid
        self.tid = tid
        self.abi = "x86_64"
        self.call_nr = 0
        self.enter: Enter | None = None
        self.shown = True
        """Whether the call is selected, as far as its entry says."""
        self.printed = -1
        """How many of its arguments are printed; -1: not even its name."""


class LinePrinter:
    """Prints events, which come in time order. ``write`` gets text of whole lines, but for a last one."""

    def __init__(
        self,
        options: LineOptions,
        decoder: Decoder,
        write: Callable[[str], object],
        *,
        selection: Selection | None = None,
        stack_lines: Callable[[int], Sequence[str]] | None = None,
        attached: Callable[[LinePrinter, int], None] | None = None,
    ) -> None:
        """``stack_lines`` returns the lines of a stack; ``attached`` is called for each new child and thread."""
        self._options = options
        self._decoder = decoder
        self._write = write
        self._selection = selection or Selection()
        self._staged = self._selection.staged
        self._takes_all = self._selection.calls is None and not self._selection.paths
        self._stack_lines = stack_lines
        self._attached = attached
        self._times = Timestamps(options.times)
        self._timed = bool(options.times.absolute) or options.times.relative_digits >= 0
        self._dumps = options.dump_reads is None or options.dump_writes is None
        self._dumps = self._dumps or bool(options.dump_reads) or bool(options.dump_writes)
        self._threads: dict[int, _Thread] = {}
        self._open: _Thread | None = None
        """The thread whose call is the unfinished last line."""
        self._column = 0
        self._text: list[str] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            Enter: self._entered,
            Exit: self._left,
            Signal: self._signalled,
            Stopped: self._stopped,
            Exited: self._exited,
            Forked: self._forked,
            Executed: self._executed,
            LostHere: self._lost,
        }
        self._after_line: list[str] = []

    def deliver(self, events: Iterable[Event]) -> None:
        """Print events. The line of a call that has not returned is printed as far as it is known."""
        observe = None if self._selection.expression is None else self._selection.expression.observe
        for event in events:
            if observe is not None:
                observe(event)
            self._handlers[type(event)](event)
        if self._open is not None:
            self._begin(self._open)
        self._flush()

    def know(self, pid: int, tids: Iterable[int]) -> None:
        """Count threads that run when recording begins: with several, lines begin with their ids."""
        for tid in tids:
            self._thread(pid, tid)

    def note(self, line: str) -> None:
        """Print a line that is not of the trace, not before the unfinished one has its end."""
        if self._open is None or self._open.printed < 0:
            self._text.append(f"{line}\n")
        else:
            self._after_line.append(f"{line}\n")

    def finish(self) -> None:
        """Print that calls have not returned when recording ended: the last one; of selected calls, all of them."""
        if self._staged:
            for thread in self._threads.values():
                enter = thread.enter
                if enter is not None and thread.shown and self._selection.unfinished(Call(enter)):
                    self._put(self._leader(thread, enter.ts_ns))
                    self._begin(thread)
                    self._end_line(" <detached ...>")
        if self._open is not None:
            self._begin(self._open)
            self._end_line(" <detached ...>")
            self._open = None
        self._flush()

    # Events

    def _entered(self, event: Enter) -> None:
        thread = self._threads.get(event.tid) or self._thread(event.pid, event.tid)
        if self._open is thread:  # its exit has been lost
            self._interrupt_line()
        thread.enter = event
        thread.abi, thread.call_nr = event.abi, event.nr
        thread.shown = self._takes_all or self._selection.entry(event)
        thread.printed = -1
        if not thread.shown or self._staged:
            return
        if self._open is not None:
            self._interrupt_line()
        if leader := self._leader(thread, event.ts_ns):
            self._text.append(leader)
        self._column = len(leader)
        self._open = thread

    def _left(self, event: Exit) -> None:
        thread = self._threads.get(event.tid)
        if thread is None or thread.enter is None:
            return
        call = Call(thread.enter, event)
        thread.enter = None
        if not thread.shown:
            return
        if self._staged:
            if not self._selection.returned(call):
                return
            self._put(self._leader(thread, call.enter.ts_ns))
        digits = self._options.times.duration_digits
        took = f" <{seconds_text(call.dur_ns or 0, digits)}>" if digits >= 0 else ""
        if thread.printed < 0:
            head, result = self._decoder.text(call)
            self._put(head)
        else:
            self._resume(thread, call, event.ts_ns)
            self._put_rest(thread, call)
            result = self._decoder.result(call)
        self._end_call(result + took)
        if self._dumps:
            lines = dump_of(call, self._options.dump_reads, self._options.dump_writes)
            self._text += [f"{line}\n" for line in lines]
        if self._stack_lines is not None:
            self._text += [f" > {printable(line)}\n" for line in self._stack_lines(call.enter.stack)]

    def _signalled(self, event: Signal) -> None:
        wanted = self._options.signals
        if wanted is None or event.number in wanted:
            thread = self._thread(event.pid, event.tid)
            facts = facts_of(thread.abi)
            name = facts.signal_name(event.number)
            self._line(thread, event.ts_ns, f"--- {name} {siginfo_text(event, facts)} ---")

    def _stopped(self, event: Stopped) -> None:
        wanted = self._options.signals
        if wanted is None or event.number in wanted:
            thread = self._thread(event.pid, event.tid)
            name = facts_of(thread.abi).signal_name(event.number)
            self._line(thread, event.ts_ns, f"--- stopped by {name} ---")

    def _exited(self, event: Exited) -> None:
        thread = self._thread(event.pid, event.tid)
        enter = thread.enter
        if enter is not None and thread.shown:
            call = Call(enter)
            if not self._staged:
                self._never_returned(thread, call, event.ts_ns)
            elif self._selection.unfinished(call):
                self._put(self._leader(thread, enter.ts_ns))
                self._never_returned(thread, call, event.ts_ns)
        wanted = self._options.signals
        number = event.status & 0x7F
        if event.status < 0:  # not known, as in a session
            pass
        elif self._options.exits if not number else wanted is None or number in wanted:
            self._line(thread, event.ts_ns, exit_text(event.status, facts_of(thread.abi)))
        del self._threads[event.tid]

    def _never_returned(self, thread: _Thread, call: Call, ts_ns: int) -> None:
        self._resume(thread, call, ts_ns)
        pieces = self._decoder.arguments(call)
        entry = _known_at_entry(pieces)
        if thread.printed < 0:
            self._put(_entry_text(call.enter, pieces, entry))
        if entry < len(pieces):
            self._put(" <unfinished ...>")
        self._end_call("?")

    def _forked(self, event: Forked) -> None:
        self._thread(event.pid, event.tid)
        self._thread(event.child_pid, event.child_tid)
        if self._attached is not None:
            self._attached(self, event.child_tid)

    def _executed(self, event: Executed) -> None:
        if event.old_tid == event.tid:
            return
        leader = self._thread(event.pid, event.tid)
        thread = self._threads.pop(event.old_tid, None)
        if thread is not None and self._open is thread:
            self._begin(thread)
            self._end_line(f" <pid changed to {event.tid} ...>")
            self._open = None
        if self._options.superseded:
            self._line(leader, event.ts_ns, f"+++ superseded by execve in pid {event.old_tid} +++")
        if thread is not None:
            thread.tid = event.tid
            thread.pid = event.pid
            self._threads[event.tid] = thread

    def _lost(self, event: LostHere) -> None:
        self._interrupt_line()
        events = "event" if event.records == 1 else "events"
        self._put(f"... {event.records} {events} lost here ...")
        self._end_line("")

    # Parts of lines

    def _thread(self, pid: int, tid: int) -> _Thread:
        thread = self._threads.get(tid)
        if thread is None:
            thread = self._threads[tid] = _Thread(pid, tid)
        return thread

    def _leader(self, thread: _Thread, ts_ns: int) -> str:
        options = self._options
        if options.pids == "always":
            text = f"{thread.tid:<5} "
        elif options.pids == "several" and len(self._threads) > 1:
            text = f"[pid {thread.tid:5}] "
        else:
            text = ""
        if self._timed:
            text += self._times.text(ts_ns)
        return f"{text}[{thread.call_nr:4}] " if options.numbers else text

    def _line(self, thread: _Thread, ts_ns: int, text: str) -> None:
        self._interrupt_line()
        self._put(self._leader(thread, ts_ns))
        self._put(text)
        self._end_line("")

    def _begin(self, thread: _Thread) -> None:
        """Print of the open call what was known at its entry, unless that is done."""
        if thread.printed < 0 and thread.enter is not None:
            pieces = self._decoder.arguments(Call(thread.enter))
            thread.printed = _known_at_entry(pieces)
            self._put(_entry_text(thread.enter, pieces, thread.printed))

    def _interrupt_line(self) -> None:
        if self._open is not None:
            self._begin(self._open)
            self._end_line(" <unfinished ...>")
            self._open = None

    def _resume(self, thread: _Thread, call: Call, ts_ns: int) -> None:
        """Make the call's line the last one."""
        if self._open is thread or self._staged:
            return
        self._interrupt_line()
        self._put(self._leader(thread, ts_ns))
        self._put(f"<... {call_name(call.enter.abi, call.enter.nr)} resumed>")

    def _put_rest(self, thread: _Thread, call: Call) -> None:
        """Print the arguments that are not yet printed."""
        pieces = self._decoder.arguments(call)
        self._put(", ".join(piece.text for piece in pieces[thread.printed :])[:MOST_CHARACTERS])

    def _end_call(self, result: str) -> None:
        if not result.isprintable():
            result = printable(result)
        self._end_line(f") {' ' * (self._options.columns - self._column - 2)}= {result}")
        self._open = None

    def _put(self, text: str) -> None:
        if not text.isprintable():
            text = printable(text)
        self._column += len(text)
        self._text.append(text)

    def _end_line(self, text: str) -> None:
        self._text.append(f"{text}\n")
        self._column = 0
        if self._after_line:
            self._text += self._after_line
            self._after_line.clear()

    def _flush(self) -> None:
        if self._text:
            self._write("".join(self._text))
            self._text.clear()


def _known_at_entry(pieces: Sequence[Piece]) -> int:
    """Returns how many arguments are shown before the call returns: up to the first one that the kernel writes."""
    return next((at for at, piece in enumerate(pieces) if piece.at_exit), len(pieces))


def _entry_text(enter: Enter, pieces: Sequence[Piece], number: int) -> str:
    text = ", ".join(piece.text for piece in pieces[:number])[:MOST_CHARACTERS]
    more = ", " if 0 < number < len(pieces) else ""
    return f"{call_name(enter.abi, enter.nr)}({text}{more}"
