"""perf as the peer: recordings made with it, and what perf script says is in them."""

import re
import subprocess
from collections import Counter
from pathlib import Path

from insitu.session.weighted_stacks import WeightedStacks


def perf_record(output: Path, *options: str, command: list[str], cwd: Path | None = None) -> Path:
    words = ["perf", "record", "-q", "-o", str(output), *options, "--", *command]
    for _ in range(3):
        done = subprocess.run(words, capture_output=True, text=True, cwd=cwd)
        assert output.exists(), done.stderr
        if _is_finished(output):
            return output
    raise AssertionError(f"perf record did not finish its file: status {done.returncode}, {done.stderr}")


def _is_finished(output: Path) -> bool:
    """Whether perf record got as far as writing the header again. Seen once in many runs: it did not, by itself."""
    with (output / "data" if output.is_dir() else output).open("rb") as file:
        head = file.read(56)
    return int.from_bytes(head[8:16], "little") == 16 or head[48:56] != bytes(8)  # pipe mode, or the data's size


def perf_folded(path: Path, *options: str, keep_ends: bool = False) -> Counter[str]:
    """perf script's stacks, folded: the ten lines that everybody writes.

    perf makes a frame of the return address 0 (less one) where a stack copy ends: left out unless ``keep_ends``.
    """
    text = subprocess.run(
        ["perf", "script", "-i", str(path), "-F", "comm,ip,sym", *options], capture_output=True, text=True, check=True
    ).stdout
    stacks: Counter[str] = Counter()
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.strip()]
        if not lines:
            continue
        frames = [line.split(None, 1) for line in lines[1:] if keep_ends or not line.split()[0].endswith("f" * 16)]
        frames = [name.removesuffix(" (inlined)") for _, name in frames]
        stacks[";".join([lines[0].strip(), *reversed(frames)])] += 1
    return stacks


def our_folded(stacks: WeightedStacks, *, inlined: bool = True) -> Counter[str]:
    """The same from weighted stacks, frame by frame; what has no symbol is called [unknown], as perf does.

    Where a stack is longer than its copy, ours say so by a frame, which perf's lack.
    """
    names = [f";{frame.function if frame.symbolized else '[unknown]'}" for frame in stacks.frames]
    names = ["" if name == ";[stack truncated]" else name for name in names]
    if not inlined:
        names = ["" if frame.inlined else name for frame, name in zip(stacks.frames, names, strict=True)]
    texts = [""]
    for parent, frame in zip(stacks.parent[1:].tolist(), stacks.frame[1:].tolist(), strict=True):
        texts.append(texts[parent] + names[frame])
    found: Counter[str] = Counter()
    rows = zip(stacks.thread.tolist(), stacks.stack.tolist(), stacks.count.tolist(), strict=True)
    for thread, stack, count in rows:
        found[stacks.threads[thread].name + texts[stack]] += count
    return found


def source_names(stacks: Counter[str]) -> Counter[str]:
    """With what compilers and linkers append to a function's name taken off, and libc's name for one of its own.

    Where perf shows inlined functions it takes all names from DWARF; ours of real functions are from the symbols.
    """
    plain: Counter[str] = Counter()
    for stack, count in stacks.items():
        stack = re.sub(r"\.(isra|constprop|part|cold|lto_priv)(\.\d+)?|@@?[A-Z][A-Z0-9_.]+", "", stack)
        plain[stack.replace("__libc_start_main_impl", "__libc_start_main")] += count
    return plain


def agreement(ours: Counter[str], peer: Counter[str]) -> float:
    """The share of the peer's samples that stand under the same stack on our side."""
    return (ours & peer).total() / peer.total()
