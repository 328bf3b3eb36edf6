"""Files that others control are opened in their root only, and only if they are regular files."""

import errno
import os
from pathlib import Path

import pytest

from insitu import foreign_files
from insitu.foreign_files import open_foreign, open_kernel_link, read_foreign


@pytest.fixture(autouse=True, params=["openat2", "without openat2"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Kernels before 5.6, and sandboxes that do not know openat2(), have the same answers."""

    def refused(directory: int, path: bytes, how: bytes) -> int:
        raise OSError(errno.EPERM, "refused by a sandbox")

    if request.param != "openat2":
        monkeypatch.setattr(foreign_files, "_openat2", refused)
    return str(request.param)


def opened(path: Path | str, **how: object) -> bytes:
    descriptor = open_foreign(path, **how)  # type: ignore[arg-type]
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def refusal(path: Path | str, **how: object) -> int | None:
    with pytest.raises(OSError) as refused:
        open_foreign(path, **how)  # type: ignore[arg-type]
    assert refused.value.filename == str(path)
    return refused.value.errno


def test_absolute_links_and_dots_stay_in_the_root_that_is_given(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/hostname").write_text("inner")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hostname").write_text("beside the root")
    (root / "link").symlink_to("/etc/hostname")
    (root / "up").symlink_to("../../../etc/hostname")
    for name in ("/link", "link", "up", "/../../etc/hostname", "/etc/hostname"):
        assert opened(name, root=root) == b"inner"


def test_what_is_no_regular_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "terminal").symlink_to("/dev/ptmx")
    before = sorted(Path("/dev/pts").iterdir())
    assert refusal(tmp_path / "pipe") == errno.EINVAL
    assert refusal(tmp_path / "terminal") == errno.EINVAL
    assert refusal(tmp_path) == errno.EISDIR
    assert refusal("/dev/null") == errno.EINVAL
    assert sorted(Path("/dev/pts").iterdir()) == before


@pytest.mark.parametrize("name", ["/proc/self/status", "/proc/kmsg", "/sys/kernel/mm/transparent_hugepage/enabled"])
def test_files_that_the_kernel_writes_are_not_opened(name: str, tmp_path: Path) -> None:
    if not Path(name).exists():
        pytest.skip(f"there is no {name}")
    (tmp_path / "link").symlink_to(name)
    assert refusal(tmp_path / "link") in (errno.EINVAL, errno.ELOOP)  # /proc/self is a magic link
    with pytest.raises(OSError) as refused:
        open_kernel_link(name)
    assert refused.value.errno == errno.EINVAL


def test_magic_links_of_proc_are_followed_on_request_only(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    with (tmp_path / "secret").open() as file:
        (tmp_path / "secret").unlink()
        (tmp_path / "link").symlink_to(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        assert refusal(tmp_path / "link") in (errno.ELOOP, errno.ENOENT)
    with os.fdopen(open_kernel_link("/proc/self/exe"), "rb") as program:
        assert os.path.samestat(os.fstat(program.fileno()), Path("/proc/self/exe").stat())


def test_links_that_lead_to_each_other_end(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    assert refusal(tmp_path / "one") == errno.ELOOP
    assert refusal("one", root=tmp_path) == errno.ELOOP


def test_a_relative_path_begins_where_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside").mkdir()
    (tmp_path / "file").write_bytes(b"data")
    monkeypatch.chdir(tmp_path / "beside")
    assert opened("../file") == b"data"


def test_links_are_refused_where_the_format_has_none(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").write_bytes(b"data")
    (tmp_path / "last").symlink_to("real/file")
    (tmp_path / "middle").symlink_to("real")
    assert opened(tmp_path / "real/file", links=False) == b"data"
    assert refusal(tmp_path / "last", links=False) == errno.ELOOP
    assert refusal(tmp_path / "middle/file", links=False) == errno.ELOOP


def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    assert opened(tmp_path / "file", owners={os.getuid()}) == b"data"
    assert refusal(tmp_path / "file", owners={os.getuid() + 1}) == errno.EPERM


def test_no_more_is_read_than_asked_for(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert read_foreign(tmp_path / "sparse", 3 << 20) == bytes(3 << 20)
    (tmp_path / "short").write_bytes(b"short")
    assert read_foreign(tmp_path / "short", 100) == b"short"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    before = sorted(Path("/proc/self/fd").iterdir())
    read_foreign("file", 10, root=tmp_path)
    for name in ("missing", "/", "nul\0"):
        with pytest.raises(OSError):
            open_foreign(name, root=tmp_path)
    assert sorted(Path("/proc/self/fd").iterdir()) == before
