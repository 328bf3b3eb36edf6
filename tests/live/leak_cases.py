"""Small programs whose heaps insitu leaks looks at."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from insitu.inspect.heap.leaks import Leaks

__all__ = ["FLAGS", "PROGRAMS", "Totals", "class_totals", "compiled", "waiting"]

PROGRAMS = Path(__file__).parent / "leak_programs"
FLAGS = ["-g", "-O0", "-w", "-fno-builtin", "-pthread"]

Totals = tuple[tuple[int, int], ...]


def compiled(directory: Path, name: str) -> Path:
    program = directory / name.replace(".", "_")
    compiler = "g++" if name.endswith(".cc") else "gcc"
    subprocess.run([compiler, *FLAGS, "-o", program, PROGRAMS / name], check=True)
    return program


@contextmanager
def waiting(*command: str | Path) -> Iterator["subprocess.Popen[str]"]:
    """A program that has said that it waits; it is killed at the end."""
    options: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, "WAIT": "1"}, **options) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def class_totals(found: Leaks) -> Totals:
    """The classes of all blocks but the C library's own."""
    mine = ~np.isin(found.heap.addresses, np.array(found.roots.own, np.uint64))
    sizes, kind = found.heap.sizes[mine], found.verdicts.kind[mine]
    return tuple((int(sizes[kind == number].sum()), int((kind == number).sum())) for number in range(4))
