"""insitu cache, against fincore(1), the kernel's accounts of a process, and what the test itself read and wrote."""

import json
import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.live.memory_limit import memory_cgroup
from tests.live.unprivileged import Unprivileged, unprivileged

import insitu
from insitu.inspect.page_cache import Selection, Walk, opened, segments
from insitu.kernel import page_cache
from insitu.kernel.page_cache import PAGE, PageCounter, nodes_of, resident

__all__ = ["unprivileged"]

if os.geteuid() != 0:
    pytest.skip("needs root, for files of other users and mounts", allow_module_level=True)

_PAGES = 100
_LOCKS = """import resource, sys
from insitu.cli import main
resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 4096))
sys.exit(main(["cache", "--lock", sys.argv[1]]))
"""


def _command(*words: object, status: int = 0) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-m", "insitu", "cache", *map(str, words)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == status, done.stderr
    return done


def _document(*words: object) -> Any:
    return json.loads(_command("--json", *words).stdout)


def _fincore(path: Path) -> int:
    """Bytes in the page cache, as util-linux counts them."""
    done = subprocess.run(["fincore", "-bnJ", "-o", "RES", path], capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout)["fincore"][0]["res"])


def _needs_cachestat() -> None:
    counts = PageCounter().count(os.open(sys.executable, os.O_RDONLY), 0, PAGE)
    if counts.dirty is None:
        pytest.skip("no cachestat(2) (Linux 6.5)")


@pytest.fixture
def cold(tmp_path: Path) -> Path:
    """A file of which nothing is in the page cache."""
    path = tmp_path / "cold"
    path.write_bytes(os.urandom(_PAGES * PAGE))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if _fincore(path):
        pytest.skip("this file system keeps its pages (tmpfs)")
    return path


def _read(path: Path, pages: range) -> None:
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead
        for page in pages:
            os.pread(file.fileno(), PAGE, page * PAGE)


def test_the_pages_that_were_read_are_those_that_are_cached_and_where_they_are(cold: Path) -> None:
    _read(cold, range(20, 30))
    _read(cold, range(99, 100))
    document = _document("--segments", 10, cold)
    assert document["cached"] == 11 * PAGE == _fincore(cold)
    (found,) = document["listed"]
    assert [part["cached"] // PAGE for part in found["parts"]] == [0, 0, 10, 0, 0, 0, 0, 0, 0, 1]
    text = _command(cold).stdout
    assert "··█······▁" in text and f"{11 * PAGE // 1024}.0 KiB of {_PAGES * PAGE // 1024}.0 KiB" in text


def test_kernels_without_cachestat_count_the_same_by_mincore(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _read(cold, range(5, 12))
    monkeypatch.setitem(page_cache.NUMBERS, "cachestat", -1)  # ENOSYS
    (found,) = insitu.cache(cold)
    assert found.counts == (7, None, None, None, None)
    assert [part.counts.cached for part in segments(found, 10)] == [5, 2, *[0] * 8]


def test_what_was_written_is_dirty_until_it_is_evicted_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    _needs_cachestat()
    path = tmp_path / "written"
    content = os.urandom(10 * PAGE)
    path.write_bytes(content)
    document = _document(path)
    assert document["dirty"] + document["writeback"] == 10 * PAGE
    done = _command("--evict", "--json", path)
    after = json.loads(done.stdout)
    assert (after["cached"], after["dirty"]) == (0, 0) and _fincore(path) == 0
    assert path.read_bytes() == content
    assert _document(path)["cached"] == 10 * PAGE


def test_touching_brings_in_a_range_and_a_whole_file(cold: Path) -> None:
    assert _document("--touch", "--range", "0-64K", cold)["cached"] == 64 << 10
    assert _document(cold)["cached"] >= 64 << 10  # read-ahead may have brought more
    assert _document("--touch", cold)["cached"] == _PAGES * PAGE == _fincore(cold)


def test_a_tree_is_summed_with_each_file_once_and_what_is_no_file_left_alone(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True)
    (tree / "one").write_bytes(b"x" * 3 * PAGE)
    os.link(tree / "one", tree / "below/again")
    (tree / "below/two.log").write_bytes(b"x" * 5 * PAGE)
    (tmp_path / "outside").write_bytes(b"x" * 7 * PAGE)
    (tree / "link").symlink_to(tmp_path / "outside")
    (tree / "round").symlink_to(tree)
    os.mkfifo(tree / "pipe")

    def pages(*words: object) -> tuple[int, int]:
        document = _document(*words)
        return document["files"], document["cached"] // PAGE

    assert pages(tree) == (2, 8)
    assert pages(tree, tree / "one", tree / "one") == (2, 8)
    assert pages("--follow", tree) == (3, 15)
    assert pages("-i", "*.log", tree) == (1, 3)
    assert pages("-I", "*.log", tree) == (1, 5)
    assert pages("--max-size", 4 * PAGE, tree) == (1, 3)
    assert pages(tree / "link") == (1, 7)


def test_another_file_system_below_is_left_out_when_asked(tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"x" * PAGE)
    (tmp_path / "mounted").mkdir()
    script = (
        "mount -t tmpfs none mounted; head -c 40960 /dev/zero > mounted/there; "
        '"$1" -m insitu cache --json . && "$1" -m insitu cache -x --json .'
    )
    command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300)
    both, end = json.JSONDecoder().raw_decode(done.stdout)
    one = json.loads(done.stdout[end:])
    assert (both["files"], both["cached"], one["files"]) == (2, 11 * PAGE, 1)


def test_of_another_users_file_the_kernel_says_nothing(cold: Path, unprivileged: Unprivileged) -> None:
    _needs_cachestat()
    theirs = unprivileged.directory / "theirs"
    theirs.write_bytes(cold.read_bytes())
    theirs.chmod(0o644)
    done = unprivileged((), "cache", str(theirs))
    assert done.returncode == 1
    assert "not known: 1 file" in done.stdout and "the kernel tells only its owner" in done.stdout
    os.chown(theirs, 65534, 65534)
    assert "1 file: 400.0 KiB of 400.0 KiB" in unprivileged((), "cache", str(theirs)).stdout
    locked = unprivileged.python("-c", _LOCKS, str(theirs))
    assert locked.returncode == 1 and "cannot be locked: " in locked.stderr and "ulimit -l" in locked.stderr


def test_a_process_that_maps_a_file_is_named_and_keeps_it(cold: Path) -> None:
    with cold.open("rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as area:
        assert sum(area[at] >= 0 for at in range(0, len(area), PAGE)) == _PAGES
        document = _document("--evict", cold)
        (mapping,) = document["listed"][0]["mapped_by"]
        assert (mapping["pid"], mapping["size"]) == (os.getpid(), _PAGES * PAGE)
        assert document["cached"] == _PAGES * PAGE
    assert _document("--evict", cold)["cached"] == 0


def test_a_locked_file_is_in_memory_and_counted_as_locked(cold: Path) -> None:
    command = [sys.executable, "-m", "insitu", "cache", "--lock", str(cold)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as locking:
        assert locking.stderr is not None
        assert "locked in memory until Ctrl-C" in locking.stderr.readline()
        status = Path(f"/proc/{locking.pid}/status").read_text()
        assert f"VmLck:\t{_PAGES * PAGE // 1024:8} kB" in status
        assert _fincore(cold) == _PAGES * PAGE
        locking.terminate()
    assert locking.returncode == 128 + 15


def test_nodes_are_those_of_the_kernels_own_numa_maps(cold: Path) -> None:
    if not Path("/proc/self/numa_maps").exists():
        pytest.skip("no /proc/PID/numa_maps (CONFIG_NUMA)")
    _read(cold, range(10, 40))
    (found,) = Walk(Selection()).files([str(cold)])
    assert nodes_of(os.open(cold, os.O_RDONLY), 0, found.size).total() == 30
    with cold.open("rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as area:
        assert sum(area[at * PAGE] >= 0 for at in range(10, 40)) == 30
        (line,) = [each for each in Path("/proc/self/numa_maps").read_text().splitlines() if str(cold) in each]
    nodes = {int(word[1:].split("=")[0]) for word in line.split() if word.startswith("N")}
    assert {node for part in segments(found, 4, numa=True) for node in part.nodes} == nodes


def test_a_file_that_is_cut_while_it_is_looked_at_ends_nobody(cold: Path) -> None:
    with cold.open("rb+") as file:
        _read(cold, range(_PAGES))
        pages = resident(file.fileno(), 0, _PAGES * PAGE)
        file.truncate(PAGE)
        assert sum(part.count(1) for part in pages) <= 1
        assert nodes_of(file.fileno(), 0, _PAGES * PAGE).total() <= 1


def test_a_hole_of_any_size_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(b"x" * 2 * PAGE)
        file.seek(1 << 42)
        file.write(b"x" * PAGE)
    with path.open("rb") as file:
        assert nodes_of(file.fileno(), 0, (1 << 42) + PAGE).total() == 3
    monkeypatch.setitem(page_cache.NUMBERS, "cachestat", -1)  # ENOSYS
    (found,) = insitu.cache(path)
    assert found.counts.cached == 3


def test_more_than_is_available_is_not_locked(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 42)
    done = _command("--lock", path, status=1)
    assert "bytes cannot be locked: " in done.stderr and "are available" in done.stderr


def test_mounts_with_any_name_are_looked_at(tmp_path: Path) -> None:
    script = (
        "import os, subprocess, sys\n"
        "from insitu.inspect.page_cache import file_systems\n"
        "names = ['a\\x0cb', 'c\\t d\\\\e\\nf', 'g\\x85h']\n"
        "for name in names:\n"
        "    os.mkdir(name)\n"
        "    subprocess.run(['mount', '-t', 'tmpfs', 'none', name], check=True)\n"
        "found = file_systems()\n"
        "sys.exit(not all(os.path.join(os.getcwd(), name) in found for name in names))\n"
    )
    subprocess.run(["unshare", "-m", sys.executable, "-c", script], cwd=tmp_path, check=True)


def test_a_file_that_was_replaced_is_not_taken_for_the_one_that_was_listed(cold: Path) -> None:
    (found,) = insitu.cache(cold)
    cold.rename(cold.with_name("old"))
    cold.write_bytes(b"another")
    with pytest.raises(OSError, match="another file is there now"), opened(found):
        pass


def test_a_session_has_the_files_and_their_parts(cold: Path, tmp_path: Path) -> None:
    _read(cold, range(50))
    run = tmp_path / "cache.insitu"
    _command("-q", "-o", run, "--segments", 4, cold)
    with insitu.open(run) as session:
        (row,) = session.sql("select path, size_bytes, cached_bytes from cached_file").rows()
        parts = session.sql('select "offset", cached_bytes from cached_range order by 1').rows()
    assert row == (str(cold), _PAGES * PAGE, 50 * PAGE)
    assert parts == [(at * 25 * PAGE, cached * PAGE) for at, cached in enumerate((25, 25, 0, 0))]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["/nowhere"], "/nowhere: No such file or directory"),
        (["/dev/null"], "/dev/null: not a file, a directory or a block device"),
        (["--range", "5-2", "/bin/sh"], "--range 5-2: not a range such as 0-64M or 1G-"),
        (["--range", "x", "/bin/sh"], "--range x: not a range such as 0-64M or 1G-"),
        (["--watch", "--json", "/bin/sh"], "--watch writes lines, no JSON (-o RUN.insitu keeps each look)"),
        (["-d", "3", "/bin/sh"], "-d is for --watch and --lock"),
        (["-o", "x", "/bin/sh"], "-o x: a session's name ends in .insitu"),
        ([], "nothing to look at (insitu cache PATH..., or insitu cache --top)"),
    ],
)
def test_a_wrong_request_is_one_line(words: list[str], message: str) -> None:
    done = subprocess.run([sys.executable, "-m", "insitu", "cache", *words], capture_output=True, text=True)
    assert done.returncode in (1, 2) and done.stdout == ""
    assert done.stderr == f"insitu: {message}\n"


_SCANS = """import os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
print(flush=True)
input()
while True:
    os.lseek(file, 0, 0)
    while os.read(file, 1 << 16): pass
"""


def test_a_file_of_twice_the_memory_that_is_read_again_and_again_is_a_scan(tmp_path: Path) -> None:
    """The case docs/cases/a-file-of-twice-the-memory.md."""
    _needs_cachestat()
    limit = 24 << 20
    path = tmp_path / "large"
    path.write_bytes(os.urandom(2 * limit))
    with (
        memory_cgroup(limit) as group,
        subprocess.Popen(
            [sys.executable, "-c", _SCANS, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as reader,
    ):
        assert reader.stdin and reader.stdout
        reader.stdout.readline()
        _command("--evict", path)  # what this process has written is its own
        (group / "cgroup.procs").write_text(str(reader.pid))
        reader.stdin.write(b"\n")
        reader.stdin.flush()
        try:
            text = _command("--watch", "--interval", "0.3", "-d", "4", path).stdout
        finally:
            reader.kill()
    assert "A scan goes through the page cache" in text
    assert "each page is evicted before it is used again" in text
    document = _document(path)
    assert 0 < document["cached"] <= limit and document["evicted"] >= limit // 2


def test_a_file_that_fits_is_no_scan(cold: Path) -> None:
    _read(cold, range(_PAGES))
    assert "scan" not in _command("--watch", "--interval", "0.05", "-d", "0.2", cold).stdout
