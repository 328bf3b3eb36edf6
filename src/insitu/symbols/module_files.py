"""Opens the file that a process had mapped: in its own mount namespace, deleted, or kept in perf's cache."""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.foreign_files import open_kernel_link
from insitu.kernel import procfs
from insitu.symbols.debug_files import places_by_build_id
from insitu.symbols.elf import Elf
from insitu.symbols.module_names import DELETED
from insitu.symbols.process_map import Module
from insitu.symbols.read_budget import ReadBudget

__all__ = ["Missing", "ModuleFile", "open_module"]

_PT_LOAD, _PF_X = 1, 1


class ModuleFile(NamedTuple):
    """An opened file, and the root directory that its debug files are looked for in.

    Where only the debug file of a program is left, ``moved`` is what its virtual addresses lie above file offsets.
    """

    elf: Elf
    root: Path
    moved: int | None = None

    def vaddrs_of(self, file_offsets: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The virtual address of each offset of the mapped file; NO_ADDRESS where none is."""
        if self.moved is None:
            return self.elf.vaddrs_of(file_offsets)
        return file_offsets + np.uint64(self.moved & 0xFFFF_FFFF_FFFF_FFFF)


class Missing(NamedTuple):
    """What a file that was not found is: ``here`` is the build id of another one that has its name now, or ""."""

    here: str = ""


def open_module(
    module: Module, *, live: bool, budget: ReadBudget | None = None, symfs: Path | None = None
) -> ModuleFile | Missing:
    """The file that ``module`` was mapped from, if it is not gone and no other one has its name now.

    A file counts as the mapped one unless both build ids are known and differ. What is found in place of a
    deleted file must have the same build id. Without ``live``, processes of this machine are not asked. ``symfs`` is
    a directory that has the files of another machine, below it or right in it: it is looked in first.
    """
    deleted = module.path.endswith(DELETED)
    other = ""
    for place, root in (*_below(symfs, module), *_candidates(module, live)):
        from_kernel = isinstance(place, str)
        try:
            source = open_kernel_link(place) if isinstance(place, str) else place
            elf = Elf(source, module.path, root=root, budget=budget)
        except (OSError, ValueError, InsituError):
            continue
        unproven = not module.build_id or (not elf.build_id and not deleted)
        if elf.build_id == module.build_id or (unproven and (not deleted or from_kernel)):
            return ModuleFile(elf, root)
        other = other or elf.build_id
    return _left_over(module, budget) or Missing(other)


def _below(symfs: Path | None, module: Module) -> Iterator[tuple[Path, Path]]:
    """Where the file of another machine may be, as perf's --symfs has it."""
    path = Path(module.path.removesuffix(DELETED))
    if symfs is not None and path.is_absolute() and "\0" not in module.path:
        yield path, symfs
        yield Path("/", path.name), symfs


def _left_over(module: Module, budget: ReadBudget | None) -> ModuleFile | None:
    """The file with the module's build id in the directories of debug files, where the file itself is gone."""
    for path in places_by_build_id(module.build_id):
        try:
            elf = Elf(path, module.path, budget=budget)
        except (OSError, ValueError, InsituError):
            continue
        if elf.build_id != module.build_id:
            continue
        text = elf.section(".text")
        if text is None or text.in_file:
            return ModuleFile(elf, Path("/"))
        code = elf.segments[(elf.segments["type"] == _PT_LOAD) & (elf.segments["flags"] & _PF_X != 0)]
        if len(code) and (code["filesz"] == code["memsz"]).all():  # elfutils keeps the program's headers as they were
            return ModuleFile(elf, Path("/"))
        if len(code) == 1 and module.code_offset >= 0:
            # A page is mapped from where its segment says, and the segment's begin is rounded down to one.
            begin = int(code["vaddr"][0]) // mmap.PAGESIZE * mmap.PAGESIZE
            return ModuleFile(elf, Path("/"), begin - module.code_offset)
    return None


def _candidates(module: Module, live: bool) -> Iterator[tuple[Path | str, Path]]:
    """Where the file may be (a string: a link of the kernel's), and the root directory it is in, best first."""
    here = Path("/")
    path = Path(module.path.removesuffix(DELETED))
    if not path.is_absolute() or "\0" in module.path:
        return
    if live and module.pid:
        root = Path(procfs.root(module.pid))
        if module.path.endswith(DELETED):
            yield from ((at, root) for at in _still_mapped(module.pid, module.path))
        else:
            yield path, root
    yield path, here
    if module.build_id:
        yield Path.home() / ".debug" / ".build-id" / module.build_id[:2] / module.build_id[2:] / "elf", here


def _still_mapped(pid: int, name: str) -> Iterator[str]:
    """What the kernel keeps of a deleted file that a process runs or has mapped (proc_pid_map_files(5))."""
    try:
        path, program = procfs.exe(pid)
        if program == name:
            yield path
        area = next((area for area in procfs.areas(pid) if os.fsdecode(area.path) == name), None)
    except OSError:
        return
    if area is not None:
        yield procfs.mapped_file(pid, area)
