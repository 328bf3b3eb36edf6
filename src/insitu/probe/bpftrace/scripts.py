"""Scripts by name: files, and the built-in tools."""

from __future__ import annotations

from pathlib import Path

from insitu.errors import InsituError
from insitu.probe.source import Source

__all__ = ["PROGRAMS", "built_in", "read_script"]

PROGRAMS = Path(__file__).parents[2] / "programs"


def built_in() -> dict[str, str]:
    """The built-in tools: name, and the first line of the comment that each begins with."""
    found = {}
    for path in sorted(PROGRAMS.glob("*.bt")):
        lines = (line.strip(" */\t") for line in path.read_text().splitlines())
        found[path.stem] = next(filter(None, lines), "")
    return found


def read_script(name: str) -> Source:
    """The file of that name, or the built-in tool. :raises InsituError: without either, or when it is unreadable."""
    path = Path(name)
    if not path.exists() and "/" not in name:
        own = PROGRAMS / f"{name.removesuffix('.bt')}.bt"
        if own.exists():
            path = own
        else:
            raise InsituError(f"no script {name!r}", remedy=f"built-in tools: {', '.join(built_in())}", status=2)
    try:
        return Source(path.read_text(errors="surrogateescape"), name)
    except OSError as error:
        raise InsituError(f"cannot read {name}: {error.strerror}", status=2) from None
