"""Caches: ours alone, or none."""

import os
from pathlib import Path

import pytest

from insitu.cache_home import own_cache, own_directory
from insitu.errors import InsituError
from insitu.files import write_whole
from insitu.lab.directories import cache_directory, guests_directory

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's directories")
OTHER = 4242


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))
    return path


def test_a_cache_is_made_for_us_alone_whatever_the_umask(home: Path) -> None:
    before = os.umask(0)
    try:
        assert own_cache("kind") == str(home / "insitu/kind")
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (home, home / "insitu", home / "insitu/kind")] == [0o700] * 3
    assert own_cache("kind") == str(home / "insitu/kind")


@as_root
def test_nothing_is_made_in_another_users_directory(tmp_path: Path, home: Path) -> None:
    os.chown(tmp_path, OTHER, OTHER)
    assert own_cache("kind") is None
    assert not home.exists()
    home.mkdir()
    os.chown(home, OTHER, OTHER)
    assert own_cache("kind") is None
    assert list(home.iterdir()) == []


@as_root
@pytest.mark.parametrize("part", ["insitu", "insitu/kind"])
def test_a_cache_of_another_user_is_not_used(home: Path, part: str) -> None:
    own_cache("kind")
    os.chown(home / part, OTHER, OTHER)
    assert own_cache("kind") is None
    with pytest.raises(InsituError, match="must be yours"):
        cache_directory("kind")


@pytest.mark.parametrize("part", ["insitu", "insitu/kind"])
def test_a_cache_that_others_may_write_to_or_a_link_is_not_used(home: Path, tmp_path: Path, part: str) -> None:
    own_cache("kind")
    (home / part).chmod(0o777)
    assert own_cache("kind") is None
    (home / part).rename(tmp_path / "moved")
    (tmp_path / "moved").chmod(0o700)
    (home / part).symlink_to(tmp_path / "moved")
    assert own_cache("kind") is None


def test_a_file_in_the_cache_is_replaced_without_following_what_lies_there(home: Path, tmp_path: Path) -> None:
    directory = Path(own_cache("kind") or "")
    (tmp_path / "target").write_text("untouched")
    (directory / "entry").symlink_to(tmp_path / "target")
    write_whole(directory / "entry", b"new")
    assert (tmp_path / "target").read_text() == "untouched"
    assert [(path.name, path.read_bytes(), path.is_symlink()) for path in directory.iterdir()] == [
        ("entry", b"new", False)
    ]


@as_root
def test_nobody_else_can_take_the_place_of_guests(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / "runtime"
    (runtime / "insitu-lab").mkdir(parents=True)
    os.chown(runtime / "insitu-lab", OTHER, OTHER)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert own_directory(str(runtime / "insitu-lab")) is None
    assert guests_directory() == Path("/run/insitu-lab")
