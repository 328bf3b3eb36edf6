"""insitu leaks: classes and bytes are memcheck's, with the oldest and the newest glibc that it knows, too."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.live.leak_cases import FLAGS, PROGRAMS, Totals, class_totals, compiled, waiting

import insitu
from insitu.inspect.heap.glibc_version import glibc_version
from insitu.kernel import procfs
from insitu.lab.kernels.debian_releases import release_options

_CLASSES = ("definitely lost", "indirectly lost", "possibly lost", "still reachable")
# The table of thread-local variables that pthread_create() allocates is the C library's own: memcheck says "possibly
# lost".
_SUPPRESSIONS = """{
 thread-local
 Memcheck:Leak
 match-leak-kinds: all
 fun:calloc
 ...
 fun:_dl_allocate_tls
}
"""
# memcheck counts what was asked for. These sizes are chosen by libraries, and glibc has so many bytes more.
_MORE_BYTES = {
    "large_lost": (16, 0, 0, 0),  # 8 of each block with a mapping of its own
    "large_kept": (0, 0, 0, 16),
    "large_by_inside": (0, 0, 8, 0),
    "large_freed": (0, 0, 0, 8),
    "many_handlers": (0, 0, 0, 24),  # three lists of 1040 bytes
}
_POOL = (0, 0, 0, 8)  # libstdc++ takes 72,704 bytes for exceptions when memory runs out
# What memcheck sees otherwise: the main thread's registers (it has ended when memcheck looks), the stack of a thread
# that has ended (the C library keeps it for the next one), and the environment (valgrind adds to it).
_NOT_COMPARED = {"by_register", "ended_thread", "by_environment"}
_RELEASES = {"bullseye": (2, 31), "trixie": (2, 41)}


@cache
def by_memcheck(language: str) -> Mapping[str, Totals]:
    """The classes of each case that is compared, in bytes and blocks as glibc rounds them."""
    with TemporaryDirectory() as place:
        directory = Path(place)
        program = compiled(directory, f"cases.{language}")
        suppressions = directory / "suppressions"
        suppressions.write_text(_SUPPRESSIONS)
        options = ["--leak-check=full", "--show-leak-kinds=none", "--run-libc-freeres=no", "--run-cxx-freeres=no"]
        options += ["--sim-hints=no-nptl-pthread-stackcache", "--soname-synonyms=somalloc=nouserintercepts"]
        options += [f"--suppressions={suppressions}", f"--log-file={directory}/%p"]
        done = subprocess.run(["valgrind", *options, program, "each"], capture_output=True, text=True, check=True)
        found = {}
        for name, pid in map(str.split, done.stdout.splitlines()):
            text = (directory / pid).read_text()
            rows = [re.search(rf"{kind}: ([\d,]+) bytes in ([\d,]+) blocks", text) for kind in _CLASSES]
            assert all(rows) or "no leaks are possible" in text
            more = _MORE_BYTES.get(name, (0, 0, 0, 0)) if language == "c" else _POOL
            if name not in _NOT_COMPARED:
                found[name] = _plus(
                    [[int(n.replace(",", "")) for n in row.groups()] if row else [0, 0] for row in rows], more
                )
        return found


def _plus(totals: Sequence[Sequence[int]], more: Sequence[int]) -> Totals:
    return tuple((size + extra, blocks) for (size, blocks), extra in zip(totals, more, strict=True))


@pytest.mark.parametrize("language", ["c", "cc"])
def test_classes_blocks_and_bytes_of_each_program_are_memchecks(tmp_path: Path, language: str) -> None:
    # Some 30 s: memcheck runs all programs, each in a child of one process.
    program = compiled(tmp_path, f"cases.{language}")
    expected, found = by_memcheck(language), {}
    for name in expected:
        with waiting(program, name) as process:
            found[name] = class_totals(insitu.leaks(process.pid))
    assert found == expected and len(found) >= 30


def _with_glibc_of(release: str, directory: Path) -> Path:
    """The cases as a program that is linked to another Debian release's C library, and is loaded with it."""
    command = ["apt-get", "-q", *release_options(release), "download", "libc6", "libc6-dev"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    for package in directory.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, directory], check=True)
    program = directory / "cases"
    (loader,) = (each for each in directory.glob("**/x86_64-linux-gnu/ld-linux-x86-64.so.2"))
    loaded = [f"-Wl,--dynamic-linker={loader}", f"-Wl,-rpath,{loader.parent}"]
    if _RELEASES[release] > (2, 36):
        subprocess.run(["gcc", *FLAGS, "-o", program, PROGRAMS / "cases.c", *loaded], check=True)
        return program
    libraries = directory / "usr/lib/x86_64-linux-gnu"  # what is linked to a newer glibc does not start with an older
    include = directory / "usr/include"
    of_gcc = [
        subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("crtbegin.o", "crtend.o")
    ]
    words = [*FLAGS, "-nostdlib", "-no-pie", "-isystem", include, "-isystem", include / "x86_64-linux-gnu"]
    words += ["-o", program, libraries / "crt1.o", libraries / "crti.o", of_gcc[0], PROGRAMS / "cases.c"]
    words += [loader.parent / "libpthread.so.0", loader.parent / "libc.so.6", libraries / "libc_nonshared.a", loader]
    subprocess.run(["gcc", *words, "-lgcc", of_gcc[1], libraries / "crtn.o", *loaded], check=True)
    return program


@pytest.mark.parametrize("release", _RELEASES)
def test_classes_are_memchecks_with_the_glibc_of_another_release(release: str, tmp_path: Path) -> None:
    program = _with_glibc_of(release, tmp_path)
    expected, found = by_memcheck("c"), {}
    for name in expected:
        with waiting(program, name) as process:
            assert glibc_version(process.pid, [*procfs.areas(process.pid)]) == _RELEASES[release]
            found[name] = class_totals(insitu.leaks(process.pid))
    assert found == expected and len(found) > 60
