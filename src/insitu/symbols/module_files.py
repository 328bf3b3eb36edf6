"""Opens the file that a process had mapped: in its own mount namespace, deleted, or kept in perf's cache."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.symbols.elf import Elf
from insitu.symbols.module_names import DELETED
from insitu.symbols.process_map import Module

__all__ = ["ModuleFile", "open_module"]


class ModuleFile(NamedTuple):
    """An opened file: its contents, where it is, and the root directory that its debug files are looked for in."""

    elf: Elf
    path: Path
    root: Path


def open_module(module: Module, *, live: bool) -> ModuleFile | None:
    """The file that ``module`` was mapped from; None if it is gone or another one has its name now.

    A file is taken for the mapped one unless both build ids are known and differ. What is found in place of a
    deleted file must have the same build id. Without ``live``, processes of this machine are not asked.
    """
    deleted = module.path.endswith(DELETED)
    for path, root in _candidates(module, live):
        try:
            elf = Elf(path, module.path)
        except (OSError, ValueError, InsituError):
            continue
        unproven = not module.build_id or (not elf.build_id and not deleted)
        shown_by_kernel = path.parts[:2] == ("/", "proc")
        if elf.build_id == module.build_id or (unproven and (not deleted or shown_by_kernel)):
            return ModuleFile(elf, path, root)
    return None


def _candidates(module: Module, live: bool) -> Iterator[tuple[Path, Path]]:
    """Where the file may be, and the root directory it belongs to, best first."""
    here = Path("/")
    path = Path(module.path.removesuffix(DELETED))
    if not path.is_absolute() or "\0" in module.path:
        return
    if live and module.pid:
        root = Path(procfs.root(module.pid))
        if module.path.endswith(DELETED):
            yield from ((at, root) for at in _still_mapped(module.pid, module.path))
        else:
            yield root / path.relative_to("/"), root
    yield path, here
    if module.build_id:
        yield Path.home() / ".debug" / ".build-id" / module.build_id[:2] / module.build_id[2:] / "elf", here


def _still_mapped(pid: int, name: str) -> Iterator[Path]:
    """What the kernel keeps of a deleted file that a process runs or has mapped (proc_pid_map_files(5))."""
    try:
        path, program = procfs.exe(pid)
        if program == name:
            yield Path(path)
        area = next((area for area in procfs.areas(pid) if os.fsdecode(area.path) == name), None)
    except OSError:
        return
    if area is not None:
        yield Path(procfs.mapped_file(pid, area))
