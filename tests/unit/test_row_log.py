"""Rows that a recorder writes one at a time: what was appended is what the table holds."""

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import insitu
from insitu.convert.sources import LAYOUT, finish
from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.record.row_log import RowLog
from insitu.session.directory import create
from insitu.session.manifest import RECORDING, Manifest
from insitu.session.schema import Column, Table

REQUEST = Table(
    "event.request",
    "Requests of a server.",
    (
        Column("ts_ns", "timestamp"),
        Column("utid", "utid"),
        Column("took_ns", "duration", nullable=True),
        Column("path", "path", nullable=True),
        Column("share", "number", nullable=True),
        Column("body", "blob", nullable=True),
        Column("stack", "stack"),
    ),
)


def _recorded(path: Path, rows: list[dict[str, object]]) -> Path:
    create(path, Manifest.here(procfs, command=["server"], state=RECORDING), procfs)
    source = path / "raw" / "requests"
    source.mkdir(parents=True)
    log = RowLog(REQUEST)
    (source / LAYOUT).write_text(json.dumps(log.layout))
    log.open(source)
    for row in rows:
        log.append(**row)
    log.write()
    log.close()
    return path


def _row(ts_ns: int, **values: object) -> dict[str, object]:
    return {
        "ts_ns": ts_ns,
        "utid": (10, 11),
        "took_ns": 1,
        "path": "/",
        "share": 0.5,
        "body": b"",
        "stack": [],
        **values,
    }


def test_nulls_texts_and_numbers_come_back(tmp_path: Path) -> None:
    rows = [
        _row(5, took_ns=None, path="/a", share=-0.25, body=b"\0\xff"),
        _row(6, took_ns=7, path=None, share=None, body=None),
        _row(7, took_ns=0, path="/name \u00e9 of 21 bytes", stack=[0x1000, 0x2000]),
    ]
    finish(_recorded(tmp_path / "s.insitu", rows))
    session = insitu.open(tmp_path / "s.insitu")
    found = session.sql("select ts_ns, took_ns, path, share, body from event.request order by ts_ns").rows()
    assert found == [tuple(row[name] for name in ("ts_ns", "took_ns", "path", "share", "body")) for row in rows]
    assert session.sql(
        "select distinct tid, pid from event.request join thread using (utid) join process using (upid)"
    ).rows() == [(11, 10)]
    assert session.sql("select ts_ns from event.request where stack <> 0").rows() == [(7,)]


def test_a_row_longer_than_a_window_ends_the_reading_and_the_note_says_where(tmp_path: Path) -> None:
    path = _recorded(tmp_path / "s.insitu", [_row(at, path="x") for at in range(3)])
    file = path / "raw" / "requests" / "rows.records"
    size = file.stat().st_size
    with file.open("ab") as rows:
        rows.write(struct.pack("<II", 72 << 20, 0))
        rows.truncate(80 << 20)
    manifest = finish(path)
    left = (80 << 20) - size
    note = f"requests/rows.records: incomplete record at byte {size} dropped, and all after it ({left} bytes)"
    assert note in manifest.notes
    assert insitu.open(path).sql("select count(*) from event.request").item() == 3


def test_a_table_of_more_columns_than_the_mask_has_bits_is_refused() -> None:
    columns = tuple(Column(f"c{at}", "integer") for at in range(33))
    with pytest.raises(ValueError, match="at most 32 columns"):
        RowLog(Table("event.wide", "", columns))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damaged_rows_are_counted_or_refused(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = _recorded(tmp_path_factory.mktemp("rows") / "s.insitu", [_row(at, path="x" * at) for at in range(20)])
    file = path / "raw" / "requests" / "rows.records"
    raw = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        finish(path)
    except InsituError:
        return
    with insitu.open(path) as session:
        assert session.sql("select count(*) from event.request").item() <= 20
