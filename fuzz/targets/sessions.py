"""Sessions that somebody sent: manifests, layouts, raw records and tables."""

import contextlib
import functools
import io
import json
import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb

from fuzz.bundle import is_bundle, write_files
from fuzz.registry import CORPUS, Read
from fuzz.targets.isolation import without_files_here
from insitu.convert.open import open_session
from insitu.convert.sources import convert_sources
from insitu.errors import InsituError
from insitu.session import engine
from insitu.session.manifest import Manifest
from insitu.session.parquet import KEY
from insitu.session.writer import MemoryTables, SessionWriter
from insitu.views.report import build_report
from insitu.views.report_text import report_lines
from insitu.views.tables import map_lines, table_lines
from insitu.views.terminal import Screen

__all__ = ["opened", "raw_records", "retyped", "retyped_files", "table_files"]

_SCREEN = Screen(io.StringIO(), 120)


def opened(directory: Path) -> Read:
    """The files of a session, complete or left by a recorder that died, with all that the views show of it."""
    return _written(directory, _shown)


def table_files(directory: Path) -> Read:
    """The manifest and the tables' files of a session, as they are loaded."""
    _share_a_database()
    return _written(directory, _loaded)


def raw_records(directory: Path) -> Read:
    """The layouts and records that a recorder left, as they are converted."""
    return _written(directory, _converted)


def _written(directory: Path, use: Callable[[Path], None]) -> Read:
    without_files_here()
    path = directory / "sent.insitu"

    def read(data: bytes) -> None:
        try:
            write_files(data if is_bundle(data) else b"FUZZBNDL", path)
            use(path)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    return read


def _share_a_database() -> None:
    """To start one takes DuckDB much longer than to read a small session; views for users would not be apart."""
    shared = duckdb.connect()
    names = ("Error", "InvalidInputException", "IOException", "DuckDBPyConnection")
    of_all = {name: getattr(duckdb, name) for name in names}
    setattr(engine, "duckdb", SimpleNamespace(**of_all, connect=lambda config: shared.cursor()))  # noqa: B010


@functools.cache
def _as_they_were() -> frozenset[bytes]:
    return frozenset(file.read_bytes() for file in (CORPUS / "session_tables").glob("*/tables/*/0.parquet"))


def _loaded(path: Path) -> None:
    """What differs from the corpus's sessions; of every eighth input, the stacks too, which takes longest."""
    errors = []
    with open_session(path) as session:
        changed = 0
        for file in (path / "tables").glob("*/0.parquet"):
            data = file.read_bytes()
            if data not in _as_they_were():
                changed += zlib.crc32(data)
                try:
                    session.database.fetch(session.database.relation(file.parent.name))
                except InsituError as error:
                    errors.append(error)
        if changed % 8 == 0:
            session.stacks(times=True)
    if errors:
        raise errors[0]


def _converted(path: Path) -> None:
    writer = SessionWriter(MemoryTables(), Manifest.read(path))
    convert_sources(path, writer)
    writer.finish()


def _shown(path: Path) -> None:
    """Everything that the views show of a session."""
    with open_session(path) as session:
        errors = []
        for table in session.tables:
            try:
                session.database.fetch(session.database.relation(table))
            except InsituError as error:
                errors.append(error)
        for view in (
            lambda: list(report_lines(build_report(session.stacks(), lines=True), _SCREEN)),
            lambda: session.stacks(times=True),
            lambda: list(table_lines(session, _SCREEN)),
            lambda: list(map_lines(session, _SCREEN)),
        ):
            try:
                view()
            except InsituError as error:
                errors.append(error)
        if errors:
            raise errors[0]


def retyped(directory: Path) -> Read:
    """A complete session; an input seeds the choice of columns whose type, values or description change."""
    return _retyped(directory, _shown)


def retyped_files(directory: Path) -> Read:
    """As retyped, and the tables are only loaded."""
    _share_a_database()
    return _retyped(directory, _loaded)


def _retyped(directory: Path, use: Callable[[Path], None]) -> Read:
    import polars as pl

    without_files_here()
    whole = directory / "whole.insitu"
    shutil.copytree(CORPUS / "session_tables/mixed", whole)
    files = sorted((whole / "tables").rglob("*.parquet"))
    frames = {file.relative_to(whole): (pl.read_parquet(file), pl.read_parquet_metadata(file)[KEY]) for file in files}
    path = directory / "sent.insitu"
    types: list[Any] = [
        *(pl.Int8, pl.UInt8, pl.Int32, pl.UInt32, pl.Int64, pl.UInt64, pl.Float32, pl.Float64, pl.Boolean, pl.String),
        *(pl.Binary, pl.Date, pl.Datetime("ns"), pl.Duration("us"), pl.Time, pl.Null, pl.Categorical),
        *(
            pl.List(pl.Int64),
            pl.List(pl.String),
            pl.Struct({"a": pl.Int64}),
            pl.Decimal(38, 3),
            pl.Array(pl.Int64, 2),
        ),
    ]

    def retype(rng: random.Random, frame: Any) -> Any:
        name = rng.choice(frame.columns)
        column = frame[name]
        match rng.randrange(6):
            case 0:
                return frame.drop(name)
            case 1:
                kept = pl.Series([rng.random() < 0.5 for _ in range(len(column))], dtype=pl.Boolean)
                return frame.with_columns(pl.when(kept).then(pl.col(name)).alias(name))
            case 2:
                value = rng.choice(
                    (-1, 0, 1 << 31, 1 << 62, -(1 << 63), "x", "", 1e300, float("nan"), None, [1], b"\xff")
                )
                return frame.with_columns(pl.Series(name, [value] * len(column), strict=False))
            case 3:
                return (
                    frame.clear() if rng.random() < 0.5 else frame.rename({name: rng.choice(("", "a b", '"', "id"))})
                )
            case _:
                kind = rng.choice(types)
                try:
                    return frame.with_columns(column.cast(kind, strict=False))
                except pl.exceptions.PolarsError:
                    return frame.with_columns(pl.Series(name, [None] * len(column), dtype=kind))

    def read(data: bytes) -> None:
        rng = random.Random(data)
        shutil.copytree(whole, path)
        try:
            for _ in range(rng.choice((1, 1, 2))):
                file = rng.choice(list(frames))
                frame, text = frames[file]
                if rng.random() < 0.15:
                    described = json.loads(text)
                    column = rng.choice(described["columns"])
                    key = rng.choice(list(column))
                    column[key] = rng.choice((None, 1, "", "text", "nested", "utid", [], {}, "x" * 999, True))
                    text = json.dumps(described)
                else:
                    with contextlib.suppress(pl.exceptions.PolarsError, TypeError, OverflowError):
                        frame = retype(rng, frame)
                try:
                    frame.write_parquet(path / file, metadata={KEY: text})
                except (pl.exceptions.PolarsError, BaseException) as error:
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    continue  # no such file can be written
            use(path)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    return read
