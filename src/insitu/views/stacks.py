"""The stacks of a process's threads as text: what they wait for in words first, equal stacks once."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from insitu.inspect.lock_waits import Wait
from insitu.inspect.stacks import Call, Process, Thread
from insitu.symbols.frame import Frame
from insitu.views.quantity import duration
from insitu.views.terminal import Block, Line, Prose

__all__ = ["blocks", "document", "without_owners"]

# fs/proc/array.c: task_state_array
_STATES: Final = {
    "R": "running",
    "S": "sleeping",
    "D": "in an uninterruptible sleep",
    "T": "stopped",
    "t": "stopped by a tracer",
    "Z": "a zombie",
    "X": "dead",
    "I": "idle",
    "P": "parked",
}
_CALLS: Final = {"restart_syscall": "a call that was interrupted and goes on (restart_syscall)"}
_MOST_TIDS: Final = 8  # that are listed of threads with equal stacks


def blocks(
    process: Process, waits: Sequence[Wait], circles: Sequence[Sequence[Wait]], *, group: bool, most: int
) -> Iterator[Block]:
    """The deadlocks in words, then each stack with its threads. ``most``: frames of a stack, 0: all."""
    count = len(process.threads)
    what = f"{process.name} ({process.pid}): {count:,} {'thread' if count == 1 else 'threads'}"
    yield Prose([(what + (f", stopped for {duration(process.stopped_ns)}" if process.stopped_ns else ""), "bold")])
    for circle in circles:
        yield []
        yield Prose([("Deadlock: ", "bold red"), (_circle(circle), "bold")])
    by_waiter = {wait.waiter.tid: wait for wait in waits}
    for threads in _grouped(process.threads, by_waiter) if group else [[each] for each in process.threads]:
        yield []
        yield from _stack(threads, by_waiter, most)


def without_owners(process: Process, unowned: int) -> Line:
    """That no thread of a process waits for another one, as far as that is known."""
    words = "no thread waits for a lock whose owner is known"
    if unowned:
        what = "1 waits in futex for what" if unowned == 1 else f"{unowned:,} wait in futex for what"
        words += f"; {what} names no owner (Python's locks, semaphores, condition variables)"
    return Prose([(f"{process.name} ({process.pid}): ", "bold"), (words, "")])


def _circle(circle: Sequence[Wait]) -> str:
    return "; ".join(f"{_thread(wait.waiter)} waits for {_held(wait)}" for wait in circle)


def _held(wait: Wait) -> str:
    if wait.kind == "thread":
        return f"{_thread(wait.owner)} to end"
    itself = " itself" if wait.owner.tid == wait.waiter.tid else ""
    return f"the {wait.kind} {wait.name or f'at {wait.address:#x}'}, held by {_thread(wait.owner)}{itself}"


def _thread(thread: Thread) -> str:
    return f"{thread.name}/{thread.tid}"


def _grouped(threads: Sequence[Thread], waits: Mapping[int, Wait]) -> list[list[Thread]]:
    """Threads with equal stacks, in the order of the first of each; one that waits for another stays alone."""
    groups: dict[Any, list[Thread]] = {}
    for thread in threads:
        call = thread.call.name if thread.call else ""
        key = (thread.state, call, tuple(thread.frames), tuple(thread.kernel), thread.why)
        groups.setdefault(thread.tid if thread.tid in waits else key, []).append(thread)
    return list(groups.values())


def _stack(threads: Sequence[Thread], waits: Mapping[int, Wait], most: int) -> Iterator[Line]:
    first = threads[0]
    names = ", ".join(dict.fromkeys(thread.name for thread in threads))
    if len(threads) == 1:
        who = f"{first.tid}  {names}"
    else:
        tids = ", ".join(str(thread.tid) for thread in threads[:_MOST_TIDS])
        more = f" and {len(threads) - _MOST_TIDS} more" if len(threads) > _MOST_TIDS else ""
        who = f"{len(threads)} threads  {names} ({tids}{more})"
    state = _STATES.get(first.state, first.state)
    doing = f"{state} in {_CALLS.get(first.call.name, first.call.name)}{_files(threads)}" if first.call else state
    held = f", waits for {_held(waits[first.tid])}" if first.tid in waits else ""
    yield Prose([(who, "bold"), (f"  {doing}{held}", "")])
    frames = [*first.kernel, *first.frames]
    for number, frame in enumerate(frames[: most or None]):
        yield _frame(number, frame)
    if most and len(frames) > most:
        yield [(f"      ... {len(frames) - most} more; --max-frames 0 shows all", "dim")]
    elif first.cut:
        yield [("      ... goes on, but cannot be unwound further", "yellow")]
    if first.why:
        yield Prose([(f"      no user stack: {first.why}", "dim")])


def _files(threads: Sequence[Thread]) -> str:
    """What the calls of threads with equal stacks are about."""
    shown = list(
        dict.fromkeys(_file(each.call) for each in threads if each.call and each.call.descriptor is not None)
    )
    if not shown:
        return ""
    others = len(shown) - 1
    return f" of {shown[0]}" + (f" and {others:,} {'other' if others == 1 else 'others'}" if others else "")


def _file(call: Call) -> str:
    return f"descriptor {call.descriptor}" + (f", {call.file}" if call.file else "")


def _frame(number: int, frame: Frame) -> Line:
    line: Line = [(f"  #{number:<3}", "dim"), (frame.function, "" if frame.symbolized else "dim")]
    if frame.inlined:
        line.append((" (inlined)", "dim"))
    if frame.line:
        line.append((f"  {frame.file.rpartition('/')[2]}:{frame.line}", "cyan"))
    elif frame.module:
        line.append((f"  {frame.module.rpartition('/')[2]}", "dim"))
    return line


def document(process: Process, waits: Sequence[Wait], circles: Sequence[Sequence[Wait]]) -> dict[str, Any]:
    """The same for JSON."""
    return {
        "pid": process.pid,
        "name": process.name,
        "stopped_ns": process.stopped_ns,
        "threads": [
            {
                "tid": thread.tid,
                "name": thread.name,
                "state": thread.state,
                "call": thread.call._asdict() if thread.call else None,
                "frames": [frame._asdict() for frame in thread.frames],
                "kernel": [frame.function for frame in thread.kernel],
                "truncated": thread.cut,
                "why": thread.why or None,
            }
            for thread in process.threads
        ],
        "waits": [
            {
                "waiter": wait.waiter.tid,
                "owner": wait.owner.tid,
                "kind": wait.kind,
                "address": f"{wait.address:#x}",
                "name": wait.name or None,
            }
            for wait in waits
        ],
        "deadlocks": [[wait.waiter.tid for wait in circle] for circle in circles],
    }
