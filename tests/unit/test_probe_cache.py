"""What the cache keeps comes back as it was, and what is damaged in it is not used."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.probe import cache
from insitu.probe.aggregations import Count, Histogram, LinearHistogram, Sum
from insitu.probe.bpftrace.script_parser import parse
from insitu.probe.compile import compile_script
from insitu.probe.layout import Layout, MapLayout, RecordLayout
from insitu.probe.options import Options
from insitu.probe.providers.base import Context
from insitu.probe.source import Source
from insitu.probe.types import (
    INT64,
    VOID,
    Array,
    Buffer,
    Inet,
    Integer,
    MacAddress,
    NamedNumber,
    Pointer,
    Space,
    Stack,
    String,
    Timestamp,
    Tuple,
    Type,
    UserSymbol,
)
from insitu.symbols import kernel_btf

_PLAIN = st.sampled_from(
    [
        INT64,
        Integer(4, False),
        Integer(4, True, "color", (("RED", 1), ("BLUE", -2))),
        String(16),
        Buffer(5),
        Pointer(VOID, Space.USER),
        Array(Integer(2, False), 4),
        NamedNumber("ksym"),
        UserSymbol(),
        Stack(True, 5, "perf"),
        Timestamp(),
        Inet(),
        MacAddress(),
    ]
)
_TYPES = st.recursive(
    _PLAIN, lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda e: Tuple(tuple(e))), max_leaves=5
)
_PART = cache.StoredProgram(b"\1\2", ((0, 1, 2),), ((0, 3),), b"\4", False, -1)
_PROGRAM = cache.StoredProgram(b"\0" * 8, ((0, 1, 2), (3, 4, 5)), (), b"", True, 7, [_PART])
_AGGREGATIONS = st.sampled_from([Count(), Sum(False), Histogram(3), LinearHistogram(-10, 10, 2)])


@given(_TYPES, st.one_of(_TYPES, _AGGREGATIONS), st.lists(_TYPES, max_size=3))
@settings(deadline=None, max_examples=60)
def test_a_layout_comes_back_as_it_was_kept(key: Type, value: Type, fields: list[Type]) -> None:
    names = tuple(f"f{i}" for i in range(len(fields)))
    layout = Layout(
        max_keys=7,
        maps=[MapLayout("@x", 1, 8, 16, 7, Tuple((key,)), value), MapLayout("ring", 27, 0, 0, 4096)],
        records=[RecordLayout("emit", "label", Tuple(tuple(fields), names or None), (1, 2), names, 1)],
        texts=["%H:%M", "é"],
    )
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "XDG_CACHE_HOME", directory)
        cache.store_entry("name", [_PROGRAM], layout, b"\1\2", True)
        entry = cache.load_entry("name")
    assert entry is not None
    assert (entry.programs, entry.btf, entry.print_maps) == ([_PROGRAM], b"\1\2", True)
    kept = entry.layout
    assert (kept.maps, kept.records, kept.texts, kept.max_keys) == (layout.maps, layout.records, layout.texts, 7)


def _kept(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an entry that has just been made, with the key "key"."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory))
    layout = Layout(maps=[MapLayout("@x", 1, 8, 8, 1, Tuple((INT64,)), INT64)])
    cache.store_entry("key", [_PROGRAM], layout, b"", True)
    assert cache.load_entry("key") is not None
    path = cache.entry_path("key")
    assert path
    return Path(path)


@given(data=st.data())
@settings(deadline=None, max_examples=100)
def test_a_damaged_entry_is_not_used(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        path = _kept(Path(directory), patch)
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[at] ^= data.draw(st.integers(1, 255))
        else:
            del content[at:]
        path.write_bytes(content)
        assert cache.load_entry("key") is None


def _overwrite(path: Path, content: object) -> None:
    data = msgspec.msgpack.encode(content)
    path.write_bytes(cache.checksum(data) + data)


def _content(path: Path) -> Any:
    return msgspec.msgpack.decode(path.read_bytes()[8:])


@pytest.mark.parametrize("content", [None, 3, [b"key"], {}, {"key": b"key"}, b"\0" * 100, [[[[]]]]])
def test_an_entry_of_another_shape_is_not_used(
    content: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _overwrite(_kept(tmp_path, monkeypatch), content)
    assert cache.load_entry("key") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("key", b"other"), ("layout", 2), ("programs", [{"code": "text"}]), ("programs", [None]), ("btf", None)],
)
def test_an_entry_of_another_script_or_with_a_field_of_another_type_is_not_used(
    name: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _kept(tmp_path, monkeypatch)
    _overwrite(path, {**_content(path), name: value})
    assert cache.load_entry("key") is None


@pytest.mark.parametrize("name", ["Space", "Struct", "stored_size", "__builtins__", "Type", "Record"])
def test_an_entry_cannot_name_classes_that_are_not_types(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _kept(tmp_path, monkeypatch)
    content = _content(path)
    content["layout"]["maps"][0]["value"]["type"] = name
    _overwrite(path, content)
    assert cache.load_entry("key") is None


def test_an_entry_with_types_nested_without_end_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _kept(tmp_path, monkeypatch)
    one = msgspec.msgpack.encode({"type": "Array", "count": 1, "element": 0})[:-1]
    whole = msgspec.msgpack.encode(_content(path)).split(msgspec.msgpack.encode("value"))
    data = whole[0] + msgspec.msgpack.encode("value") + one * 100_000
    path.write_bytes(cache.checksum(data) + data)
    parse(Source("BEGIN { }"))  # parsing raises Python's own limit
    limit = sys.getrecursionlimit()
    assert cache.load_entry("key") is None
    assert sys.getrecursionlimit() == limit


_RUN = """
import sys
from insitu.probe import cache
from insitu.probe.compile import compile_script
from insitu.probe.options import Options
from insitu.probe.providers.base import Context
from insitu.probe.source import Source
made = []
keep, cache.store_entry = cache.store_entry, lambda *given: (made.append(1), keep(*given))
compiled = compile_script(Source("BEGIN { @x[pid] = count(); exit(); }"), Options(), Context(), cached=True)
print(len(made), compiled.programs[0].code.hex())
"""


def _compiled(directory: Path) -> tuple[bool, str]:
    """Whether a script was compiled rather than taken from the cache in a directory, and the code of its program."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN],
        env={**os.environ, "XDG_CACHE_HOME": str(directory)},
        capture_output=True,
        text=True,
        check=True,
    )
    made, code = done.stdout.split()
    return made == "1", code


@pytest.mark.parametrize("kept", [0, 7, 300, -1])
def test_a_script_whose_entry_is_cut_short_is_compiled_again(kept: int, tmp_path: Path) -> None:
    first = _compiled(tmp_path)
    (path,) = tmp_path.glob("insitu/programs/*.program")
    whole = path.read_bytes()
    path.write_bytes(whole[:kept])
    again = _compiled(tmp_path)
    assert (first[0], again) == (True, first)
    assert path.read_bytes() == whole
    assert _compiled(tmp_path) == (False, first[1])


@pytest.mark.parametrize("kept", [0, 7, -1])
def test_a_script_whose_outline_is_cut_short_is_parsed_again(kept: int, tmp_path: Path) -> None:
    first = _compiled(tmp_path)
    (path,) = tmp_path.glob("insitu/programs/*.outline")
    whole = path.read_bytes()
    path.write_bytes(whole[:kept])
    assert _compiled(tmp_path) == (False, first[1])
    assert path.read_bytes() == whole


@pytest.mark.skipif(not Path("/sys/kernel/btf/vmlinux").exists(), reason="the kernel has no BTF")
@pytest.mark.parametrize(("attach", "read_again"), [("rawtracepoint:sys_enter", 0), ("rawtracepoint:sys_ente*", 1)])
def test_a_second_start_reads_the_kernels_types_for_patterns_alone(
    attach: str, read_again: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    vmlinux = kernel_btf.vmlinux()
    reads: list[int] = []
    monkeypatch.setattr(kernel_btf, "vmlinux", lambda: (reads.append(1), vmlinux)[1])
    source = Source(f"{attach} {{ @x = args.id; }} BEGIN {{ @y = probe; }}")
    first = compile_script(source, Options(), Context(), cached=True)
    del reads[:]
    again = compile_script(source, Options(), Context(), cached=True)
    assert len(reads) == read_again
    assert [(each.kind, each.points, each.code) for each in again.programs] == [
        (each.kind, each.points, each.code) for each in first.programs
    ]


def test_a_script_that_imports_others_is_parsed_at_each_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "limit.bt").write_text("macro limit() { 1 }")
    (tmp_path / "limit.bt").chmod(0o644)
    text = 'import "limit.bt" BEGIN { @x = limit(); }'
    (tmp_path / "main.bt").write_text(text)

    def code() -> bytes:
        source = Source(text, str(tmp_path / "main.bt"))
        return compile_script(source, Options(), Context(), cached=True).programs[0].code

    before = code()
    assert not list((tmp_path / "cache").glob("insitu/programs/*.outline"))
    (tmp_path / "limit.bt").write_text("macro limit() { 2 }")
    assert code() != before


def test_an_entry_that_belongs_to_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _kept(tmp_path, monkeypatch)
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    assert cache.load_entry("key") is None


def test_a_cache_that_cannot_be_written_is_not_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache.store_entry("name", [], Layout(), b"", True)
    assert cache.load_entry("name") is None


def test_every_folder_of_the_compiler_counts_for_an_entrys_key() -> None:
    """Code that compiles is in folders that the key's stamp looks into: an edit there makes entries old."""
    root = Path(cache.__file__).parent
    folders = {str(path.parent.relative_to(root)) for path in root.rglob("*.py")} - {"runtime", "output"}
    assert folders == {folder or "." for folder in cache._FOLDERS}


def test_a_script_with_a_header_is_parsed_at_each_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = Source("#include <linux/nowhere.h>\nBEGIN { @x = 1; }")
    compile_script(source, Options(), Context(), cached=True)
    assert list(tmp_path.glob("insitu/programs/*.program"))
    assert not list(tmp_path.glob("insitu/programs/*.outline"))
