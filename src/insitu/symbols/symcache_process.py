"""The program of a process that makes a symcache (see make_symcache): run as a script, with nothing imported.

Most files need nothing of ours, nor numpy, pathlib or typing: importing these would take longer than the work.
"""

import os
import sys
from collections.abc import Sequence
from types import ModuleType

_MAX_OUTPUT_BYTES = 1 << 30


def _main(words: Sequence[str]) -> int:
    """Write the symcache of one descriptor into another, and print how many split units are missing."""
    import resource

    descriptor, output, memory, seconds, split = map(int, words[:5])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_OUTPUT_BYTES, _MAX_OUTPUT_BYTES))
    sys.path[:] = words[5].split(os.pathsep)
    missing = 0
    if split:
        descriptor, missing = _joined(descriptor, words[6:])
    if not _write_symcache(f"/proc/self/fd/{descriptor}".encode(), output):
        return 1
    print(missing)
    return 0


def _joined(descriptor: int, places: Sequence[str]) -> tuple[int, int]:
    """The file with its split units, and how many are missing. ``places``: paths and their roots, first ours."""
    from pathlib import Path

    from insitu.symbols.elf import Elf
    from insitu.symbols.split_dwarf import joined

    paths = [Path(place) for place in places]
    beside = [*zip(paths[2::2], paths[3::2], strict=True)]
    image, missing = joined(Elf(os.dup(descriptor)), beside, paths[1])
    if image is None:
        return descriptor, missing
    whole = os.memfd_create("insitu-joined")
    with os.fdopen(whole, "wb", closefd=False) as file:
        file.write(image)
    return whole, missing


def _write_symcache(path: bytes, output: int) -> bool:
    # The package's __init__ imports all of it, which takes longer than most files.
    package = ModuleType("symbolic")
    package.__path__ = [f"{top}/symbolic" for top in sys.path]
    sys.modules["symbolic"] = package
    from symbolic._lowlevel import ffi, lib

    archive = lib.symbolic_archive_open(path)
    if lib.symbolic_err_get_last_code() or not lib.symbolic_archive_object_count(archive):
        return False
    cache = lib.symbolic_symcache_from_object(lib.symbolic_archive_get_object(archive, 0))
    if lib.symbolic_err_get_last_code():
        return False
    data = ffi.buffer(lib.symbolic_symcache_get_bytes(cache), lib.symbolic_symcache_get_size(cache))
    with os.fdopen(output, "wb") as file:
        file.write(data)
    return True


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
