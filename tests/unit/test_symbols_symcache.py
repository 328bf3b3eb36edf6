"""Our reader of symcaches against symbolic's own, and against damage."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from symbolic.debuginfo import Archive
from symbolic.symcache import SYMCACHE_LATEST_VERSION, SymCache

from insitu.symbols import line_table
from insitu.symbols.elf import Elf
from insitu.symbols.line_table import LineTable
from insitu.symbols.symcache import SYMCACHE_VERSION, Symcache

from .symbols_peer import INLINES_CPP, compiled


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("symcache"), INLINES_CPP, "-g", "-O2")


@pytest.fixture(scope="module")
def peer(program: Path) -> SymCache:
    return next(Archive.open(str(program)).iter_objects()).make_symcache()


@pytest.fixture(scope="module")
def data(peer: SymCache) -> bytes:
    with peer.open_stream() as stream:
        return stream.read()


def test_symbolic_writes_the_version_that_is_read() -> None:
    assert SYMCACHE_LATEST_VERSION == SYMCACHE_VERSION


def test_every_address_has_the_source_that_symbolic_finds(program: Path, peer: SymCache, data: bytes) -> None:
    section = Elf(program).section(".text")
    assert section is not None
    addresses = np.arange(0, section.address + section.size + 64, dtype=np.uint64)
    theirs = [
        [(at.symbol.encode(), at.full_path or "", at.line) for at in peer.lookup(a)] for a in addresses.tolist()
    ]
    assert [[tuple(at) for at in chain] for chain in Symcache(data).find(addresses)] == theirs


def test_addresses_beyond_32_bits_have_no_source(data: bytes) -> None:
    assert Symcache(data).find(np.array([1 << 32, (1 << 64) - 1], np.uint64)) == [(), ()]


def test_a_symcache_of_another_version_is_asked_through_symbolic(
    program: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    elf = Elf(program)
    section = elf.section(".text")
    assert section is not None
    addresses = np.arange(section.address, section.address + section.size, dtype=np.uint64)
    ours = LineTable.of(elf)

    def unread(data: bytes) -> Symcache:
        raise ValueError("another version")

    monkeypatch.setattr(line_table, "Symcache", unread)
    theirs = LineTable.of(elf)
    assert ours is not None and theirs is not None
    assert theirs.find(addresses) == ours.find(addresses)


def read_all(data: bytes) -> None:
    """Raises nothing but ValueError, whatever is in ``data``."""
    try:
        cache = Symcache(data)
    except ValueError:
        return
    assert all(isinstance(chain, tuple) for chain in cache.find(np.arange(0, 8192, 3, dtype=np.uint64)))


def test_a_symcache_cut_short_is_refused_or_has_fewer_names(data: bytes) -> None:
    for end in range(0, len(data), 61):
        read_all(data[:end])


@settings(max_examples=150, deadline=None)
@given(draw=st.data())
def test_flipped_bits_never_raise_anything_else(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for at in draw.draw(st.lists(st.integers(0, len(data) - 1), min_size=1, max_size=10)):
        damaged[at] ^= 1 << draw.draw(st.integers(0, 7))
    read_all(bytes(damaged))
