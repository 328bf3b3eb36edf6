"""`make fuzz`: gives mutated inputs to the parsers of data from elsewhere. See docs/fuzzing.md."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from fuzz.engine import bound_memory, examine, limited
from fuzz.registry import TARGETS
from fuzz.workers import run

__all__ = ["main"]


def main(words: list[str] | None = None) -> int:
    """Run targets, or one input again; 1 if there are findings."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="default: all")
    parser.add_argument("--seconds", type=float, default=30, help="for each target (default: %(default)s)")
    parser.add_argument("--mutations", type=int, default=0, help="for each target, at most (default: no limit)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--unguided", action="store_true", help="do not keep the inputs that reach new lines")
    parser.add_argument("--input", type=Path, help="read this file with the target once, and show the traceback")
    options = parser.parse_args(words)
    names = options.target or list(TARGETS)
    if options.input is not None:
        return _again(names[0], options.input)
    total = 0
    print(f"{'target':18} {'mutations':>9} {'per s':>7} {'lines':>6} {'findings':>8}")
    for name in names:
        done = run(
            TARGETS[name],
            seconds=options.seconds,
            mutations=options.mutations,
            seed=options.seed,
            processes=options.processes,
            guided=not options.unguided,
        )
        rate = done.mutations / max(done.seconds, 1e-9)
        print(f"{name:18} {done.mutations:9} {rate:7.0f} {done.lines:6} {len(done.findings):8}", flush=True)
        total += len(done.findings)
    return 1 if total else 0


def _again(name: str, file: Path) -> int:
    with tempfile.TemporaryDirectory(prefix="insitu-fuzz-") as directory:
        read = TARGETS[name].reader(Path(directory))
        bound_memory()
        with limited():
            finding, end = examine(read, file.read_bytes())
    print(f"{finding.trace}{finding.what}" if finding else f"no finding{end and f': refused at {end}'}")
    return 1 if finding else 0


if __name__ == "__main__":
    sys.exit(main())
