"""Migration of manifests of older formats, one format at a time."""

from collections.abc import Callable
from typing import Any, Final

from insitu.errors import InsituError
from insitu.terminal_text import printable

__all__ = ["NEWEST", "migrated"]

NEWEST: Final = 2
_OLDEST: Final = 2
_SHOWN_CHARACTERS: Final = 40

# Format -> a function from a manifest of that format to one of the next. Tables have their own versions, and missing
# columns take the registry's defaults, so that most changes need no step here.
_STEPS: Final[dict[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {}


def migrated(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    """A manifest in the newest format. Raises InsituError for formats that are newer, or too old."""
    found = manifest["format"]
    if found > NEWEST:
        version = printable(str(manifest.get("insitu"))[:_SHOWN_CHARACTERS])
        raise InsituError(f"{name}: written by a newer insitu ({version})", remedy="update insitu")
    if found < _OLDEST:
        raise InsituError(
            f"{name}: session format {found} is not supported",
            remedy="record it again, or open it with the insitu that wrote it",
        )
    while manifest["format"] < NEWEST:
        step = manifest["format"]
        manifest = {**_STEPS[step](manifest), "format": step + 1}
    return manifest
