"""Scripts by name: files, and our own programs."""

from __future__ import annotations

from pathlib import Path

from insitu.errors import InsituError
from insitu.probe.source import Source

__all__ = ["PROGRAMS", "read_script"]

PROGRAMS = Path(__file__).parents[2] / "programs"


def read_script(name: str) -> Source:
    """The file of that name, or our own program. :raises InsituError: when there is neither, or it cannot be read."""
    path = Path(name)
    if not path.exists() and "/" not in name:
        own = PROGRAMS / f"{name.removesuffix('.bt')}.bt"
        if own.exists():
            path = own
        else:
            known = ", ".join(sorted(p.stem for p in PROGRAMS.glob("*.bt")))
            raise InsituError(f"no script {name!r}", remedy=f"our own programs are: {known}", status=2)
    try:
        return Source(path.read_text(errors="surrogateescape"), name)
    except OSError as error:
        raise InsituError(f"cannot read {name}: {error.strerror}", status=2) from None
