"""`insitu guard -p PID --watch ADDRESS`: a program in the probe language prints and records each write."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from insitu import messages
from insitu.commands._options import require_session_name
from insitu.errors import InsituError

if TYPE_CHECKING:
    from insitu.session.reader import Session

__all__ = ["watch"]

_SIZES: Final = (1, 2, 4, 8)
_MOST_WRITES: Final = 100_000  # that are shown at the end

# The watchpoint is hit after the write; the timer ticks once all is attached. What the memory held is read before
# that: a write that comes before the first tick may follow others, and what was there before it is not known.
_PROGRAM: Final = """
config = {{ print_maps_on_exit = 0 }}
begin {{ @last = (uint64){first}; }}
watchpoint:{address:#x}:{size}:w {{
    $after = (uint64)*(uint{bits}*){address:#x};
    if (@said) {{
        printf("%s  %s (%d) wrote {address:#x}: 0x%x -> 0x%x, %s\\n",
               strftime("%H:%M:%S.%f", nsecs), comm, tid, @last, $after, usym(reg("ip")));
    }} else {{
        printf("watching {size} bytes at {address:#x}, which are being written; Ctrl-C ends it\\n");
        printf("%s  %s (%d) wrote {address:#x}: ? -> 0x%x, %s\\n",
               strftime("%H:%M:%S.%f", nsecs), comm, tid, $after, usym(reg("ip")));
    }}
    emit("write", (before = @last, after = $after, known = (uint64)@said, stack = ustack(dwarf)));
    @said = 1;
    @last = $after;
}}
interval:ms:100 / !@said / {{
    @said = 1;
    printf("watching {size} bytes at {address:#x}, which hold 0x%x; Ctrl-C ends it\\n", @last);
}}
"""


def watch(args: argparse.Namespace) -> int:
    """Watch until the process ends, -d is over or Ctrl-C; then show the writes by stack. Returns the exit status.

    Raises InsituError.
    """
    from insitu.convert.open import open_session
    from insitu.kernel.process_memory import ProcessMemory
    from insitu.temporary_directories import TemporaryDirectory

    pids = args.pid
    if len(pids) != 1:
        raise InsituError("--watch: an address is that of one process: -p PID", status=2)
    address, size = _place(args.watch)
    require_session_name(args.output)
    if not Path(f"/proc/{pids[0]}").exists():
        raise InsituError(f"no process {pids[0]}", remedy="ps -e lists processes")
    first = ProcessMemory().read(pids[0], address, size)
    if len(first) != size:
        raise InsituError(
            f"process {pids[0]} has no readable memory at {address:#x}", remedy="run as root, or see /proc/PID/maps"
        )
    program = _PROGRAM.format(address=address, size=size, bits=8 * size, first=int.from_bytes(first, sys.byteorder))
    temporary = None
    if not args.output:
        from tempfile import gettempdir

        temporary = TemporaryDirectory(gettempdir(), "insitu-guard-", "")
    try:
        path = args.output or f"{temporary.path if temporary else ''}/watch.insitu"
        status = _traced(args, pids[0], program, path)
        with open_session(Path(path)) as session:
            _show(args, session, address, size)
    finally:
        if temporary:
            temporary.remove()
    return status


def _place(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(0x[0-9a-fA-F]{1,16}|[0-9]{1,20})(?::([0-9]{1,2}))?", text)
    size = int(found[2] or 8) if found else 0
    if not found or size not in _SIZES:
        raise InsituError(
            f"--watch {text}: expected ADDRESS or ADDRESS:SIZE, where SIZE is 1, 2, 4 or 8 bytes", status=2
        )
    address = int(found[1], 0)
    if address % size or not 0 < address < 1 << 47:
        raise InsituError(
            f"--watch {text}: the address must be one of user space and a multiple of the size",
            remedy=f"{address & -size:#x}:{size} has it",
            status=2,
        )
    return address, size


def _traced(args: argparse.Namespace, pid: int, program: str, path: str) -> int:
    from insitu.commands import trace

    parser = argparse.ArgumentParser()
    trace.arguments(parser)
    words = ["-q", "-p", str(pid), "-e", program, "-o", path]
    if args.duration:
        words += ["-d", str(args.duration)]
    given = parser.parse_args(words)
    given.after_dashes, given.foreign_options = None, []
    if args.json:
        import contextlib

        with contextlib.redirect_stdout(sys.stderr):
            return trace.run(given)
    return trace.run(given)


def _show(args: argparse.Namespace, session: Session, address: int, size: int) -> None:
    """The writes by stack: how many, and the values of the last one."""
    writes = _writes(session)
    if args.json:
        from insitu.valid_text import json_document

        shown = {"format": "insitu-guard-watch-1", "address": f"{address:#x}", "size_bytes": size, "writes": writes}
        print(json_document(shown))
        return
    from insitu.views.guard_watch import write_blocks
    from insitu.views.terminal import Screen

    Screen.of(sys.stdout).write(write_blocks(writes, most=args.max_frames))
    if not args.quiet:
        count = "no write" if not writes else "1 write" if len(writes) == 1 else f"{len(writes):,} writes"
        where = f", in {args.output}" if args.output else ""
        messages.note(f"{count} of {size} bytes at {address:#x}{where}")


def _writes(session: Session) -> list[dict[str, Any]]:
    if "event.write" not in session.tables:
        return []
    rows = session.sql(
        'select w.ts_ns, t.tid, t.name, case when w.known > 0 then w."before" end, w."after", w.stack '
        f"from event.write w left join thread t on t.utid = w.utid order by w.ts_ns limit {_MOST_WRITES}"
    )
    frames: dict[int, list[dict[str, Any]]] = {}
    for stack, function, module, file, line in session.sql(
        "select stack, function, module, file, line from stack_frame "
        "where stack in (select stack from event.write) order by stack, position"
    ).iter_rows():
        frames.setdefault(stack, []).append({"function": function, "module": module, "file": file, "line": line})
    names = ("ts_ns", "tid", "name", "before", "after")
    return [dict(zip(names, row[:-1], strict=True)) | {"stack": frames.get(row[-1], [])} for row in rows.iter_rows()]
