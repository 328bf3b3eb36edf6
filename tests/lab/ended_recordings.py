"""Runs in a guest: ends recordings of calls at each of their writes to tracefs, and prints what was not put back.

SIGNAL FIRST STEP WORD...: the number of a signal, which of the moments (the first, and each STEP-th after), and the
arguments of insitu. The moments are before and after each write. Output is JSON.
"""

import atexit
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from insitu import cli
from insitu.kernel import shared_settings
from insitu.kernel.tracefs import Tracefs
from insitu.kernel.tracefs_leftovers import remove_dead

TRACEFS = Path("/sys/kernel/tracing")
# What somebody has set: hardly any of it is the kernel's own choice.
SETTINGS = {
    "trace_clock": "global",
    "buffer_size_kb": "96",
    "buffer_percent": "40",
    "tracing_on": "1",
    "options/event-fork": "1",
    "options/function-fork": "0",
    "set_ftrace_notrace": "vfs_statx",
    "set_event_pid": "1",
    "max_graph_depth": "0",
    "set_graph_function": "",
    "set_graph_notrace": "",
    "set_ftrace_filter": "",
    "set_ftrace_pid": "",
    "current_tracer": "nop",
}
_write, _replace = Tracefs._put, os.replace


def main() -> None:
    number, first, step = map(int, sys.argv[1:4])
    words = sys.argv[4:]
    for path, text in SETTINGS.items():
        (TRACEFS / path).write_text(text)
    before = state()
    moments = run(words, 0, 0)
    found: dict[str, Any] = {"moments": moments, "tried": 0, "left": 0, "wrong": []}
    for moment in range(1 + first, 1 + moments, step):
        run(words, number, moment)
        found["tried"] += 1
        if number == signal.SIGKILL:
            found["left"] += state() != before
            with closing(Tracefs.open()) as tracefs:
                remove_dead(tracefs)
        now = state()
        if now != before:
            found["wrong"].append([moment, {path: text for path, text in now.items() if text != before[path]}])
            before = now
    json.dump(found, sys.stdout)


def state() -> dict[str, str]:
    """All that is compared."""
    found = {path: (TRACEFS / path).read_text().replace("no pid\n", "") for path in SETTINGS}
    found["dynamic events"] = (TRACEFS / "dynamic_events").read_text()
    found["instances"] = " ".join(sorted(each.name for each in (TRACEFS / "instances").iterdir()))
    found["notes"] = " ".join(sorted(each.name for each in Path("/run/insitu").glob("*")))
    return found


def run(words: list[str], number: int, moment: int) -> int:
    """Run insitu in a process of its own, which gets a signal at a moment; returns how many there were."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.setsid()
        null = os.open(os.devnull, os.O_WRONLY)
        for fd in (1, 2):
            os.dup2(null, fd)
        seen = 0

        def around(action: Callable[..., Any]) -> Callable[..., Any]:
            def called(*given: Any) -> Any:
                nonlocal seen
                seen += 1
                if seen == moment:
                    os.kill(os.getpid(), number)
                result = action(*given)
                seen += 1
                if seen == moment:
                    os.kill(os.getpid(), number)
                return result

            return called

        Tracefs._put = around(_write)  # type: ignore[method-assign]
        shared_settings.os.replace = around(_replace)  # type: ignore[attr-defined]
        try:
            cli.main(words)
        finally:
            atexit._run_exitfuncs()
            os.write(writing, str(seen).encode())
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:  # noqa: PTH123
        counted = file.read()
    os.waitpid(child, 0)
    return int(counted or 0)


if __name__ == "__main__":
    main()
