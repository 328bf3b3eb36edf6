"""What a guest's root may send as its recording: regular files in directories, and nothing else."""

import contextlib
import io
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.errors import InsituError
from insitu.lab.compare.guest_archive import unpack


def archive(directory: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    path = directory / "sent.tar"
    with tarfile.open(path, "w") as file:
        for member, data in members:
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, target, mode
    return made


def test_files_and_directories_arrive_without_their_modes(tmp_path: Path) -> None:
    folder, file = member("./raw", tarfile.DIRTYPE), member("./raw/0.records", mode=0o4777)
    unpack(archive(tmp_path, (member(".", tarfile.DIRTYPE), b""), (folder, b""), (file, b"bytes")), tmp_path / "new")
    assert (tmp_path / "new/raw/0.records").read_bytes() == b"bytes"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert not (tmp_path / "new/raw/0.records").stat().st_mode & (stat.S_ISUID | stat.S_IWOTH | stat.S_IXUSR)


@pytest.mark.parametrize(
    "sent",
    [
        member("../outside"),
        member("raw/../../outside"),
        member("/outside"),
        member("link", tarfile.SYMTYPE, "/outside"),
        member("link", tarfile.LNKTYPE, "../outside"),
        member("node", tarfile.CHRTYPE),
        member("node", tarfile.BLKTYPE),
        member("pipe", tarfile.FIFOTYPE),
        member("sparse", tarfile.GNUTYPE_SPARSE),
    ],
    ids=lambda sent: f"{sent.name}-{sent.type!r}",
)
def test_anything_else_is_refused_by_its_name(tmp_path: Path, sent: tarfile.TarInfo) -> None:
    with pytest.raises(InsituError, match=r"the guest sent|cannot be unpacked"):
        unpack(archive(tmp_path, (sent, b"")), tmp_path / "new")
    assert list(tmp_path.rglob("*outside*")) == []
    assert list((tmp_path / "new").iterdir()) == []


def test_a_file_sent_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InsituError, match="File exists"):
        unpack(archive(tmp_path, (member("a"), b"1"), (member("a"), b"2")), tmp_path / "new")


@given(at=st.integers(0, 2047), byte=st.integers(0, 255), length=st.integers(0, 10240))
def test_a_damaged_archive_ends_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int, length: int
) -> None:
    folder = tmp_path_factory.mktemp("tar")
    sent = archive(folder, (member("a"), b"x" * 600), (member("b", tarfile.DIRTYPE), b""))
    data = bytearray(sent.read_bytes())
    data[at] = byte
    sent.write_bytes(data[:length])
    with contextlib.suppress(InsituError):
        unpack(sent, folder / "new")
    assert {path.name for path in folder.iterdir()} == {"new", "sent.tar"}
