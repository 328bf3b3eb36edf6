"""Runs code in a process with limits of memory and time, for tests of files made to be expensive."""

import subprocess
import sys

_DEADLINE_S = 120  # what has no end is ended; what is bounded takes seconds


def limited(code: str, *words: object, megabytes: int = 1500) -> str:
    """What Python code prints that may map ``megabytes`` beyond what its imports have mapped."""
    head = (
        "import resource, sys\n"
        "import insitu.symbols.symbolizer, insitu.symbols.module_symbols, insitu.symbols.debug_files\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from insitu.symbols.process_map import Module\n"
        "from insitu.symbols.symbolizer import Symbolizer\n"
        "mapped = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (mapped + ({megabytes} << 20),) * 2)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", head + code, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
    )
    assert not done.returncode, done.stderr[-2000:]
    return done.stdout
