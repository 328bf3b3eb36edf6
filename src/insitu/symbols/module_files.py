"""Opens the file that a process had mapped: in its own mount namespace, deleted, or kept in perf's cache."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from insitu.errors import InsituError
from insitu.symbols.address_space import Module
from insitu.symbols.elf import Elf

__all__ = ["DELETED", "ModuleFile", "is_anonymous", "open_module"]

DELETED: Final = " (deleted)"

_ANONYMOUS: Final = re.compile(
    r"$|//anon|\[heap\]|\[stack|\[anon|\[uprobes\]|anon_inode:|/memfd:|/dev/zero|/SYSV[0-9a-f]{8}"
)


class ModuleFile(NamedTuple):
    """An opened file: its contents, where it is, and the root directory that its debug files are looked for in."""

    elf: Elf
    path: Path
    root: Path


def is_anonymous(path: str) -> bool:
    """Whether a mapping of this name holds no file's code, so that only a run-time compiler's map can name it."""
    return _ANONYMOUS.match(path) is not None


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
        process = Path("/proc") / str(module.pid)
        if module.path.endswith(DELETED):
            yield from ((at, process / "root") for at in _still_mapped(process, module.path))
        else:
            yield process / "root" / path.relative_to("/"), process / "root"
    yield path, here
    if module.build_id:
        yield Path.home() / ".debug" / ".build-id" / module.build_id[:2] / module.build_id[2:] / "elf", here


def _still_mapped(process: Path, name: str) -> Iterator[Path]:
    """What the kernel keeps of a deleted file that ``process`` runs or has mapped (proc_pid_map_files(5))."""
    try:
        if str((process / "exe").readlink()) == name:
            yield process / "exe"
        for line in (process / "maps").read_text(errors="surrogateescape").splitlines():
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[5] == name:
                yield process / "map_files" / fields[0]
                return
    except OSError:
        return
