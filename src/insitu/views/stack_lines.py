"""A stack as lines: number, function, and source line or file of each frame."""

from collections.abc import Iterator, Sequence

from insitu.symbols.frame import Frame
from insitu.views.terminal import Line

__all__ = ["stack_lines"]


def stack_lines(stack: Sequence[Frame], most: int, remedy: str = "") -> Iterator[Line]:
    """The innermost ``most`` frames (0: all), and how many are left out, with what shows them."""
    for number, frame in enumerate(stack[: most or None]):
        line: Line = [(f"    #{number:<3}", "dim"), (frame.function, "")]
        if frame.line:
            line.append((f"  {frame.file.rpartition('/')[2]}:{frame.line}", "cyan"))
        elif frame.module:
            line.append((f"  {frame.module.rpartition('/')[2]}", "dim"))
        yield line
    if most and len(stack) > most:
        yield [(f"    ... {len(stack) - most} more{remedy and f'; {remedy}'}", "dim")]
    if not stack:
        yield [("    no stack is known", "dim")]
