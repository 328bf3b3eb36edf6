"""Runs inside a guest: `insitu trace TOOL -c 'PROVOKE EVENT'` for each tool, started the way the command is.

``trace_all.py PROVOKE AT_ONCE RESULTS`` reads a JSON object, tool -> event, from its standard input and makes RESULTS
one: tool -> exit status, what it wrote, and what its event knows. A tool is the words of the command: ``-a tcplife``.
PROVOKE is a script beside this one, AT_ONCE how many are traced together. One process has everything loaded and
forks for each tool: an emulated machine takes ten seconds to load Python, LLVM and the kernel's types.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from insitu.cli import main

_PROVOKE = Path(__file__).parent / sys.argv[1]
_AT_ONCE = int(sys.argv[2])
_SECONDS = 1200  # it ends with its command
# Loads what all of them use, to be inherited: types, LLVM, every part of the command.
_FIRST = """
kprobe:vfs_read /pid == 0/ { @[((struct sock *)arg0)->sk_ack_backlog] = count(); printf("%s", str(arg1)); }
BEGIN { @h = hist(1); exit(); }
"""


def _start(tool: str, event: str, directory: Path) -> int:
    """A process that is insitu, tracing: its pid."""
    pid = os.fork()
    if pid:
        return pid
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(directory / name, os.O_WRONLY | os.O_CREAT), descriptor)
    words = tool.split()
    name = next(Path(word).stem for word in words if not word.startswith("-"))
    command = f"{sys.executable} -I -S {_PROVOKE} {event} {name} {directory}/facts"
    status = 1
    try:
        status = main(["trace", *words, "-d", str(_SECONDS), "-c", command])
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(status)


def _result(directory: Path, status: int, seconds: float) -> dict[str, object]:
    texts = {name: (directory / name).read_bytes().decode(errors="replace") for name in ("stdout", "stderr")}
    facts = directory / "facts"
    return {
        "status": os.waitstatus_to_exitcode(status),
        "seconds": round(seconds, 1),
        "facts": json.loads(facts.read_text()) if facts.exists() else None,
        **texts,
    }


def trace_all(tools: dict[str, str]) -> dict[str, object]:
    """What became of each tool."""
    waiting, running, results = list(tools.items()), {}, {}
    main(["trace", "-q", "-e", _FIRST, "-o", "/dev/null"])
    while waiting or running:
        while waiting and len(running) < _AT_ONCE:
            tool, event = waiting.pop(0)
            directory = Path(tempfile.mkdtemp())
            running[_start(tool, event, directory)] = (tool, directory, time.monotonic())
        pid, status = os.wait()
        tool, directory, started = running.pop(pid)
        results[tool] = _result(directory, status, time.monotonic() - started)
    return results


if __name__ == "__main__":
    # The guest's own: this machine's lies behind 9p.
    os.environ["XDG_CACHE_HOME"] = "/run/cache"
    subprocess.run([sys.executable, "-I", "-S", _PROVOKE, "setup", "setup", "/dev/null"], check=True)
    Path(sys.argv[3]).write_text(json.dumps(trace_all(json.load(sys.stdin))))
