"""What the cache keeps comes back as it was, and what is damaged in it is not used."""

import marshal
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.probe import cache
from insitu.probe.layout import Layout, MapLayout, RecordLayout
from insitu.probe.types import (
    INT64,
    VOID,
    Array,
    Buffer,
    Count,
    Histogram,
    Inet,
    Integer,
    LinearHistogram,
    MacAddress,
    NamedNumber,
    Pointer,
    Space,
    Stack,
    String,
    Sum,
    Timestamp,
    Tuple,
    Type,
    UserSymbol,
)

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
        cache.store_entry("name", [{"code": "00"}], layout, b"\1\2", True)
        entry = cache.load_entry("name")
    assert entry is not None
    assert (entry["programs"], entry["btf"], entry["print_maps"]) == ([{"code": "00"}], b"\1\2", True)
    kept = entry["layout"]
    assert (kept.maps, kept.records, kept.texts, kept.max_keys) == (layout.maps, layout.records, layout.texts, 7)


def _kept(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an entry that has just been made, with the key "key"."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory))
    layout = Layout(maps=[MapLayout("@x", 1, 8, 8, 1, Tuple((INT64,)), INT64)])
    cache.store_entry("key", [{"code": b"\1"}], layout, b"", True)
    assert cache.load_entry("key") is not None
    return Path(cache.entry_path("key"))


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


@pytest.mark.parametrize(
    "content", [None, 3, ("key",), ("key", None), ("key", {}), ("key", {"layout": 2}), ("other", {})]
)
def test_an_entry_of_another_shape_or_for_another_script_is_not_used(
    content: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _overwrite(_kept(tmp_path, monkeypatch), content)
    assert cache.load_entry("key") is None


def _overwrite(path: Path, content: object) -> None:
    data = marshal.dumps(content)
    path.write_bytes(cache.checksum(data) + data)


@pytest.mark.parametrize("name", ["Space", "dataclass", "stored_size", "__builtins__"])
def test_an_entry_cannot_name_classes_that_are_no_types(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _kept(tmp_path, monkeypatch)
    key, content = marshal.loads(path.read_bytes()[8:])
    content["layout"]["maps"][0]["value"][0] = name
    _overwrite(path, (key, content))
    assert cache.load_entry("key") is None


def test_an_entry_that_belongs_to_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _kept(tmp_path, monkeypatch)
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    assert cache.load_entry("key") is None


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache.store_entry("name", [], Layout(), b"", True)
    assert cache.load_entry("name") is None
