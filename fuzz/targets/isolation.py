"""Keeps files of this machine out of what recordings name: a target's inputs mean the same everywhere."""

from insitu.symbols import module_files

__all__ = ["without_files_here"]


def without_files_here() -> None:
    """No mapped file is found in this process from now on."""
    for name in ("_candidates", "places_by_build_id"):
        setattr(module_files, name, lambda *arguments, **options: iter(()))
